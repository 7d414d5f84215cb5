"""MySQL and MariaDB: where they differ. Pure.

MariaDB 10.11 is what this is tested with. What stands under MySQL is written by its manual, 8.0 and newer.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_VERSION = re.compile(r"(?:5\.5\.5-)?(\d+)\.(\d+)(?:\.(\d+))?")
OLDEST = {True: (10, 6), False: (8, 0)}
"""By whether it is MariaDB. Since then a DDL statement happens as a whole or not at all."""


@dataclass(frozen=True, slots=True)
class Flavour:
    """Which server it is."""

    mariadb: bool
    version: tuple[int, int, int]

    @classmethod
    def of(cls, text: str) -> Flavour:
        """By what ``VERSION()`` says: ``10.11.6-MariaDB-0+deb12u1``, ``8.0.36``."""
        match = _VERSION.match(text)
        numbers = tuple(int(part or 0) for part in match.groups()) if match else (0, 0, 0)
        return cls("mariadb" in text.lower(), (numbers[0], numbers[1], numbers[2]))

    @property
    def too_old(self) -> bool:
        """Whether it lacks what is relied on."""
        return self.version[:2] < OLDEST[self.mariadb]

    @property
    def words(self) -> str:
        """``MariaDB 10.11.6``."""
        return f"{'MariaDB' if self.mariadb else 'MySQL'} {'.'.join(map(str, self.version))}"
