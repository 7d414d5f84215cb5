"""What words of a container mean on this machine."""

from __future__ import annotations

import pytest

from tenantry_local.node.translate import Translation, expand

FOLDERS = {
    "/var/lib/postgresql": "/n/data/pg",
    "/var/lib/postgresql/data": "/n/volumes/a/data",
    "/data": "/n/volumes/b/data",
    "/etc/own/one.conf": "/n/mounts/one.conf",
}
TRANSLATION = Translation(FOLDERS, "127.16.0.5")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/var/lib/postgresql/data/pgdata", "/n/volumes/a/data/pgdata"),
        ("/var/lib/postgresql/other", "/n/data/pg/other"),
        ("--dir=/data", "--dir=/n/volumes/b/data"),
        ("a:/data/x:/data", "a:/n/volumes/b/data/x:/n/volumes/b/data"),
        ("sh -c 'cp /etc/own/one.conf /data/'", "sh -c 'cp /n/mounts/one.conf /n/volumes/b/data/'"),
        ("/database /data-2 /data.old x/data ./data //data", "/database /data-2 /data.old x/data ./data //data"),
        ("https://example.org/data", "https://example.org/data"),
    ],
)
def test_a_mounts_path_is_replaced_where_it_is_a_whole_path(text: str, expected: str) -> None:
    assert TRANSLATION.paths(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.1", "127.16.0.5"),
        ("localhost", "127.16.0.5"),
        ("0.0.0.0:8080", "127.16.0.5:8080"),
        ("postgres://u:p@127.0.0.1:5432/db", "postgres://u:p@127.16.0.5:5432/db"),
        ("redis-cli -h localhost -p 6379", "redis-cli -h 127.16.0.5 -p 6379"),
        ("[::1]:80", "127.16.0.5:80"),
        # The cluster's own servers are this machine's.
        ("postgres://u:p@127.0.0.1:25432/db", "postgres://u:p@127.0.0.1:25432/db"),
        # Neither a network nor a part of a longer name or number is an address.
        ("host all all 0.0.0.0/0 scram-sha-256", "host all all 0.0.0.0/0 scram-sha-256"),
        (
            "10.0.0.0.1 127.0.0.11 localhost.example.org my-localhost",
            "10.0.0.0.1 127.0.0.11 localhost.example.org my-localhost",
        ),
    ],
)
def test_the_pods_own_address_in_a_manifests_words(text: str, expected: str) -> None:
    assert TRANSLATION.literal(text) == expected


def test_an_address_alone_from_a_secret_may_be_this_machines() -> None:
    assert TRANSLATION.given("127.0.0.1") == "127.0.0.1"
    assert TRANSLATION.given("postgres://127.0.0.1:5432/a") == "postgres://127.16.0.5:5432/a"


def test_a_path_in_no_folder_has_no_place() -> None:
    assert TRANSLATION.path("/srv") is None
    assert TRANSLATION.path("/data/x") == "/n/volumes/b/data/x"
    assert Translation({}, "127.16.0.5").paths("/data") == "/data"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$(A)-$(B)", "1-$(B)"),
        ("$$(A) $$ $A $(", "$(A) $ $A $("),
        ("$$$(A)", "$1"),
        ("$(A)$(A)", "11"),
    ],
)
def test_variables_are_expanded_as_kubernetes_does(text: str, expected: str) -> None:
    assert expand(text, {"A": "1"}) == expected
