"""What is planned for, and sent to, a server with Citus."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tenantry_crds.common import Isolation
from tenantry_operator.engines.base import (
    Chain,
    Credentials,
    DatabaseState,
    Desired,
    LoginState,
    Ownership,
    Presence,
)
from tenantry_operator.engines.postgres import citussteps
from tenantry_operator.engines.postgres.plan import plan
from tenantry_operator.engines.postgres.view import Distribution, Finding, Mend, View
from tenantry_operator.tenants.naming import group_of, names_for

CHAIN = Chain.of("shop/shop", "1.0", [])
NAMES = names_for(Isolation.SCHEMA, "shop", "acme", "main")
WANTED = Desired(
    installation="demo",
    tenant="shop/acme",
    tenant_id="acme",
    entry="main",
    isolation=Isolation.SCHEMA,
    names=NAMES,
    blueprint="shop/shop",
    presence=Presence.LIVE,
    chain=CHAIN,
    login=NAMES.login_a,
)
NODE = "worker-1:5432"
SETTLED = View(
    where="database shop",
    data=True,
    registered=True,
    roles=frozenset({NAMES.owner, group_of(NAMES.owner), NAMES.login_a}),
    logins={NAMES.login_a: LoginState(NAMES.login_a, enabled=True)},
    distribution=Distribution(True, True, NODE),
)
NOTHING = View(where="database shop", data=False, missing_roles=frozenset({NAMES.owner, group_of(NAMES.owner)}))


def steps(view: View, wanted: Desired = WANTED, *, credentials: bool = False) -> list[str]:
    state = DatabaseState(Ownership.OURS, exists=view.data, version="1.0", digest=CHAIN.digest, detail=view)
    return [step.name for step in plan(wanted, state, Credentials(NAMES.login_a, "x") if credentials else None)]


def test_nothing_is_done_to_what_is_distributed() -> None:
    assert steps(SETTLED) == []


def test_nothing_changes_without_citus() -> None:
    assert steps(NOTHING, credentials=True) == ["create-schema"]
    assert (
        steps(replace(SETTLED, distribution=None), replace(WANTED, presence=Presence.ABSENT))[-1] == "drop-schema"
    )


def test_a_new_tenant_is_distributed_once_it_is_made() -> None:
    view = replace(NOTHING, distribution=Distribution(True))
    assert steps(view, credentials=True) == ["create-schema", "sync-nodes", "distribute"]


def test_no_tenant_is_made_before_it_is_known_that_citus_is_there() -> None:
    view = replace(NOTHING, prepared=False, distribution=Distribution())
    assert steps(view, credentials=True)[:3] == ["prepare-database", "check-citus", "create-schema"]
    assert steps(replace(SETTLED, distribution=Distribution())) == ["check-citus", "sync-nodes", "distribute"]


@pytest.mark.parametrize("mend", [Mend.NODES, Mend.GRANTS])
def test_nodes_know_of_rights_before_the_coordinator_grants_them(mend: Mend) -> None:
    found = steps(replace(SETTLED, findings=(Finding("x", mend),)))
    assert found[0] == "sync-nodes"
    assert found[1:] == ([] if mend is Mend.NODES else ["mend-grants"])
    assert steps(replace(SETTLED, read_only=True)) == ["sync-nodes", "allow-writes"]


def test_a_suspended_tenant_is_distributed_only_where_that_can_be_done() -> None:
    refused = replace(WANTED, presence=Presence.REFUSED)
    assert steps(replace(SETTLED, distribution=Distribution(True)), refused)[-2:] == ["sync-nodes", "distribute"]
    assert "distribute" not in steps(replace(SETTLED, distribution=Distribution()), refused)
    assert "distribute" not in steps(replace(NOTHING, distribution=Distribution(True)), refused)


def test_nodes_come_first_when_a_tenant_is_dropped() -> None:
    absent = replace(WANTED, presence=Presence.ABSENT)
    assert steps(SETTLED, absent)[-2:] == ["drop-on-nodes", "drop-schema"]
    # The roles here bear the mark until the nodes are done.
    half = replace(SETTLED, data=False, distribution=Distribution(True))
    assert steps(half, absent)[-2:] == ["drop-on-nodes", "drop-schema"]
    assert steps(replace(half, roles=frozenset(), logins={}), absent) == []


def test_names_are_quoted_in_every_layer() -> None:
    names = replace(NAMES, schema="a'b\"c", owner="o'\"x", login_a="l'a", login_b='l"b')
    wanted = replace(WANTED, names=names)
    text = citussteps.render_sync(wanted)
    start, end = text.index("'") + 1, text.rindex("'")
    assert text[:start].split() in (["DO", "'"], ["DO", "E'"])
    body = text[start:end].replace("''", "'")
    assert 'GRANT "o\'""x" TO CURRENT_USER' in body
    assert "n.nspname = 'a''b\"c'" in body
    assert 'TABLES IN SCHEMA "a\'b""c"' in body
    script = citussteps.render_distribute("steward", wanted, "admin").body().decode()
    assert "citus_schema_distribute('\"a''b\"\"c\"'::pg_catalog.regnamespace)" in script


def test_only_what_is_meant_for_the_nodes_is_sent_there() -> None:
    lines = citussteps.render_drop("steward", WANTED, "admin").body().decode().replace(";\n", "\n").splitlines()
    on, off = (lines.index(f"SET LOCAL citus.enable_ddl_propagation = {value}") for value in ("on", "off"))
    assert lines[on + 1 : off] == ['DROP SCHEMA IF EXISTS "acme" CASCADE']
    assert lines[on - 1] == "SET LOCAL ROLE NONE"
    assert lines[-1] == 'REVOKE "shop__acme" FROM CURRENT_USER GRANTED BY CURRENT_USER'
