"""Images: which server is in one, by the last part of its repository. Pure."""

from __future__ import annotations

import re
from enum import StrEnum

from tenantry_crds.common import DatabaseEngine
from tenantry_operator.errors import Stalled


class Flavour(StrEnum):
    """A program that serves an engine."""

    POSTGRES = "postgres"
    MARIADB = "mariadb"
    MYSQL = "mysql"
    REDIS = "redis"
    VALKEY = "valkey"
    MONGO = "mongo"
    FERRETDB = "ferretdb"


FLAVOURS = {
    DatabaseEngine.POSTGRESQL: (Flavour.POSTGRES,),
    DatabaseEngine.MYSQL: (Flavour.MARIADB, Flavour.MYSQL),
    DatabaseEngine.REDIS: (Flavour.VALKEY, Flavour.REDIS),
    DatabaseEngine.MONGODB: (Flavour.FERRETDB, Flavour.MONGO),
}

_MAJOR = re.compile(r"v?(\d+)")


def _parts(image: str) -> tuple[str, str]:
    """The last part of the repository, and the tag."""
    last = image.partition("@")[0].rpartition("/")[2]
    name, _, tag = last.partition(":")
    return name, tag


def flavour(engine: DatabaseEngine, image: str) -> Flavour:
    """The program in an image.

    :raises Stalled: ImageUnknown, when it serves another engine, or nobody knows which.
    """
    name = _parts(image)[0]
    for known in FLAVOURS[engine]:
        if name.startswith(known):
            return known
    words = ", ".join(f"{known}*" for known in FLAVOURS[engine])
    raise Stalled(
        "ImageUnknown",
        f"image {image}: what it is, the last part of its repository tells, and for the engine {engine} that is "
        f"one of {words}; give an image called like that in spec.statefulSet.image",
    )


def major(image: str) -> str | None:
    """The major version that an image's tag names; None when it names none."""
    found = _MAJOR.match(_parts(image)[1])
    return found[1] if found else None


def is_alpine(image: str) -> bool:
    """Whether the image's tag says that it is made of Alpine Linux, where user ids differ."""
    return "alpine" in _parts(image)[1]


def generation(engine: DatabaseEngine, image: str) -> str:
    """What can read a server's data: the program, and on PostgreSQL its major version."""
    kind = flavour(engine, image)
    number = major(image) if kind is Flavour.POSTGRES else None
    return f"{kind}-{number}" if number else str(kind)


def check_change(engine: DatabaseEngine, old: str, new: str) -> None:
    """Whether a server with data may go from one image to another.

    :raises Stalled: FlavourChange, MajorVersionChange: the data could not be read.
    """
    if old == new:
        return
    before, after = flavour(engine, old), flavour(engine, new)
    if before != after:
        raise Stalled(
            "FlavourChange",
            f"image {new} is another program than {old}, and does not read its data; put {old} back, or create "
            "another instance and move the data there",
        )
    if before is not Flavour.POSTGRES:
        return
    if major(old) is None or major(old) != major(new):
        raise Stalled(
            "MajorVersionChange",
            f"image {new} is not of the same major version of PostgreSQL as {old} (or the tag does not tell), and "
            f"would not read its data; put {old} back, or create another instance and move the data there",
        )
