"""The REST contracts: each a sub-app with an OpenAPI document, errors and a view of a Tenant of its own."""
