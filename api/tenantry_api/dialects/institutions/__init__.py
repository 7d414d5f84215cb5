"""The contract of the Tenant Management API for institutions, version 1."""
