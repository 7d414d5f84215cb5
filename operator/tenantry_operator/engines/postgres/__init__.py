"""PostgreSQL 16 and newer, administered without superuser rights.

::

    engine        observe, plan, apply: what the operator sees
    plan, view    what to do, from what was observed (pure)
    state, look   a snapshot, and what it says of one tenant database (pure)
    expected, acl, logins    how roles and grants are left, and what differs (pure)
    catalog, inside, sizes   the catalog queries: of the server, of one database; sizes
    own, rounds   looking closer at some of many: into tenants' own databases; sizes
    execute       what each step does; runner: sending scripts; sessions, vacuum, mend: groups of steps
    provision, shared, installation, statements, grants, scram    SQL alone
    migrations, lexer        ledger, chain, running, and pointing at the line that failed
    rows, rowsecurity, rowcatalog, rowsizes, rowremoval    Row isolation
    usage, hardening, sqlstate, connections
"""
