"""The tenants' app: twenty tables in four migrations, like those of Tenantry's benchmarks."""
