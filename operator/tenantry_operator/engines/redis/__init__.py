"""Redis 7 and newer, and Valkey: a tenant is a prefix of keys and channels, its logins are ACL users.

::

    engine        observe, plan, apply: what the operator sees
    plan, view    what to do, from what was observed (pure)
    state         a snapshot, and what it says of one tenant's keys (pure)
    acl, commands ACL users as text and as they should be; which commands tenants get (pure)
    catalog       what is asked of the server
    execute       what each step does; saving: ACL users that outlive the server's process
    keyspace      walking over all keys: measuring, removing
    migrations    command lists, checked and run; ledger: what was applied, what is half done
    usage, errors, connections

What the operator keeps of its own lies under ``tenantry:``, which no tenant's prefix is:
``tenantry:marks`` (a hash: the mark by database), ``tenantry:ledger:<database>`` (a list) and
``tenantry:unfinished`` (a hash). The mark of a login is a channel in its ACL rules that nobody uses: it is
there from the moment the login is, and outlives the data.
"""
