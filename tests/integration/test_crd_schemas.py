"""The CRDs on a real API server: what it refuses and with which words, what it accepts and fills in.

The cases are beside this module, in ``crds/``, as manifests have them.
"""

from __future__ import annotations

import copy
import itertools
import json
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import yaml
from kubernetes import client, config

from tenantry_crds.common import API_VERSION, GROUP, VERSION
from tenantry_crds.kinds import BY_KIND, KINDS
from tenantry_local.cluster import Cluster

CRDS = Path(__file__).resolve().parents[2] / "crds"
JSON = "application/json"
APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"
Manifest = dict[str, Any]

_numbers = itertools.count(1)


def cases(name: str) -> Any:
    return yaml.safe_load((Path(__file__).resolve().parent / "crds" / name).read_text(encoding="utf-8"))


COMPLETE: dict[str, Manifest] = cases("complete.yaml")
MINIMAL: dict[str, Manifest] = cases("minimal.yaml")
REFUSED: list[Manifest] = cases("refused.yaml")
CHANGES: list[Manifest] = cases("changes.yaml")
ACCEPTED = [(kind, spec) for case in cases("accepted.yaml") for kind, spec in case.items()]


class RefusedError(Exception):
    """The API server refused a request."""


class Api:
    """Writes objects of the group as clients do, with strict validation of fields."""

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace
        self._client = client.ApiClient()
        self._made: list[str] = []

    def path(self, kind: str, name: str = "") -> str:
        known = BY_KIND[kind]
        scope = f"/namespaces/{self.namespace}" if known.namespaced else ""
        return f"/apis/{GROUP}/{VERSION}{scope}/{known.plural}" + (f"/{name}" if name else "")

    def call(
        self, method: str, path: str, body: object = None, content: str = JSON, accept: str = JSON, **query: str
    ) -> Manifest:
        url = f"{self._client.configuration.host}{path}?{urlencode(query)}"
        headers = {"Content-Type": content, "Accept": accept}
        data = None if body is None else json.dumps(body)
        response = self._client.rest_client.pool_manager.request(method, url, body=data, headers=headers)
        if response.status >= 400:
            raise RefusedError(response.data.decode() if accept != JSON else response.json()["message"])
        answer: Manifest = response.json()
        return answer

    def create(self, kind: str, spec: Manifest, name: str | None = None) -> Manifest:
        name = name or f"{kind.lower()}-{next(_numbers)}-{uuid.uuid4().hex[:6]}"
        body = {"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec}
        self.call("POST", self.path(kind), body, fieldValidation="Strict")
        self._made.append(self.path(kind, name))
        return self.call("GET", self.path(kind, name))

    def replace(self, manifest: Manifest, spec: Manifest) -> Manifest:
        path = self.path(manifest["kind"], manifest["metadata"]["name"])
        return self.call("PUT", path, {**manifest, "spec": spec}, fieldValidation="Strict")

    def apply(self, kind: str, name: str, spec: Manifest, manager: str) -> Manifest:
        body = {"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec}
        path = self.path(kind, name)
        self._made.append(path)
        return self.call("PATCH", path, body, APPLY, fieldManager=manager, fieldValidation="Strict")

    def set_status(self, manifest: Manifest, status: Manifest) -> Manifest:
        path = self.path(manifest["kind"], manifest["metadata"]["name"]) + "/status"
        return self.call("PATCH", path, {"status": status}, MERGE, fieldValidation="Strict")

    def install(self, crd: Manifest) -> None:
        """Brings a CRD up to date, and leaves one alone that is: others may own its fields."""
        path = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{crd['metadata']['name']}"
        try:
            current = self.call("GET", path)["spec"] == crd["spec"]
        except RefusedError:
            current = False
        if not current:
            self.call("PATCH", path, crd, APPLY, fieldManager="tenantry-tests", force="true")
        deadline = time.monotonic() + 30
        while True:
            found = self.call("GET", path).get("status", {}).get("conditions", [])
            conditions = {condition["type"]: condition["status"] for condition in found}
            if conditions.get("Established") == "True":
                break
            assert time.monotonic() < deadline, found
            time.sleep(0.1)
        assert conditions["NamesAccepted"] == "True"
        assert "NonStructuralSchema" not in conditions

    def clean(self) -> None:
        for path in dict.fromkeys(self._made):
            self.call("DELETE", path)


@pytest.fixture(scope="module")
def api(control_plane: Cluster) -> Iterator[Api]:
    config.load_kube_config(str(control_plane.paths.kubeconfig))
    api = Api(f"crd-schemas-{uuid.uuid4().hex[:6]}")
    for kind in KINDS:
        api.install(yaml.safe_load((CRDS / f"{kind.plural}.yaml").read_text(encoding="utf-8")))
    api.call("POST", "/api/v1/namespaces", {"metadata": {"name": api.namespace}})
    try:
        yield api
    finally:
        api.clean()
        api.call("DELETE", f"/api/v1/namespaces/{api.namespace}")


def changed(spec: Manifest, change: Manifest) -> Manifest:
    """A copy of a spec with the values at dotted paths replaced; None takes one out."""
    result = copy.deepcopy(spec)
    for path, value in change.items():
        *way, last = path.split(".")
        at: Any = result
        for step in way:
            at = at[int(step)] if isinstance(at, list) else at[step]
        if value is None:
            del at[last]
        elif isinstance(at, list):
            at[int(last)] = value
        else:
            at[last] = value
    return result


def contains(stored: Any, given: Any) -> bool:
    if isinstance(given, dict):
        return all(key in stored and contains(stored[key], value) for key, value in given.items())
    if isinstance(given, list):
        return len(stored) == len(given) and all(map(contains, stored, given))
    return bool(stored == given)


def name_of(case: object) -> str | None:
    """The name of a case in pytest's output: its kind and what is in it."""
    return json.dumps(case)[:100] if isinstance(case, dict) else None


@pytest.mark.parametrize("kind", COMPLETE)
def test_every_field_is_accepted_and_kept(api: Api, kind: str) -> None:
    assert api.create(kind, COMPLETE[kind])["spec"] == COMPLETE[kind]


@pytest.mark.parametrize("kind", COMPLETE)
def test_the_cases_leave_out_no_field_of_the_model(kind: str) -> None:
    known = {field.alias for field in BY_KIND[kind].spec.model_fields.values()}

    assert known - COMPLETE[kind].keys() <= {
        "service",
        "statefulSet",
        "cloudNativePG",
        "mariaDB",
        "tenants",
    }  # tried in accepted.yaml


@pytest.mark.parametrize(("kind", "spec"), [*MINIMAL.items(), *ACCEPTED], ids=name_of)
def test_what_is_sound_is_accepted_and_kept(api: Api, kind: str, spec: Manifest) -> None:
    assert contains(api.create(kind, spec)["spec"], spec)


@pytest.mark.parametrize("case", REFUSED, ids=name_of)
def test_what_is_wrong_is_refused_by_its_name(api: Api, case: Manifest) -> None:
    spec = case.get("spec", changed(COMPLETE[case["kind"]], case.get("change", {})))

    with pytest.raises(RefusedError) as refusal:
        api.create(case["kind"], spec)

    assert case["words"] in str(refusal.value)


@pytest.mark.parametrize("case", CHANGES, ids=name_of)
def test_changes_are_refused_or_accepted(api: Api, case: Manifest) -> None:
    before = case.get("from", COMPLETE[case["kind"]])
    stored = api.create(case["kind"], before)
    after = case.get("to", changed(before, case.get("change", {})))

    if "words" not in case:
        assert contains(api.replace(stored, after)["spec"], after)
        return
    with pytest.raises(RefusedError) as refusal:
        api.replace(stored, after)

    assert case["words"] in str(refusal.value)


def test_the_id_may_be_spelled_out_as_the_name_it_was(api: Api) -> None:
    stored = api.create("Tenant", {})

    replaced = api.replace(stored, {"id": stored["metadata"]["name"]})

    assert "id" not in api.replace(replaced, {})["spec"]


@pytest.mark.parametrize("name", ["a.b", "a" * 64])
@pytest.mark.parametrize("kind", ["Tenant", "Blueprint", "DatabaseInstance", "Plan"])
def test_names_that_do_not_fit_are_refused(api: Api, kind: str, name: str) -> None:
    with pytest.raises(RefusedError, match=r"metadata\.name: the name of a .* is at most 63"):
        api.create(kind, MINIMAL[kind], name)


def test_a_statefulset_wants_a_shorter_name(api: Api) -> None:
    api.create("DatabaseInstance", MINIMAL["DatabaseInstance"], "b" * 53)
    api.create("DatabaseInstance", {"engine": "Redis", "statefulSet": {}}, "c" * 52)

    with pytest.raises(RefusedError, match="at most 52 characters"):
        api.create("DatabaseInstance", {"engine": "Redis", "statefulSet": {}}, "d" * 53)


def test_a_tenant_is_not_its_own_parent(api: Api) -> None:
    with pytest.raises(RefusedError, match=r"spec\.parent: a tenant cannot be its own parent"):
        api.create("Tenant", {"parent": "ouroboros"}, "ouroboros")


@pytest.mark.parametrize(
    ("kind", "spec", "filled"),
    [
        ("Tenant", {}, {"state": "Active", "deletionPolicy": "Retain", "retentionDays": 30}),
        ("Tenant", {"databases": [{"blueprint": "shop"}]}, {"databases": [{"name": "", "blueprint": "shop"}]}),
        ("Tenant", {"backup": {"schedule": "@daily"}}, {"backup": {"keep": 7}}),
        ("Blueprint", {"row": {}}, {"row": {"column": "tenant_id", "unsafeKeys": "Refuse"}}),
        ("Blueprint", {"rollout": {}}, {"rollout": {"maxParallel": 16, "failureBudget": 0}}),
        ("DatabaseInstance", {}, {"role": "Shared", "cordoned": False, "deletionPolicy": "Retain"}),
        ("Plan", {"database": {}}, {"database": {"enforcement": "ReadOnly"}}),
    ],
    ids=name_of,
)
def test_defaults_are_filled_in(api: Api, kind: str, spec: Manifest, filled: Manifest) -> None:
    assert contains(api.create(kind, MINIMAL[kind] | spec)["spec"], filled)


@pytest.mark.parametrize("kind", MINIMAL)
def test_an_object_nobody_has_seen_yet_is_not_up_to_date(api: Api, kind: str) -> None:
    assert api.create(kind, MINIMAL[kind])["status"] == {"observedGeneration": -1}


def test_null_in_a_spec_counts_as_left_out(api: Api) -> None:
    database = {"blueprint": "shop", "version": None}
    spec = {"id": None, "plan": None, "state": None, "databases": [database], "settings": None}

    stored = api.create("Tenant", spec)["spec"]

    assert stored["state"] == "Active"
    assert stored.keys().isdisjoint({"id", "plan", "settings"})
    assert "version" not in stored["databases"][0]
    instance = MINIMAL["DatabaseInstance"] | {"statefulSet": None}
    assert "statefulSet" not in api.create("DatabaseInstance", instance)["spec"]


def test_a_status_is_written_beside_the_spec(api: Api) -> None:
    moment = "2026-11-21T00:00:00Z"
    condition = {"type": "Ready", "status": "True", "reason": "Ready", "message": "", "lastTransitionTime": moment}
    users = {"resource": "users", "used": 45, "limit": 200, "source": "Reported", "updatedAt": moment}
    status = {
        "observedGeneration": 1,
        "phase": "Ready",
        "conditions": [condition],
        "binding": {"name": "acme-shop-db"},
        "databases": [{"name": "shop", "schema": "acme", "bytes": 8123456789, "version": "1.1"}],
        "usage": [users | {"breakdown": [{"label": "ADMIN", "count": 3}]}],
        "handled": {"rotate": "1"},
        "deletedAt": moment,
    }
    stored = api.create("Tenant", {"databases": [{"blueprint": "shop"}]})

    written = api.set_status(stored, status)

    assert written["status"] == status
    assert written["metadata"]["generation"] == stored["metadata"]["generation"]
    assert written["spec"] == stored["spec"]
    with pytest.raises(RefusedError, match=r'unknown field "status\.phse"'):
        api.set_status(stored, {"phse": "Ready"})


def test_two_managers_apply_their_own_entries_of_lists(api: Api) -> None:
    mine = {"databases": [{"blueprint": "shop"}], "limits": [{"resource": "users", "limit": 1}]}
    theirs = {
        "databases": [{"blueprint": "store", "name": "main"}],
        "limits": [{"resource": "storage", "limit": "1Gi"}],
    }
    api.apply("Tenant", "shared", mine, "gitops")
    api.apply("Tenant", "shared", theirs, "tenantry-api")

    again = api.apply("Tenant", "shared", mine, "gitops")["spec"]

    assert [(d["blueprint"], d["name"]) for d in again["databases"]] == [("shop", ""), ("store", "main")]
    assert {entry["resource"] for entry in again["limits"]} == {"users", "storage"}
    # What a manager no longer applies goes, and nothing else.
    left = api.apply("Tenant", "shared", {"databases": []}, "gitops")["spec"]
    assert [d["blueprint"] for d in left["databases"]] == ["store"]
    with pytest.raises(RefusedError, match=r'conflict with "tenantry-api": \.spec\.limits'):
        api.apply("Tenant", "shared", {"limits": [{"resource": "storage", "limit": "2Gi"}]}, "gitops")


@pytest.mark.parametrize("kind", COMPLETE)
def test_applying_again_writes_nothing(api: Api, kind: str) -> None:
    # The default of a status is stored with the first write after the object's creation.
    first = api.set_status(api.apply(kind, "again", COMPLETE[kind], "kubectl"), {"observedGeneration": 1})

    second = api.apply(kind, "again", COMPLETE[kind], "kubectl")

    assert second["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]


def test_objects_are_found_by_their_fields(api: Api) -> None:
    made = api.create("Tenant", {"id": "select-me", "state": "Suspended", "plan": {"code": "gold"}})
    api.set_status(made, {"phase": "Suspended"})

    for selector in ("spec.id=select-me", "spec.state=Suspended,spec.plan.code=gold", "status.phase=Suspended"):
        found = api.call("GET", api.path("Tenant"), fieldSelector=selector)["items"]

        assert made["metadata"]["name"] in {item["metadata"]["name"] for item in found}
        assert all(item["spec"]["state"] == "Suspended" for item in found)


@pytest.mark.parametrize("kind", COMPLETE)
def test_people_see_columns_with_values(api: Api, kind: str) -> None:
    made = api.create(kind, COMPLETE[kind])
    table_of = f"{JSON};as=Table;v=v1;g=meta.k8s.io"

    table = api.call("GET", api.path(kind, made["metadata"]["name"]), accept=table_of)

    names = [column["name"] for column in table["columnDefinitions"]]
    values = dict(zip(names, table["rows"][0]["cells"], strict=True))
    assert names == ["Name", *(column.name for column in BY_KIND[kind].columns)]
    for column in BY_KIND[kind].columns:
        if column.path.startswith(".spec."):
            assert values[column.name] not in (None, ""), column.name
