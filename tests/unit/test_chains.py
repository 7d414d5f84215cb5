"""From versions to the chain of their migrations."""

from __future__ import annotations

import pytest

from tenantry_operator.blueprints.chains import Version, resolve
from tenantry_operator.engines.base import Migration
from tenantry_operator.errors import Stalled, Waiting


def version(name: str, previous: str | None, *sql: str) -> Version:
    migrations = tuple(Migration(name, f"m{number}", text) for number, text in enumerate(sql))
    return Version(f"shop-{name}", name, previous, migrations)


V1 = version("1.0", None, "create a", "create b")
V2 = version("1.1", "1.0", "create c")
V3 = version("2.0", "1.1")


def chain_of(wanted: str, *versions: Version) -> list[str]:
    chain = resolve("shop/shop", wanted, {v.version: v for v in versions})
    return [migration.text for migration in chain.migrations]


def test_migrations_come_in_the_order_of_the_versions() -> None:
    assert chain_of("2.0", V3, V1, V2) == ["create a", "create b", "create c"]
    assert chain_of("1.0", V1, V2) == ["create a", "create b"]


def test_a_missing_version_is_waited_for_and_named() -> None:
    with pytest.raises(Waiting, match=r"1\.0, which shop-1\.1 starts from"):
        chain_of("1.1", V2)


def test_a_circle_is_no_path() -> None:
    with pytest.raises(Stalled) as caught:
        chain_of("1.1", version("1.1", "1.0"), version("1.0", "1.1"))
    assert caught.value.reason == "NoPath"


def test_the_digest_tells_an_edited_migration() -> None:
    edited = version("1.0", None, "create a", "create bb")
    first = resolve("shop/shop", "1.0", {"1.0": V1})
    assert first.digest != resolve("shop/shop", "1.0", {"1.0": edited}).digest
    assert first.digest == resolve("shop/shop", "1.0", {"1.0": V1}).digest
