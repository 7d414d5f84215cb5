"""The Tenantry operator: takes Tenants from custom resources to isolated databases."""
