"""What must not happen: needless writes, secrets where they do not belong, two operators at once."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.support import NOTES, Api, blueprint, is_ready, manifest, namespace, run, tenant

pytestmark = pytest.mark.e2e

SPACE = "quiet"
QUICK = {"TENANTRY_SWEEP_INTERVAL": "1s", "TENANTRY_LEASE_DURATION": "2s", "TENANTRY_LOG_LEVEL": "DEBUG"}
MORE = {"name": "more", "sql": "ALTER TABLE notes ADD more text"}
KINDS = "tenants,blueprints,blueprintversions,rollouts,plans,databaseinstances,secrets"


@pytest.fixture(scope="module")
def api(private_cluster: Any) -> Api:
    private_cluster.start_operator(QUICK)
    api = Api(private_cluster)
    names = [f"{isolation.lower()}-{number}" for isolation in ("Database", "Schema", "Row") for number in range(3)]
    api.apply(namespace(SPACE), *blueprint(SPACE, "notes", NOTES))
    api.apply(*(tenant(SPACE, name, "notes", name.partition("-")[0].capitalize()) for name in names))
    for name in names:
        api.ready(SPACE, name)
    more = {"blueprint": "notes", "version": "1.1", "from": "1.0", "migrations": [MORE]}
    api.apply(manifest("BlueprintVersion", "notes-1.1", more, namespace=SPACE))
    api.patch("blueprint", "notes", SPACE, {"spec": {"version": "1.1"}})
    api.wait("rollout", "notes-1.1", SPACE, lambda found: found is not None and is_ready(found, "Completed"))
    time.sleep(4)  # sizes settle within the first sweeps
    return api


def versions(api: Api) -> dict[str, str]:
    listed = json.loads(api.kubectl("get", KINDS, "-A", "-o", "json"))["items"]
    return {
        f"{o['kind']}/{o['metadata'].get('namespace')}/{o['metadata']['name']}": o["metadata"]["resourceVersion"]
        for o in listed
    }


def metric(api: Api, name: str) -> float:
    with urllib.request.urlopen(api.cluster.metrics_url, timeout=10) as answer:
        text = answer.read().decode()
    return sum(float(line.rpartition(" ")[2]) for line in text.splitlines() if re.match(rf"{name}(\{{|\s)", line))


def test_sweeps_with_nothing_to_do_write_nothing(api: Api) -> None:
    before, writes = versions(api), metric(api, "tenantry_api_writes_total")
    time.sleep(5)
    assert versions(api) == before
    assert metric(api, "tenantry_api_writes_total") == writes


def test_a_restart_with_nothing_changed_writes_nothing(api: Api) -> None:
    before = versions(api)
    api.cluster.kill_operator()
    api.cluster.start_operator(QUICK)
    deadline = time.monotonic() + 60
    while metric(api, "tenantry_reconciles_total") < 9:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    time.sleep(3)
    assert metric(api, "tenantry_api_writes_total") == 0
    assert metric(api, "tenantry_database_steps_total") == 0
    assert versions(api) == before


def test_no_password_is_anywhere_but_in_its_secret(api: Api) -> None:
    passwords = set()
    for secret in json.loads(api.kubectl("get", "secrets", "-A", "-o", "json"))["items"]:
        name, where = secret["metadata"]["name"], secret["metadata"]["namespace"]
        values = api.kubectl.secret(where, name)
        passwords |= {value for key, value in values.items() if key == "password" and value}
    assert len(passwords) >= 9
    texts = {
        "objects": api.kubectl("get", KINDS.replace(",secrets", ",events"), "-A", "-o", "yaml"),
        "secrets' metadata": json.dumps(
            [s["metadata"] for s in json.loads(api.kubectl("get", "secrets", "-A", "-o", "json"))["items"]]
        ),
        "the operator's log": api.cluster.operator_log.read_text(),
        "PostgreSQL's log": "".join(
            path.read_text(errors="replace") for path in Path(api.cluster.paths.logs).glob("postgres*")
        ),
    }
    for where, text in texts.items():
        assert text
        assert not [password for password in passwords if password in text], f"a password is in {where}"
        assert not re.search(r"postgres(ql)?://[^ /]+:[^ @]+@", text), f"a connection string is in {where}"


def test_a_second_operator_waits_for_the_lease(api: Api) -> None:
    environment = {
        **os.environ,
        "KUBECONFIG": str(api.cluster.paths.service_kubeconfig("operator")),
        "TENANTRY_BIND_ADDRESS": "127.0.0.1",
        "TENANTRY_LIVENESS_PORT": "0",
        "TENANTRY_METRICS_PORT": "0",
        "TENANTRY_LEASE_NAME": "tenantry-operator",
        "TENANTRY_LEASE_DURATION": "2s",
        "TENANTRY_LOG_FORMAT": "console",
    }
    with subprocess.Popen(
        [sys.executable, "-m", "tenantry_operator"], env=environment, stderr=subprocess.PIPE, text=True
    ) as second:
        try:
            time.sleep(6)
            assert second.poll() is None
            api.apply(tenant(SPACE, "contended", "notes"))
            api.ready(SPACE, "contended")
        finally:
            second.terminate()
            errors = second.stderr.read() if second.stderr else ""
    assert "waiting for the Lease" in errors
    assert "holding the Lease" not in errors
    roles = run(
        api.cluster.admin_dsn(), "SELECT count(*) FROM pg_roles WHERE rolname ~ '^notes__contended__[ab]$'"
    )
    assert roles == [(1,)]
