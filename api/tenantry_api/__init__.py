"""The REST facade: contracts of others, served by reading and writing Tenants."""
