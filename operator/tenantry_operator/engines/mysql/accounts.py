"""Making and changing a tenant's accounts. For the administrator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tenantry_operator.engines.base import Credentials, Desired, LoginLimits, Stale
from tenantry_operator.engines.mysql import books, parts, privileges
from tenantry_operator.engines.mysql.catalog import ANYWHERE, Catalog
from tenantry_operator.engines.mysql.connections import Connection
from tenantry_operator.engines.mysql.flavour import Flavour
from tenantry_operator.engines.mysql.names import BOOKS, Kind, definer_of, reader_of
from tenantry_operator.engines.mysql.parts import Account, MarkRow
from tenantry_operator.engines.mysql.sql import account, literal, name, native_hash
from tenantry_operator.faults import reached


def _identified(flavour: Flavour, password: str) -> str:
    """MySQL's own default hashes with a salt of the server's, so that it must see the password itself; it leaves
    it out of its logs."""
    if flavour.mariadb:
        return f"IDENTIFIED VIA mysql_native_password USING {literal(native_hash(password))}"
    return f"IDENTIFIED BY {literal(password)}"


def _limits(flavour: Flavour, limits: LoginLimits) -> str:
    text = f"WITH MAX_USER_CONNECTIONS {limits.connections or 0}"
    if flavour.mariadb:
        text += f" MAX_STATEMENT_TIME {(limits.statement_timeout_ms or 0) / 1000:f}"
    return text


def one_of(catalog: Catalog, login: str) -> Account | None:
    """An account as it was observed; None: there is none."""
    return next(iter(catalog.accounts.get(login, ())), None)


async def create(
    connection: Connection, catalog: Catalog, desired: Desired, credentials: Credentials, rights: frozenset[str]
) -> MarkRow:
    """Makes an account, or makes it anew where a crash left it; it is locked.

    :param catalog: what the tenant has, and nobody else, observed just now.
    """
    login, row = credentials.login, catalog.marks.get((Kind.LOGIN, credentials.login))
    if row is None:
        await books.claim(connection, [(Kind.LOGIN, login)], desired.mark)
        row = MarkRow(Kind.LOGIN, login, desired.mark, made=False)
    reached("account-claimed")
    await make(connection, catalog, desired, credentials, rights)
    return await _remember(connection, catalog.flavour, row, credentials)


async def make(
    connection: Connection, catalog: Catalog, desired: Desired, credentials: Credentials, rights: frozenset[str]
) -> None:
    """Makes an account that has its mark already."""
    login, flavour = credentials.login, catalog.flavour
    limits = desired.limits if login in desired.names.logins else LoginLimits()
    details = f"{_identified(flavour, credentials.password)} {_limits(flavour, limits)} ACCOUNT LOCK"
    if one_of(catalog, login) is None:
        await connection.run(f"CREATE USER {account(login)} {details}")
        reached("account-created")
    else:
        await connection.run(f"ALTER USER {account(login)} {details}")
    await grant(connection, flavour, login, desired.names.database, rights)


async def set_password(
    connection: Connection, flavour: Flavour, row: MarkRow, credentials: Credentials
) -> MarkRow:
    """Sets a password. A crash before it is remembered leaves one that is known to be another."""
    await connection.run(f"ALTER USER {account(credentials.login)} {_identified(flavour, credentials.password)}")
    reached("password-set")
    return await _remember(connection, flavour, row, credentials)


async def let_in(connection: Connection, flavour: Flavour, credentials: Credentials) -> None:
    """Lets the operator into an account of its own, with a password that nobody remembers."""
    await connection.run(
        f"ALTER USER {account(credentials.login)} {_identified(flavour, credentials.password)} ACCOUNT UNLOCK"
    )


async def _remember(connection: Connection, flavour: Flavour, row: MarkRow, credentials: Credentials) -> MarkRow:
    mark = replace(row.mark, fingerprint=credentials.fingerprint)
    if flavour.mariadb:
        stored = parts.stored_secret("mysql_native_password", native_hash(credentials.password))
    else:
        found = await connection.run(f"{parts.accounts(flavour, [row.name]).text} AND Host = {literal(ANYWHERE)}")
        accounts = [parts.read_account(flavour, line) for line in found]
        own = next((one for one in accounts if one is not None and one.name == row.name), None)
        if own is None:
            raise Stale(f"account {row.name} is gone")
        stored = own.secret
    row = replace(row, mark=mark, made=True, kept=False, secret=stored)
    await books.write_mark(connection, row)
    return row


async def set_locked(connection: Connection, logins: Sequence[str], *, locked: bool) -> None:
    """Refuses logins, or lets them in; who is in already stays in, and passwords are kept."""
    if logins:
        words = ", ".join(map(account, logins))
        await connection.run(f"ALTER USER {words} ACCOUNT {'LOCK' if locked else 'UNLOCK'}")


async def set_limits(connection: Connection, flavour: Flavour, desired: Desired, login: str) -> None:
    """Sets the limits of a login."""
    await connection.run(f"ALTER USER {account(login)} {_limits(flavour, desired.limits)}")


async def grant(
    connection: Connection, flavour: Flavour, login: str, database: str, rights: frozenset[str]
) -> None:
    """Gives rights on a database."""
    words, where = privileges.words(rights), flavour.pattern(database)
    await connection.run(f"GRANT {words} ON {where}.* TO {account(login)}")


async def settle_rights(connection: Connection, catalog: Catalog, desired: Desired, *, read_only: bool) -> bool:
    """Gives all accounts of a tenant the rights they should have, and no others.

    :returns: whether some were taken away: sessions keep what they had until they end.
    """
    names, flavour = desired.names, catalog.flavour
    taken = False
    for login in (*names.logins, definer_of(names), reader_of(names)):
        found = one_of(catalog, login)
        if found is None:
            continue
        wanted = rights_of(desired, login, read_only=read_only)
        if await _take_strange(connection, catalog, desired, found):
            taken, present = True, frozenset[str]()
        else:
            grants = catalog.grants.get(login, ())
            present = next((grant.privileges for grant in grants), frozenset())
        if wanted - present:
            await grant(connection, flavour, login, names.database, wanted - present)
        if present - wanted:
            taken = True
            extra = privileges.words(present - wanted)
            where = flavour.pattern(names.database)
            await connection.run(f"REVOKE {extra} ON {where}.* FROM {account(login)}")
    return taken


async def _take_strange(connection: Connection, catalog: Catalog, desired: Desired, found: Account) -> bool:
    """Takes all rights of an account that has some beyond its tenant's database."""
    database, login = desired.names.database, found.name
    own = {database, BOOKS} if login == definer_of(desired.names) else {database}
    others = catalog.others.get(login, frozenset()) - own
    grants = catalog.grants.get(login, ())
    pattern = catalog.flavour.pattern(database)[1:-1]
    elsewhere = any((one.host, one.pattern) != (ANYWHERE, pattern) for one in grants)
    for other in others:
        if other.startswith(_ROLE):
            await connection.run(f"REVOKE {name(other.removeprefix(_ROLE))} FROM {account(login)}")
    if not (found.is_global or elsewhere or others):
        return False
    await connection.run(f"REVOKE ALL PRIVILEGES, GRANT OPTION FROM {account(login)}")
    return True


_ROLE = "role "


def rights_of(desired: Desired, login: str, *, read_only: bool) -> frozenset[str]:
    """The rights of any of a tenant's accounts."""
    if login == definer_of(desired.names):
        return privileges.DEFINER
    if login == reader_of(desired.names):
        return privileges.READ
    return privileges.of_login(desired, read_only=read_only)


async def defines_something(connection: Connection, desired: Desired, login: str) -> bool:
    """Whether views, triggers or routines act with the rights of a login."""
    definer, database = literal(f"{login}@{ANYWHERE}"), literal(desired.names.database)
    rows = await connection.run(
        " UNION ALL ".join(
            f"SELECT 1 FROM information_schema.{table} WHERE {column} = {database} AND definer = {definer}"
            for table, column in (
                ("views", "table_schema"),
                ("routines", "routine_schema"),
                ("triggers", "trigger_schema"),
                ("events", "event_schema"),
            )
        )
    )
    return bool(rows)
