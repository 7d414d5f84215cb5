"""PostgreSQL's access lists, as text. Source: PostgreSQL documentation, "Privileges", aclitem."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

_ITEM = re.compile(r'^(?P<grantee>"(?:[^"]|"")*"|[^"=]*)=(?P<rights>[a-zA-Z*]*)/(?P<grantor>.*)$')

PUBLIC = ""


@dataclass(frozen=True, slots=True)
class Grant:
    """What one grantee may do; PUBLIC is ""."""

    grantee: str
    rights: frozenset[str]
    """One letter per right, ``*`` behind it for the right to grant it on."""


def parse(item: str) -> Grant:
    """One entry of an access list, such as ``shop__acme=UC/shop__acme``.

    :raises ValueError: for anything else.
    """
    match = _ITEM.match(item)
    if match is None:
        raise ValueError(f"not an entry of an access list: {item!r}")
    return Grant(_unquote(match["grantee"]), frozenset(re.findall(r"[a-zA-Z]\*?", match["rights"])))


def rights(acl: Iterable[str] | None) -> dict[str, frozenset[str]]:
    """The rights by grantee; of a list that was never changed (NULL) none are known: empty."""
    result: dict[str, frozenset[str]] = {}
    for item in acl or ():
        grant = parse(item)
        result[grant.grantee] = result.get(grant.grantee, frozenset()) | grant.rights
    return result


def render(grantee: str, letters: str, grantor: str) -> str:
    """One entry of an access list, as the server writes it.

    :param letters: in the server's order: ``arwdDxtXUCTcsAm``.
    """
    return f"{quote(grantee)}={letters}/{quote(grantor)}"


def quote(name: str) -> str:
    """A role's name in an access list."""
    if name.replace("_", "").isalnum() and name.isascii():
        return name
    return '"' + name.replace('"', '""') + '"'


def _unquote(name: str) -> str:
    return name[1:-1].replace('""', '"') if name.startswith('"') else name
