"""What a tenant database looks like inside, by its version: that tells which of them were changed by somebody.

A scratch copy of the blueprint is made once for each version and major version of the servers, and its
fingerprint kept in the status of the BlueprintVersion, so that a restart makes none. What is in the copy in
detail is only known until the next restart, and found out again when a tenant's database differs.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import structlog

from tenantry_operator.blueprints.book import Book
from tenantry_operator.cache import Store
from tenantry_operator.engines.base import Chain, Structure
from tenantry_operator.engines.scratch import scratch_copy
from tenantry_operator.errors import ReconcileError, Retryable, Stalled, Waiting
from tenantry_operator.instances.servers import Server

Object = dict[str, Any]
Write = Callable[[Object, Object], Awaitable[Object]]
_log = structlog.get_logger(__name__)

_AGAIN = 3600.0
"""Seconds after which a copy that could not be made is tried again."""
_SERVERS = 8
"""Major versions of servers that a status keeps."""


@dataclass(slots=True)
class Expected:
    """What the database of a tenant at some version looks like."""

    fingerprints: set[str] = field(default_factory=set)
    """Of the version itself, then of what differs from it in nothing that matters; none: it is not known."""
    structure: Structure | None = None
    """In detail, when it was found out since the operator started."""
    since: float = field(default_factory=time.monotonic)


class Expectations:
    """What is expected, by server, blueprint and digest.

    :param write: writes the status of a BlueprintVersion: the object, then its whole status.
    """

    def __init__(self, installation: str, book: Book, versions: Store, write: Write) -> None:
        self._installation = installation
        self._book = book
        self._versions = versions
        self._write = write
        self._known: dict[tuple[str, str, str], Expected] = {}
        self._asked: dict[tuple[str, str, str], tuple[str, str, str]] = {}
        self._locks: dict[tuple[str, str, str], asyncio.Lock] = {}

    def known(self, server: Server, blueprint: str, digest: str) -> Expected | None:
        """What is expected; None: nobody has asked yet, see :meth:`learn`."""
        found = self._known.get(_key(server, blueprint, digest))
        if found is not None and not found.fingerprints and time.monotonic() - found.since > _AGAIN:
            return None
        return found

    async def learn(self, server: Server, blueprint: str, version: str, digest: str) -> None:
        """Finds out what is expected, from the status of the BlueprintVersion or a scratch copy.

        :raises Retryable: when the server cannot be reached.
        """
        chain = await self._chain(blueprint, version, digest)
        obj = self._object(blueprint, version)
        if chain is None or obj is None:
            return
        for kept in (obj.get("status") or {}).get("structures") or []:
            if (kept["server"], kept.get("digest")) == (_major(server), digest) and kept.get("fingerprint"):
                self._known[_key(server, blueprint, digest)] = Expected({kept["fingerprint"]})
                return
        await self.structure(server, blueprint, version, digest)

    def detail(self, server: Server, blueprint: str, version: str, digest: str) -> Structure | None:
        """The version in detail; None: it is not known, and is found out by the next sweep. A reconcile does not
        wait for a copy to be made."""
        expected = self.known(server, blueprint, digest)
        if expected is not None and expected.structure is not None:
            return expected.structure
        self._asked[_key(server, blueprint, digest)] = (blueprint, version, digest)
        return None

    def asked(self, server: Server) -> list[tuple[str, str, str]]:
        """Blueprint, version and digest of what :meth:`detail` was asked for, and does not know."""
        place = _place(server)
        found = [key for key in self._asked if key[0] == place]
        return [self._asked.pop(key) for key in found]

    async def structure(self, server: Server, blueprint: str, version: str, digest: str) -> Structure | None:
        """The version in detail, from a scratch copy; None: none can be made, the BlueprintVersion says why.

        :raises Retryable: when the server cannot be reached.
        """
        key = _key(server, blueprint, digest)
        async with self._locks.setdefault(key, asyncio.Lock()):
            expected = self.known(server, blueprint, digest)
            if expected is not None and (expected.structure is not None or not expected.fingerprints):
                return expected.structure
            chain = await self._chain(blueprint, version, digest)
            if chain is None:
                return None
            try:
                found = await server.engine.rehearse(
                    scratch_copy(self._installation, blueprint, server.access.engine), [chain]
                )
            except Retryable:
                raise
            except ReconcileError as error:
                _log.warning(
                    "no copy of a version can be made", blueprint=blueprint, version=version, why=str(error)
                )
                self._known[key] = Expected()
                await self._keep(server, blueprint, version, digest, message=error.message[:512])
                return None
            await self.take(server, blueprint, {version: digest}, found)
            return found.get(digest)

    async def take(
        self, server: Server, blueprint: str, versions: Mapping[str, str], found: Mapping[str, Structure]
    ) -> None:
        """Takes in what copies looked like.

        :param versions: digests by version.
        :param found: structures by digest.
        :raises Retryable: when the server cannot be reached.
        """
        if server.snapshot is None:
            await server.observe()  # which version of a server it is
        for version, digest in versions.items():
            structure = found.get(digest)
            if structure is not None:
                self._known[_key(server, blueprint, digest)] = Expected({structure.fingerprint}, structure)
                await self._keep(server, blueprint, version, digest, fingerprint=structure.fingerprint)

    async def _chain(self, blueprint: str, version: str, digest: str) -> Chain | None:
        """The chain to a version; None: it is not there, or not as it was applied. Its tenants tell."""
        try:
            chain = await self._book.chain(blueprint, version)
        except (Waiting, Stalled):
            return None
        return chain if chain.digest == digest else None

    def _object(self, blueprint: str, version: str) -> Object | None:
        found = self._versions.all("blueprint", blueprint)
        return next((obj for obj in found if obj["spec"]["version"] == version), None)

    async def _keep(self, server: Server, blueprint: str, version: str, digest: str, **what: str) -> None:
        obj = self._object(blueprint, version)
        if obj is None:
            return
        status = obj.get("status") or {}
        entry = {"server": _major(server), "digest": digest, **what}
        others = [kept for kept in status.get("structures") or [] if kept["server"] != entry["server"]]
        structures = sorted([*others[-_SERVERS + 1 :], entry], key=lambda kept: kept["server"])
        await self._write(obj, {**status, "structures": structures})


def _major(server: Server) -> str:
    """Definitions are written in another way by each major version of a server."""
    version = server.snapshot.report.version if server.snapshot is not None else ""
    return f"{server.access.engine} {version.partition('.')[0]}"


def _place(server: Server) -> str:
    return f"{server.name} {_major(server)}"


def _key(server: Server, blueprint: str, digest: str) -> tuple[str, str, str]:
    return (_place(server), blueprint, digest)
