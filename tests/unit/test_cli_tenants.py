"""``tenantry tenants``: what is listed of a tenant, and which are."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from tenantry_operator.cli import units
from tests.unit.cli_standin import Cli, Object, Standin

COLUMNS = ["NAME", "ID", "PHASE", "READY", "DATABASES", "INSTANCE", "SIZE", "MESSAGE"]


def tenant(
    name: str,
    phase: str = "Ready",
    *,
    namespace: str = "shop",
    wanted: list[Object] | None = None,
    made: list[Object] | None = None,
    message: str = "",
    labels: dict[str, str] | None = None,
) -> Object:
    databases = [database()] if made is None else made
    ready = {
        "type": "Ready",
        "status": "True" if phase == "Ready" else "False",
        "reason": phase,
        "message": message,
    }
    return {
        "metadata": {"name": name, "namespace": namespace, "labels": labels or {}},
        "spec": {"databases": [{"blueprint": "shop"}] if wanted is None else wanted},
        "status": {"phase": phase, "id": f"id-{name}", "databases": databases, "conditions": [ready]},
    }


def database(version: str = "1.0", **more: Any) -> Object:
    known = {"name": "shop", "blueprint": "shop", "version": version, "instance": "pg-a", "bytes": 8_000_000}
    return {**known, **more}


def names(out: str) -> list[str]:
    """The first column, without header and summary."""
    return [line.split()[0] for line in out.partition("\n\n")[0].splitlines()[1:]]


def test_a_tenant_is_a_line_and_the_end_counts_them(api: Standin, cli: Cli) -> None:
    api.put("tenants", tenant("acme"))
    api.put("tenants", tenant("globex", "Failed", message="no\nroom"))
    result = cli("tenants")
    assert result.out.splitlines() == [
        "NAME     ID          PHASE    READY   DATABASES   INSTANCE   SIZE      MESSAGE",
        "acme     id-acme     Ready    True    shop@1.0    pg-a       7.6 MiB   -",
        "globex   id-globex   Failed   False   shop@1.0    pg-a       7.6 MiB   no room",
        "",
        "2 tenants: 1 Ready, 1 Failed; 2 databases, 15 MiB",
    ]
    assert (result.code, result.err) == (0, "")


def test_a_tenant_without_a_status_is_listed_as_it_is_asked_for(api: Standin, cli: Cli) -> None:
    obj = tenant("acme")
    del obj["status"]
    api.put("tenants", obj)
    lines = cli("tenants").out.splitlines()
    assert lines[1].split() == ["acme", "acme", "-", "Unknown", "shop@-", "-", "-", "-"]
    assert lines[-1] == "1 tenant: 1 without a phase; 1 database"


def test_databases_of_other_names_and_instances_are_told_apart(api: Standin, cli: Cli) -> None:
    wanted = [{"blueprint": "shop"}, {"name": "archive", "blueprint": "shop"}]
    made = [database(), database("0.9", name="archive", instance="pg-b", bytes=2_000_000)]
    api.put("tenants", tenant("acme", wanted=wanted, made=made))
    line = cli("tenants").out.splitlines()[1]
    assert "shop@1.0, archive=shop@0.9   pg-a, pg-b   9.5 MiB" in line


def test_all_namespaces_are_named(api: Standin, cli: Cli) -> None:
    api.put("tenants", tenant("acme"))
    api.put("tenants", tenant("lion", namespace="zoo"))
    lines = cli("tenants", "-A").out.splitlines()
    assert lines[0].split() == ["NAMESPACE", *COLUMNS]
    assert [line.split()[:2] for line in lines[1:3]] == [["shop", "acme"], ["zoo", "lion"]]


def test_many_tenants_are_read_in_pages(api: Standin, cli: Cli) -> None:
    api.page = 3
    for number in range(8):
        api.put("tenants", tenant(f"t{number}"))
    result = cli("tenants")
    assert names(result.out) == [f"t{number}" for number in range(8)]
    assert [asked.query.get("continue") for asked in api.asked] == [None, "3", "6"]
    assert result.out.endswith("\n8 tenants: 8 Ready; 8 databases, 61 MiB\n")


@pytest.mark.parametrize(("form", "read"), [("json", json.loads), ("yaml", yaml.safe_load)])
def test_tenants_as_data_are_whole_objects(api: Standin, cli: Cli, form: str, read: Any) -> None:
    put = api.put("tenants", tenant("acme"))
    result = cli("tenants", "-o", form)
    value = read(result.out)
    (item,) = value["items"]
    assert (value["kind"], item["kind"], item["apiVersion"]) == ("List", "Tenant", "tenantry.dev/v1alpha1")
    assert (item["spec"], item["status"]) == (put["spec"], put["status"])
    assert "managedFields" not in item["metadata"]
    assert result.code == 0


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], ["acme", "globex", "initech"]),
        (["--blueprint", "shop"], ["acme", "globex"]),
        (["--blueprint", "crm"], ["initech"]),
        (["--version", "1.0"], ["acme", "initech"]),
        (["--version", "1.0", "--blueprint", "shop"], ["acme"]),
        (["--phase", "failed"], ["globex"]),
        (["--phase", "Ready", "--blueprint", "crm"], ["initech"]),
        (["-l", "ring=canary"], ["globex"]),
        (["--selector", "ring=canary", "--phase", "Failed"], ["globex"]),
    ],
)
def test_only_those_that_match_are_listed(api: Standin, cli: Cli, options: list[str], expected: list[str]) -> None:
    api.put("tenants", tenant("acme"))
    api.put("tenants", tenant("globex", "Failed", made=[database("1.1")], labels={"ring": "canary"}))
    crm = database(name="crm", blueprint="crm")
    api.put("tenants", tenant("initech", wanted=[{"blueprint": "crm"}], made=[crm]))
    assert names(cli("tenants", *options).out) == expected
    data = json.loads(cli("tenants", *options, "-o", "json").out)
    assert [item["metadata"]["name"] for item in data["items"]] == expected


def test_blueprint_and_version_are_of_the_same_database(api: Standin, cli: Cli) -> None:
    wanted = [{"blueprint": "shop"}, {"blueprint": "crm"}]
    made = [database("1.0"), database("2.0", name="crm", blueprint="crm")]
    api.put("tenants", tenant("acme", wanted=wanted, made=made))
    result = cli("tenants", "--blueprint", "shop", "--version", "2.0")
    assert (result.code, result.out, result.err) == (0, "", "no Tenants in namespace shop that match\n")


def test_the_api_server_filters_by_phase_and_label(api: Standin, cli: Cli) -> None:
    cli("tenants", "--phase", "SUSPENDED", "-l", "ring=canary")
    assert api.asked[0].query == {
        "limit": "500",
        "labelSelector": "ring=canary",
        "fieldSelector": "status.phase=Suspended",
    }


def test_a_phase_that_there_is_not_is_refused_with_those_there_are(api: Standin, cli: Cli) -> None:
    result = cli("tenants", "--phase", "Redy")
    assert (result.code, result.out, api.asked) == (2, "", [])
    assert result.err.startswith("error: --phase Redy: there is no such phase; it is one of Draft, ")
    assert result.err.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "said"), [([], "no Tenants in namespace shop\n"), (["-A"], "no Tenants in any namespace\n")]
)
def test_no_tenants_is_said_on_standard_error(api: Standin, cli: Cli, options: list[str], said: str) -> None:
    result = cli("tenants", *options)
    assert (result.code, result.out, result.err) == (0, "", said)


def test_a_selector_that_the_api_server_refuses_is_told_in_its_words(api: Standin, cli: Cli) -> None:
    api.refusals["GET", "tenants"] = (400, "unable to parse requirement: found '!!'")
    result = cli("tenants", "-l", "!!")
    assert result.code == 2
    assert result.err == (
        "error: the API server of context dev answered 400: unable to parse requirement: found '!!'\n"
    )


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (None, "-"),
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1024**2 - 1, "1.0 MiB"),
        (10 * 1024, "10 KiB"),
    ],
)
def test_sizes_are_short(count: int | None, text: str) -> None:
    assert units.size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0s"),
        (42.9, "42s"),
        (60, "1m"),
        (185, "3m5s"),
        (3780, "1h3m"),
        (90000, "1d1h"),
        (41 * 86400 + 1, "41d"),
    ],
)
def test_spans_are_in_two_units(seconds: float, text: str) -> None:
    assert units.span(seconds) == text
