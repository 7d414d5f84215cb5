"""What the chart lets the operator do, compared with what the operator's code does."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from tenantry_operator import context, kube
from tenantry_operator.instances.cloudnativepg import CLUSTERS
from tenantry_operator.instances.mariadb import MARIADBS
from tenantry_operator.kube import Resource
from tests.unit.chart import NAMESPACE, ROOT, Manifest, environment, named, of_kind, render

OPERATOR = ROOT / "operator" / "tenantry_operator"
WATCHED = {"tenants", "blueprints", "blueprintversions", "rollouts", "databaseinstances"}

Rights = set[tuple[str, str, str]]
"""Verb, API group, resource."""

SERVERS: Rights = {
    *(
        (verb, resource.group, resource.plural)
        for resource in (
            kube.STATEFUL_SETS,
            kube.SERVICES,
            kube.CONFIGMAPS,
            kube.NETWORK_POLICIES,
            kube.DISRUPTION_BUDGETS,
            CLUSTERS,
            MARIADBS,
        )
        for verb in ("get", "create", "patch", "delete")
    ),
    ("list", "", "events"),
    *((verb, "apps", "statefulsets") for verb in ("list", "watch")),
    *((verb, "", "pods") for verb in ("get", "list", "watch")),
    *((verb, "", "persistentvolumeclaims") for verb in ("get", "list", "watch", "patch", "delete")),
}
"""What the operator does to what servers are made of: it makes and mends objects of any of these kinds alike."""

TENANTS_SERVICES: Rights = {
    *((verb, "", "services") for verb in ("get", "create", "delete")),
    ("list", "", "pods"),
}
"""What it needs of these for the services of tenants, whoever runs the servers."""

VERBS = {
    "get": "get",
    "list": "list",
    "list_metadata": "list",
    "pages": "list",
    "create": "create",
    "patch": "patch",
    "replace": "update",
    "delete": "delete",
}
"""The methods of ``KubeClient``, and the right that each takes."""


@pytest.fixture(scope="module")
def default() -> list[Manifest]:
    return render()


def rights(role: Manifest) -> Rights:
    return {
        (verb, group, resource)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def operator_rights(objects: list[Manifest]) -> Rights:
    """What all roles together give to the operator."""
    bound = {
        (binding["roleRef"]["kind"], binding["metadata"].get("namespace"), binding["roleRef"]["name"])
        for binding in of_kind(objects, "ClusterRoleBinding", "RoleBinding")
        if {"tenantry-operator"} == {subject["name"] for subject in binding["subjects"]}
    }
    roles = {
        (role["kind"], role["metadata"].get("namespace"), role["metadata"]["name"]): role
        for role in of_kind(objects, "ClusterRole", "Role")
    }
    return set().union(*(rights(roles[key]) for key in bound))


def calls() -> Iterator[tuple[str, Resource]]:
    """The right and the resource of every request in the operator's code that names its resource."""
    resources = {name: value for module in (context, kube) for name, value in vars(module).items()}
    for path in OPERATOR.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.Call(
                    func=ast.Attribute(attr=method, value=ast.Name(id=on) | ast.Attribute(attr=on)),
                    args=[ast.Name(id=constant), *_],
                ) if (
                    on.lstrip("_") == "kube" and method in VERBS and isinstance(resources.get(constant), Resource)
                ):
                    yield VERBS[method], resources[constant]


def test_operator_has_the_rights_it_uses_and_no_others(default: list[Manifest]) -> None:
    used = {(verb, resource.group, resource.plural) for verb, resource in calls()}
    assert ("create", "", "secrets") in used, "the search finds nothing"
    # Every kind is watched, listed to see whether a watch is behind, and read to see whether one is gone.
    for plural in [*WATCHED, "plans"]:
        used |= {(verb, "tenantry.dev", plural) for verb in ("get", "list", "watch")}
        used.add(("patch", "tenantry.dev", f"{plural}/status"))
    for group, plural in (("", "secrets"), ("apps", "deployments"), ("", "services")):
        used |= {(verb, group, plural) for verb in ("list", "watch")}
    used |= SERVERS
    used |= {(verb, "apiextensions.k8s.io", "customresourcedefinitions") for verb in ("list", "watch")}
    assert operator_rights(default) == used


def test_without_servers_of_its_own_it_has_no_rights_for_them(default: list[Manifest]) -> None:
    objects = render({"instances": {"enabled": False}})
    assert operator_rights(objects) == operator_rights(default) - (SERVERS - TENANTS_SERVICES) | {
        ("get", "", "configmaps")
    }


def test_no_right_is_a_wildcard(default: list[Manifest]) -> None:
    for role in of_kind(default, "ClusterRole", "Role"):
        assert not [right for right in rights(role) if "*" in "".join(right)], role["metadata"]["name"]


def test_listed_namespaces_replace_the_cluster_wide_role(default: list[Manifest]) -> None:
    objects = render({"watchNamespaces": ["shop", "notes"]})
    role = named(objects, "ClusterRole", f"{NAMESPACE}:tenantry-operator")
    assert {resource for _, _, resource in rights(role)} == {"plans", "plans/status", "namespaces"}
    roles = {
        value["metadata"]["namespace"]: rights(value)
        for value in of_kind(objects, "Role")
        if value["metadata"]["name"] == "tenantry-operator"
    }
    assert set(roles) == {"notes", "shop", NAMESPACE}
    assert environment(objects)["TENANTRY_WATCH_NAMESPACES"] == f"notes,shop,{NAMESPACE}"
    cluster_wide = {("list", "apiextensions.k8s.io", "customresourcedefinitions")}
    cluster_wide |= {("watch", "apiextensions.k8s.io", "customresourcedefinitions")}
    assert operator_rights(objects) == operator_rights(default) - cluster_wide
    events = [value for value in of_kind(objects, "Role") if value["metadata"]["namespace"] == "default"]
    assert [rights(value) for value in events] == [{("create", "", "events")}]


def test_namespaces_are_not_read_when_the_installation_has_a_name() -> None:
    objects = render({"installationId": "prod"})
    assert "namespaces" not in {resource for _, _, resource in operator_rights(objects)}


def test_lease_of_the_settings_is_the_only_one_it_may_change(default: list[Manifest]) -> None:
    role = named(default, "Role", "tenantry-operator-lease")
    changing = [rule for rule in role["rules"] if "create" not in rule["verbs"]]
    assert [rule["resourceNames"] for rule in changing] == [[environment(default)["TENANTRY_LEASE_NAME"]]]


def test_namespace_roles_of_people_are_extended(default: list[Manifest]) -> None:
    aggregate = "rbac.authorization.k8s.io/aggregate-to-"

    def targets(role: Manifest) -> set[str]:
        return {name.removeprefix(aggregate) for name in role["metadata"]["labels"] if aggregate in name}

    view, edit = (named(default, "ClusterRole", f"tenantry-{name}") for name in ("view", "edit"))
    assert targets(view) == {"view", "edit", "admin"}
    assert {verb for verb, _, _ in rights(view)} == {"get", "list", "watch"}
    assert targets(edit) == {"edit", "admin"}
    assert {resource for _, _, resource in rights(edit)} == WATCHED
    assert not of_kind(render({"rbac": {"create": False, "aggregate": False}}), "ClusterRole", "Role")


def test_the_facade_writes_tenants_of_its_project_and_no_more() -> None:
    objects = render({"api": {"enabled": True, "project": "shop"}})
    found = {}
    for binding in of_kind(objects, "RoleBinding", "ClusterRoleBinding"):
        if {"tenantry-api"} == {subject["name"] for subject in binding["subjects"]}:
            role = named_in(objects, binding)
            where = binding["metadata"].get("namespace")
            found.setdefault(where, set()).update(rights(role))
    assert found == {
        None: {(verb, "tenantry.dev", "plans") for verb in ("get", "list", "watch")},
        NAMESPACE: {
            *(
                (verb, "tenantry.dev", kind)
                for verb in ("get", "list", "watch")
                for kind in ("tenants", "blueprints", "databaseinstances")
            ),
            ("get", "", "secrets"),
        },
        "shop": {
            *(
                (verb, "tenantry.dev", kind)
                for verb in ("get", "list", "watch")
                for kind in ("tenants", "blueprints", "databaseinstances")
            ),
            *((verb, "tenantry.dev", "tenants") for verb in ("create", "patch", "delete")),
            ("patch", "tenantry.dev", "tenants/status"),
            *((verb, "", "configmaps") for verb in ("create", "get", "patch")),
            *((verb, "coordination.k8s.io", "leases") for verb in ("create", "get", "list", "delete")),
        },
    }
    secrets = [
        rule
        for role in of_kind(objects, "Role")
        if role["metadata"]["name"].startswith("tenantry-api")
        for rule in role["rules"]
        if "secrets" in rule["resources"]
    ]
    assert [rule["resourceNames"] for rule in secrets] == [["tenantry-api-accounts"]]


def named_in(objects: list[Manifest], binding: Manifest) -> Manifest:
    """The role of a binding."""
    (found,) = [
        role
        for role in of_kind(objects, binding["roleRef"]["kind"])
        if role["metadata"]["name"] == binding["roleRef"]["name"]
        and role["metadata"].get("namespace") == binding["metadata"].get("namespace")
    ]
    return found
