"""MySQL 8.0 and MariaDB 10.6, and newer, administered without SUPER.

::

    engine        observe, plan, apply: what the operator sees
    plan, view    what to do, from what was observed (pure)
    state         a snapshot, and what it says of one tenant database (pure)
    privileges, names, flavour, hardening    rights, accounts, versions, what everybody reaches (pure)
    parts         what is asked of a server's tables, and how the rows are read (pure)
    catalog       observing a server, or one tenant in a single query; look: just before something is changed
    books         the operator's own database: marks, ledger
    execute       what each step does; accounts, sessions: groups of statements
    migrate, progress, lexer    running migrations, and how far they got
    structures    how databases are defined
    usage, connections, errno, sql
"""
