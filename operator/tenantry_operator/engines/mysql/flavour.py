"""MySQL and MariaDB: where they differ. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from tenantry_operator.engines.mysql import sql

_VERSION = re.compile(r"(?:5\.5\.5-)?(\d+)\.(\d+)(?:\.(\d+))?")
OLDEST = {True: (10, 6), False: (8, 0)}
"""By whether it is MariaDB. Since then a DDL statement happens as a whole or not at all."""
VARIABLES = (
    "version",
    "performance_schema",
    "partial_revokes",
    "mandatory_roles",
    "log_bin",
    "log_bin_trust_function_creators",
)
"""The server's settings that :meth:`Flavour.of_variables` looks at; no server has all of them."""


@dataclass(frozen=True, slots=True)
class Flavour:
    """Which server it is, and what of its settings matters."""

    mariadb: bool
    version: tuple[int, int, int]
    performance_schema: bool = True
    """MySQL's tables of sessions are filled: without it, the modern one is empty."""
    partial_revokes: bool = False
    """``_`` and ``%`` of GRANT stand for themselves."""
    mandatory_roles: str = ""
    """Roles that everybody has."""
    trusts_definers: bool = True
    """Functions and triggers may be made without SUPER: with a binary log, only when it is told so."""

    @classmethod
    def of(cls, text: str) -> Flavour:
        """By what ``VERSION()`` says: ``10.11.6-MariaDB-0+deb12u1``, ``8.0.36``."""
        match = _VERSION.match(text)
        numbers = tuple(int(part or 0) for part in match.groups()) if match else (0, 0, 0)
        return cls("mariadb" in text.lower(), (numbers[0], numbers[1], numbers[2]))

    @classmethod
    def of_variables(cls, variables: Mapping[str, str]) -> Flavour:
        """By what SHOW VARIABLES says."""

        def on(name: str) -> bool:
            return variables.get(name, "OFF").upper() in {"ON", "1"}

        return replace(
            cls.of(variables.get("version", "")),
            performance_schema=on("performance_schema"),
            partial_revokes=on("partial_revokes"),
            mandatory_roles=variables.get("mandatory_roles", ""),
            trusts_definers=not on("log_bin") or on("log_bin_trust_function_creators"),
        )

    def pattern(self, database: str) -> str:
        """A database in GRANT and REVOKE, and no others."""
        return sql.name(database) if self.partial_revokes else sql.pattern(database)

    @property
    def too_old(self) -> bool:
        """Whether it lacks what is relied on."""
        return self.version[:2] < OLDEST[self.mariadb]

    @property
    def words(self) -> str:
        """``MariaDB 10.11.6``."""
        return f"{'MariaDB' if self.mariadb else 'MySQL'} {'.'.join(map(str, self.version))}"
