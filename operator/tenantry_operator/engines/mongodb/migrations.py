"""Running migrations command by command, from where they were.

There is no transaction over commands: before each it is noted which one is begun, so that after a crash, a lost
answer or a mended failure the migration goes on there. A command that may have been run before is run again,
and what says that it was is taken for success.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pymongo.errors import OperationFailure, PyMongoError

from tenantry_operator.engines.base import Chain, Desired, Mark, Migration
from tenantry_operator.engines.halfway import take_up
from tenantry_operator.engines.mongodb.accounts import Accounts, Database
from tenantry_operator.engines.mongodb.commands import Command, parse
from tenantry_operator.engines.mongodb.errors import (
    DUPLICATE_KEY,
    INDEX_NOT_FOUND,
    NAMESPACE_EXISTS,
    NAMESPACE_NOT_FOUND,
    is_of_server,
    passing,
    text_of,
    tidy,
    write_errors,
)
from tenantry_operator.engines.path import path
from tenantry_operator.errors import ReconcileError, Retryable, Stalled
from tenantry_operator.faults import reached

_LONGEST = 3600.0
"""Seconds for one command, when nobody says how long it may take."""
_DONE_BEFORE = {
    "create": (NAMESPACE_EXISTS,),
    "drop": (NAMESPACE_NOT_FOUND,),
    "dropIndexes": (NAMESPACE_NOT_FOUND, INDEX_NOT_FOUND),
}
"""By command: the errors that say that it was run before."""


async def migrate(accounts: Accounts, desired: Desired) -> None:
    """Brings a tenant's data to the end of its chain.

    :raises Stalled: MigrationFailed, MigrationEdited, NewerVersion, RollbackMissing, NoPath.
    :raises Retryable: MigrationBlocked, when a command could not be run now.
    """
    chain = desired.chain
    if chain is None:
        return
    where = f"database {desired.names.database} on {accounts.server}"
    ledger = await accounts.ledger(desired)
    unfinished = await accounts.unfinished(desired)
    chains = [chain] if desired.installed is None else [chain, desired.installed]
    pending = take_up(path(chain, desired.installed, ledger, where), unfinished, chains, ledger, where)
    done = replace(desired.mark, version=chain.version, digest=chain.digest)
    if not pending:
        await accounts.finish(desired, None, done)
        return
    # All of it is looked through before any of it is run.
    work = [(migration, parse(migration)) for migration in pending]
    timeout = desired.pace.timeout if desired.pace is not None else _LONGEST
    under_way = _on_the_way(desired.mark, desired.installed, chain)
    async with accounts.confined(desired, timeout) as database:
        for number, (migration, commands) in enumerate(work):
            begun = unfinished.statement if unfinished is not None and unfinished.is_of(migration) else None
            run = _Run(accounts, desired, chain, migration, database, where)
            try:
                async with asyncio.timeout(timeout):
                    await run.commands(commands, begun, under_way if number == 0 else None)
            except TimeoutError:
                raise Retryable(
                    "MigrationBlocked", f"{run.what} took longer than {timeout:.0f} s; it goes on where it was"
                ) from None
            unfinished = None
            await accounts.finish(desired, migration, done if number == len(work) - 1 else under_way)
            reached("migrations-run")


def _on_the_way(mark: Mark, installed: Chain | None, chain: Chain) -> Mark:
    """The mark of data between two versions, or on its way to its first one."""
    if installed is not None:
        mark = replace(mark, version=installed.version, digest=installed.digest)
    return replace(mark, target=chain.version)


class _Run:
    """One migration of one tenant."""

    def __init__(
        self,
        accounts: Accounts,
        desired: Desired,
        chain: Chain,
        migration: Migration,
        database: Database,
        where: str,
    ) -> None:
        self._accounts = accounts
        self._desired = desired
        self._migration = migration
        self._database = database
        self.what = f"{where}: {migration.what} of blueprint {chain.blueprint}"

    async def commands(self, commands: tuple[Command, ...], begun: int | None, mark: Mark | None) -> None:
        """Runs those that have not come to their end.

        :param begun: the number of the command that was begun last, from 0.
        :param mark: of the data meanwhile; None: it is there.
        """
        if not commands:
            await self._accounts.begin(self._desired, self._migration, 0, mark)
        for number, command in enumerate(commands):
            if begun is not None and number < begun:
                continue
            await self._accounts.begin(self._desired, self._migration, number, mark)
            mark = None
            reached("command-begun")
            await self._command(command, again=number == begun)
            reached("command-done")

    async def _command(self, command: Command, *, again: bool) -> None:
        document = dict(command.document)
        if again and command.name == "insert":
            document["ordered"] = False
        try:
            answer = await self._database.command(document)
        except OperationFailure as error:
            if again and error.code in _DONE_BEFORE.get(command.name, ()):
                return
            raise self._explain(command, error) from None
        except PyMongoError as error:
            raise self._explain(command, error) from None
        await self._check(command, answer, again=again)

    async def _check(self, command: Command, answer: Mapping[str, Any], *, again: bool) -> None:
        errors = write_errors(answer)
        if not errors:
            return
        if again and command.name == "insert" and {error.get("code") for error in errors} == {DUPLICATE_KEY}:
            wanted = [document["_id"] for document in command.document["documents"]]
            try:
                found = await self._database[command.collection].count_documents({"_id": {"$in": wanted}})
            except PyMongoError as error:
                raise self._explain(command, error) from None
            if found == len(wanted):
                return
        first = errors[0]
        raise self._failed(command, f"{tidy(str(first.get('errmsg')))} [code {first.get('code')}]")

    def _explain(self, command: Command, error: PyMongoError) -> ReconcileError:
        reason, text = passing(error), text_of(error)
        if reason is not None:
            return Retryable("MigrationBlocked", f"{self.what} could not be run now: {text}")
        if is_of_server(error):
            return Retryable("ServerUnreachable", f"{self.what}: the server was lost: {text}")
        code = f" [code {error.code}]" if isinstance(error, OperationFailure) and error.code else ""
        return self._failed(command, f"{text}{code}")

    def _failed(self, command: Command, text: str) -> Stalled:
        return Stalled(
            "MigrationFailed",
            f"{self.what} failed, command {command.number} ({command.name} {command.collection}): {text}. "
            "What came before it is done, and it goes on from there when it is tried again",
        )
