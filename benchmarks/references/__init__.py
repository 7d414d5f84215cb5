"""What rolling out versions is measured against, without Tenantry: each module is one reference.

All take the server as a parameter, so that Tenantry and the reference can be measured on the same one, in the
same run: ``Server.of(cluster)``. ``python -m benchmarks.references`` measures them alone.
"""
