"""MongoDB, and FerretDB, as database engines.

Two flavours share migrations, plans, usage queries and structures; what they differ in, logins and rights and
where marks are kept, is behind :class:`~tenantry_operator.engines.mongodb.accounts.Accounts`.
"""
