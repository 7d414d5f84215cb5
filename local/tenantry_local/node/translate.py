"""From a container's own view to this machine: folders, and addresses that mean the pod itself. Pure.

All processes share one file system and one network, so text is what is translated: the values of variables,
command and arguments, and the files of ConfigMaps and Secrets. A mount's path is replaced wherever it stands as a
whole path or the beginning of one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from tenantry_local.state import PORTS

_WITH_PORT = re.compile(r"(?<![\w.-])(?:127\.0\.0\.1|localhost|0\.0\.0\.0|\[::1\]|\[::\]):(\d{1,5})(?!\d)")
_BARE = re.compile(r"(?<![\w.-])(?:127\.0\.0\.1|localhost|0\.0\.0\.0|\[::1\]|\[::\])(?![\w.:/-])")
VARIABLE = re.compile(r"\$(\$|\(([^()]*)\))")


@dataclass(frozen=True, slots=True)
class Translation:
    """What one container's words mean on this machine."""

    folders: Mapping[str, str]
    """By path in the container: the folder or file here."""
    address: str
    """The pod's."""

    def literal(self, text: str) -> str:
        """A text of the manifest: paths, and the pod's own addresses with and without a port."""
        return _BARE.sub(self.address, self.given(text))

    def given(self, text: str) -> str:
        """A text from a Secret, a ConfigMap or a file: paths, and the pod's own addresses with a port.

        An address alone may be a server of this machine's, whose port stands elsewhere.
        """
        return _WITH_PORT.sub(self._with_port, self.paths(text))

    def paths(self, text: str) -> str:
        """Only the paths."""
        if not self.folders:
            return text
        longest = sorted(self.folders, key=len, reverse=True)
        pattern = "|".join(re.escape(path) for path in longest)
        return re.sub(
            rf"(?<![\w./-])(?:{pattern})(?![\w.-])",
            lambda found: self.folders[found[0]],
            text,
        )

    def path(self, path: str) -> str | None:
        """A path of the container; None when it is in no folder that has a place here."""
        found = self.paths(path)
        return found if found != path else None

    def _with_port(self, found: re.Match[str]) -> str:
        # The cluster's own servers, pool-a for one, listen on 127.0.0.1, and on ports of this range.
        if int(found[1]) in PORTS:
            return found[0]
        return f"{self.address}:{found[1]}"


def expand(text: str, variables: Mapping[str, str]) -> str:
    """``$(NAME)`` by the variable's value, as Kubernetes does it: unknown names stay, ``$$`` is a dollar sign."""

    def value(found: re.Match[str]) -> str:
        if found[1] == "$":
            return "$"
        return variables.get(found[2], found[0])

    return VARIABLE.sub(value, text)
