"""What Kubernetes is given for a server that Tenantry runs: pure builders, one module per engine."""
