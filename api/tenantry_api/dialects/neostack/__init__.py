"""The contract of neostack's Tenant Manager, version 3."""
