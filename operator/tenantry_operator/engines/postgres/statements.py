"""SQL, and nothing else: what is sent to the server, composed with :mod:`psycopg.sql`.

A :class:`Script` is sent as one message, in one transaction. Scripts begin as the administrator;
:func:`render_as_steward` and :func:`render_as_admin` change who acts, for the transaction only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import LiteralString

from psycopg import sql

from tenantry_operator.engines.base import Mark
from tenantry_operator.engines.postgres.scram import StoredCredentials

APP_TABLES = "SELECT, INSERT, UPDATE, DELETE, TRUNCATE"
READ_ONLY_TABLES = "SELECT, DELETE, TRUNCATE"
APP_SEQUENCES = "USAGE, SELECT, UPDATE"


class Rendered(sql.Composable):
    """SQL that was rendered before, to be used many times."""

    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        self._content = content

    def as_bytes(self, context: object = None) -> bytes:
        return self._content


class Script:
    """Statements that are sent together."""

    def __init__(self) -> None:
        self._parts: list[sql.Composable] = []

    def add(self, *statements: sql.Composable | Script) -> Script:
        """Appends statements, or those of another script."""
        for statement in statements:
            if isinstance(statement, Script):
                self._parts.extend(statement._parts)
            else:
                self._parts.append(statement)
        return self

    def format(self, template: LiteralString, **values: sql.Composable) -> Script:
        """Appends one or more statements, with their placeholders filled."""
        self._parts.append(sql.SQL(template).format(**values))
        return self

    def __bool__(self) -> bool:
        return bool(self._parts)

    def transaction(self) -> bytes:
        """The whole as one transaction."""
        return b"BEGIN;\n" + self.body() + b";\nCOMMIT"

    def body(self) -> bytes:
        """The statements alone."""
        return b";\n".join(part.as_bytes(None) for part in self._parts)


def render_as_steward(steward: str, owner: str | None = None) -> Script:
    """Acts as a steward; with ``owner``, also with the rights of that role, until :func:`render_as_admin`."""
    script = Script().format("SET LOCAL ROLE {steward}", steward=sql.Identifier(steward))
    if owner is not None:
        script.format("GRANT {owner} TO CURRENT_USER WITH INHERIT TRUE, SET TRUE", owner=sql.Identifier(owner))
    return script


def render_give_up(owner: str) -> Script:
    """The steward has the owner's rights no longer."""
    return Script().format("REVOKE {owner} FROM CURRENT_USER GRANTED BY CURRENT_USER", owner=sql.Identifier(owner))


def render_as_admin(owner: str | None = None) -> Script:
    """Ends :func:`render_as_steward`: the steward gives up ``owner``'s rights, the administrator acts."""
    script = Script() if owner is None else render_give_up(owner)
    return script.format("SET LOCAL ROLE NONE")


def render_mark(kind: LiteralString, name: str, mark: Mark) -> sql.Composed:
    """Marks an object: ``kind`` is ROLE, DATABASE or SCHEMA."""
    return sql.SQL("COMMENT ON " + kind + " {name} IS {mark}").format(
        name=sql.Identifier(name), mark=sql.Literal(mark.encode())
    )


def render_create_role(name: str, mark: Mark, attributes: LiteralString = "") -> Script:
    """A marked role that cannot log in. Fails when the name is taken, whoever took it."""
    return (
        Script()
        .format("CREATE ROLE {name} NOLOGIN " + attributes, name=sql.Identifier(name))
        .add(render_mark("ROLE", name, mark))
    )


def render_create_login(
    credentials: StoredCredentials, mark: Mark, connections: int | None, settings: Mapping[str, str]
) -> Script:
    """A marked role that can log in, and nothing else."""
    return (
        Script()
        .format(
            "CREATE ROLE {name} LOGIN PASSWORD {verifier} CONNECTION LIMIT {limit}",
            name=sql.Identifier(credentials.login),
            verifier=sql.Literal(credentials.verifier),
            limit=sql.Literal(-1 if connections is None else connections),
        )
        .add(_render_login_mark(credentials, mark))
        .add(render_settings(credentials.login, settings))
    )


def render_password(credentials: StoredCredentials, mark: Mark) -> Script:
    """Sets a login's password. Only the verifier reaches the server."""
    return (
        Script()
        .format(
            "ALTER ROLE {name} PASSWORD {verifier}",
            name=sql.Identifier(credentials.login),
            verifier=sql.Literal(credentials.verifier),
        )
        .add(_render_login_mark(credentials, mark))
    )


def _render_login_mark(credentials: StoredCredentials, mark: Mark) -> sql.Composed:
    return render_mark("ROLE", credentials.login, replace(mark, fingerprint=credentials.fingerprint))


def render_settings(login: str, settings: Mapping[str, str]) -> Script:
    """What a login's sessions begin with."""
    script = Script()
    for name, value in settings.items():
        script.format(
            "ALTER ROLE {login} SET {name} = {value}",
            login=sql.Identifier(login),
            name=sql.Identifier(name),
            value=sql.Literal(value),
        )
    return script


def render_membership(group: str, member: str) -> sql.Composed:
    """The member has the group's rights, and cannot take its place."""
    return sql.SQL("GRANT {group} TO {member} WITH INHERIT TRUE, SET FALSE").format(
        group=sql.Identifier(group), member=sql.Identifier(member)
    )


def render_default_privileges(owner: str, group: str, *, read_only: bool = False) -> Script:
    """What ``owner`` makes from now on is ``group``'s to use, and nobody else's.

    Nothing is granted ON ALL TABLES IN SCHEMA: for that the server reads the whole of pg_class, several
    times, and the more tenants there are, the longer it takes.
    """
    return Script().format(
        "ALTER DEFAULT PRIVILEGES FOR ROLE {owner} GRANT {tables} ON TABLES TO {group};\n"
        "ALTER DEFAULT PRIVILEGES FOR ROLE {owner} GRANT " + APP_SEQUENCES + " ON SEQUENCES TO {group};\n"
        "ALTER DEFAULT PRIVILEGES FOR ROLE {owner} REVOKE EXECUTE ON ROUTINES FROM PUBLIC;\n"
        "ALTER DEFAULT PRIVILEGES FOR ROLE {owner} GRANT EXECUTE ON ROUTINES TO {group}",
        owner=sql.Identifier(owner),
        group=sql.Identifier(group),
        tables=sql.SQL(READ_ONLY_TABLES if read_only else APP_TABLES),
    )
