"""Making and changing a tenant's accounts. For the administrator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tenantry_operator.engines.base import Credentials, Desired, LoginLimits, Stale
from tenantry_operator.engines.mysql import books, privileges
from tenantry_operator.engines.mysql.books import Kind, MarkRow
from tenantry_operator.engines.mysql.catalog import ANYWHERE, Account, Catalog, read_accounts
from tenantry_operator.engines.mysql.connections import Connection
from tenantry_operator.engines.mysql.flavour import Flavour
from tenantry_operator.engines.mysql.names import BOOKS, definer_of, reader_of
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


async def find(connection: Connection, flavour: Flavour, login: str) -> Account | None:
    """An account as it is now.

    :raises Stale: when there is one of the name for some hosts only, which is not ours.
    """
    found = await read_accounts(connection, flavour, [login])
    if any(one.host != ANYWHERE for one in found):
        raise Stale(f"an account {login}@{found[0].host} has come up")
    return found[0] if found else None


async def create(
    connection: Connection, flavour: Flavour, desired: Desired, credentials: Credentials, rights: frozenset[str]
) -> MarkRow:
    """Makes an account, or makes it anew where a crash left it; it is locked.

    :raises Stale: when there is one, and it has not the tenant's mark.
    """
    login = credentials.login
    there = await find(connection, flavour, login)
    row = await books.claim(connection, Kind.LOGIN, login, desired.mark, exists=there is not None)
    reached("account-claimed")
    limits = desired.limits if login in desired.names.logins else LoginLimits()
    details = f"{_identified(flavour, credentials.password)} {_limits(flavour, limits)} ACCOUNT LOCK"
    if there is None:
        await connection.run(f"CREATE USER {account(login)} {details}")
        reached("account-created")
    else:
        await connection.run(f"ALTER USER {account(login)} {details}")
    await grant(connection, flavour, login, desired.names.database, rights)
    await _remember(connection, flavour, row, credentials)
    return row


async def set_password(connection: Connection, flavour: Flavour, row: MarkRow, credentials: Credentials) -> None:
    """Sets a password. A crash before it is remembered leaves one that is known to be another."""
    await connection.run(f"ALTER USER {account(credentials.login)} {_identified(flavour, credentials.password)}")
    reached("password-set")
    await _remember(connection, flavour, row, credentials)


async def _remember(connection: Connection, flavour: Flavour, row: MarkRow, credentials: Credentials) -> None:
    there = await find(connection, flavour, row.name)
    if there is None:
        raise Stale(f"account {row.name} is gone")
    mark = replace(row.mark, fingerprint=credentials.fingerprint)
    await books.write_mark(connection, replace(row, mark=mark, made=True, kept=False, secret=there.secret))


async def set_locked(connection: Connection, logins: Sequence[str], *, locked: bool) -> None:
    """Refuses logins, or lets them in; who is in already stays in, and passwords are kept."""
    for login in logins:
        await connection.run(f"ALTER USER {account(login)} ACCOUNT {'LOCK' if locked else 'UNLOCK'}")


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
    names, flavour = desired.names, catalog.facts.flavour
    taken = False
    for login in (*names.logins, definer_of(names), reader_of(names)):
        found = next(iter(catalog.accounts.get(login, ())), None)
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
    pattern = catalog.facts.flavour.pattern(database)[1:-1]
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
