"""Services of tenants: a Deployment, and a Service, for each."""
