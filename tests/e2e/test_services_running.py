"""Services of tenants whose pods really run: they reach their own database, also after a rotation."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.support import NOTES, Api, Object, blueprint, is_ready, manifest, namespace, pods_of

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).resolve().parents[2]
SPACE = "programs"
QUICK = {
    "TENANTRY_SWEEP_INTERVAL": "2s",
    "TENANTRY_RETIRE_AFTER": "20s",
    "TENANTRY_LEASE_DURATION": "2s",
}
PROGRAM = """
import http.server, json, os, pathlib, psycopg

uri = (pathlib.Path(os.environ["SERVICE_BINDING_ROOT"]) / "main" / "uri").read_text()
database = psycopg.connect(uri, autocommit=True)


class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        (login,), = database.execute("SELECT current_user").fetchall()
        (notes,), = database.execute("SELECT count(*) FROM notes").fetchall()
        names = ("TENANTRY_TENANT_ID", "GREETING", "CUSTOM_PLUGIN_REPO", "KEY")
        found = {"login": login, "notes": notes, **{name: os.environ.get(name) for name in names}}
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(found).encode())

    def log_message(self, *arguments):
        pass


http.server.HTTPServer(("0.0.0.0", int(os.environ["PORT"])), Answer).serve_forever()
"""


@pytest.fixture(scope="module")
def api(private_cluster: Any) -> Api:
    private_cluster.start_node(back_off=0.2)
    private_cluster.start_operator(QUICK)
    api = Api(private_cluster)
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "payment", "namespace": SPACE},
        "stringData": {"key": "k1"},
    }
    api.apply(namespace(SPACE), *blueprint(SPACE, "notes", NOTES), template("web"), secret)
    return api


def template(name: str, image: str = "python:3") -> Object:
    service = {
        "image": image,
        "command": ["python3", "-c", PROGRAM],
        "port": 8000,
        "env": [
            {"name": "GREETING", "value": "hello $(TENANTRY_TENANT_ID)"},
            {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "payment", "key": "key"}}},
        ],
        "probes": {"readiness": {"httpGet": {"path": "/"}, "periodSeconds": 1}},
    }
    return manifest("Blueprint", name, {"service": service}, namespace=SPACE)


def served(name: str, of: str = "web", **spec: Any) -> Object:
    wanted = {
        "databases": [{"name": "main", "blueprint": "notes", "isolation": "Schema"}],
        "services": [{"name": "web", "blueprint": of}],
        **spec,
    }
    return manifest("Tenant", name, wanted, namespace=SPACE)


def running(
    api: Api, name: str, also: Callable[[Object], bool] = lambda tenant: True, where: str = SPACE
) -> Object:
    def done(tenant: Object | None) -> bool:
        return (
            tenant is not None
            and is_ready(tenant)
            and all(each["phase"] == "Running" for each in tenant["status"]["services"])
            and also(tenant)
        )

    return api.wait("tenant", name, where, done)


def asked(api: Api, name: str, where: str = SPACE) -> Object:
    """What the tenant's program answers."""
    (pod,) = pods_of(api, where, f"tenantry.dev/tenant={name},tenantry.dev/service=web")
    with urllib.request.urlopen(f"http://{pod['status']['podIP']}:8000/", timeout=10) as answer:
        found: Object = json.loads(answer.read())
    return found


def test_a_program_has_its_tenants_database_and_environment(api: Api) -> None:
    trick = "https://x.example/$(KEY)"
    api.apply(served("one", profile={"pluginRepo": trick}), served("two"))
    one, two = running(api, "one"), running(api, "two")
    api.query(SPACE, "one", "main", "INSERT INTO notes (body) VALUES ('of one')")
    assert asked(api, "one") == {
        "login": one["status"]["databases"][0]["login"],
        "notes": 1,
        "TENANTRY_TENANT_ID": "one",
        "GREETING": "hello one",
        "CUSTOM_PLUGIN_REPO": trick,
        "KEY": "k1",
    }
    assert asked(api, "two")["login"] == two["status"]["databases"][0]["login"]
    assert asked(api, "two")["notes"] == 0


def test_after_a_rotation_the_program_has_the_new_login_before_the_old_one_goes(api: Api) -> None:
    api.apply(served("rotated"))
    login = running(api, "rotated")["status"]["databases"][0]["login"]
    assert asked(api, "rotated")["login"] == login
    api.annotate(SPACE, "rotated", rotate="1")
    running(api, "rotated", lambda tenant: tenant["status"]["databases"][0]["login"] != login)
    deadline = time.monotonic() + 15
    while len(pods_of(api, SPACE, "tenantry.dev/tenant=rotated")) > 1 and time.monotonic() < deadline:
        time.sleep(0.2)
    assert asked(api, "rotated")["login"] not in (login, None)


def test_the_example_runs_as_it_is(api: Api) -> None:
    api.kubectl("apply", "--server-side", "-f", str(ROOT / "examples/services"))
    found = running(api, "corner-shop", where="storefront")
    assert {each["name"]: each.get("address") for each in found["status"]["services"]} == {
        "web": "corner-shop-web.storefront.svc:8000",
        "worker": None,
    }
    (database,) = found["status"]["databases"]
    assert asked(api, "corner-shop", "storefront") == {
        "title": "The shop of corner-shop",
        "database": database["database"],
        "login": database["login"],
    }
    api.delete("tenant", "corner-shop", "storefront")
    api.gone("deployment", "corner-shop-web", "storefront")
    api.delete("namespace", "storefront")


def test_suspended_it_is_gone_and_comes_back(api: Api) -> None:
    api.apply(served("sleeper"))
    running(api, "sleeper")
    api.set_state(SPACE, "sleeper", "Suspended")
    api.ready(SPACE, "sleeper", "Suspended")
    api.set_state(SPACE, "sleeper", "Active")
    running(api, "sleeper")
    assert asked(api, "sleeper")["notes"] == 0


def test_an_image_that_is_not_there_is_told(api: Api) -> None:
    api.apply(template("wrong", image="registry.example/nowhere:1"), served("wrong", of="wrong"))
    found = api.wait(
        "tenant",
        "wrong",
        SPACE,
        lambda t: (
            (t is not None and "ErrImagePull" in json.dumps(t.get("status")))
            or "ImagePullBackOff" in json.dumps(t)
        ),
    )
    assert found["status"]["services"][0]["phase"] == "Starting"
    assert api.query(SPACE, "wrong", "main", "SELECT count(*) FROM notes") == [(0,)]
