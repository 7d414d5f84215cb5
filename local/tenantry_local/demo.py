"""``make demo``: the examples, live: isolations, a suspension, REST, a dedicated server, four engines.

Everything it says was just tried against the servers; what turns out otherwise ends it with an error.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
from psycopg import sql
from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from tenantry_local import logins, programs, rest
from tenantry_local.cluster import Cluster
from tenantry_local.errors import LocalError
from tenantry_local.kubectl import kubectl_binary
from tenantry_local.paths import CHECKOUT
from tenantry_local.postgres import binaries
from tenantry_local.tenants import TenantView, server_message, try_login, try_statement, wait_for_tenants

NAMESPACE = "shop"
MANAGER = "tenantry-demo"
EXAMPLES = CHECKOUT / "examples" / "shop"
ENGINES, STUDIO = CHECKOUT / "examples" / "engines", "studio"


def run(cluster: Cluster) -> int:
    """Starts the cluster, applies ``examples/shop``, and shows what it gives; returns the exit code.

    :raises LocalError: when something is not as it should be.
    """
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)
    console.rule("[bold]1. A cluster on this machine", align="left")
    cluster.up()
    console.rule("[bold]2. The examples: a shop schema, three tenants", align="left")
    tenants = _apply(cluster, console)
    console.rule("[bold]3. What each tenant can reach", align="left")
    _show_isolation(cluster, console, tenants)
    console.rule("[bold]4. Suspend and resume", align="left")
    _show_suspension(cluster, console, tenants[0])
    console.rule("[bold]5. The same tenants by REST", align="left")
    for call, answer in rest.walk(cluster):
        console.print(f"  {call}", style="bold", markup=False, soft_wrap=True)
        console.print(f"    {answer}", markup=False, soft_wrap=True)
    console.rule("[bold]6. A server of its own, and four engines at once", align="left")
    _show_engines(cluster, console)
    console.rule("[bold]What to try next", align="left")
    _show_next(cluster, console, tenants[0])
    return 0


@dataclass(frozen=True, slots=True)
class _Attempt:
    """Something a tenant's login tries, that must be refused."""

    who: TenantView
    what: str
    refusal: str | None


def _apply(cluster: Cluster, console: Console) -> list[TenantView]:
    if not EXAMPLES.is_dir():
        raise LocalError(f"{EXAMPLES} is missing: run `make demo` in a complete checkout of Tenantry")
    # Forced: an interrupted demo leaves a tenant whose state belongs to another field manager.
    flags = ("--server-side", "--force-conflicts", f"--field-manager={MANAGER}")
    applied = cluster.kubectl("apply", *flags, "-f", str(EXAMPLES))
    for line in applied.splitlines():
        console.print(f"  {escape(line)}")
    with Live(console=console, refresh_per_second=8, transient=True) as live:
        tenants = wait_for_tenants(
            cluster.kubectl,
            NAMESPACE,
            lambda tenant: tenant.ready and tenant.phase == "Ready",
            show=lambda tenants: live.update(_table(tenants)),
        )
    console.print(_table(tenants))
    return tenants


def _table(tenants: list[TenantView]) -> Table:
    table = Table("Tenant", "State", "Phase", "Isolation", "Database", "Schema", "Version", "Secret")
    for t in tenants:
        phase = f"[green]{t.phase}[/]" if t.ready else f"[yellow]{t.phase}[/] {escape(t.message)}"
        table.add_row(t.name, t.state, phase, t.isolation, t.database, t.schema, t.version, t.secret)
    return table


def _show_isolation(cluster: Cluster, console: Console, tenants: list[TenantView]) -> None:
    uris = {tenant.name: cluster.tenant_uri(NAMESPACE, tenant.secret) for tenant in tenants}
    emails = {tenant.name: f"owner@{tenant.name}.example" for tenant in tenants}
    for tenant in tenants:
        email = emails[tenant.name]
        found = _users(tenant, uris[tenant.name], email)
        if set(emails.values()) & set(found) != {email}:
            raise LocalError(f"{tenant.name} should see its own users only, and sees {', '.join(found)}")
        console.print(f"  {tenant.name:<8} reads its users  [green]{escape(', '.join(found))}[/]")
    attempts = [a for who in tenants for a in _attempts(who, uris[who.name], tenants)]
    for attempt in attempts:
        if attempt.refusal is None:
            raise LocalError(f"{attempt.who.name} was not refused: {attempt.what}")
        console.print(f"  {attempt.who.name:<8} {escape(attempt.what)}  [red]{escape(attempt.refusal)}[/]")
    if not attempts:
        raise LocalError("the examples hold no two tenants that could reach for each other's data")


def _users(tenant: TenantView, uri: str, email: str) -> list[str]:
    """Adds a user with the tenant's login, and reads all there are."""
    statement = "INSERT INTO users (email, name, role) VALUES (%s, %s, 'owner') ON CONFLICT DO NOTHING"
    try:
        with psycopg.connect(uri) as connection:
            connection.execute(statement, [email, f"Owner of {tenant.name}"])
            return [str(row[0]) for row in connection.execute("SELECT email FROM users ORDER BY 1")]
    except psycopg.Error as error:
        raise LocalError(f"{tenant.name} cannot use its own database: {server_message(error)}") from error


def _attempts(who: TenantView, uri: str, tenants: list[TenantView]) -> list[_Attempt]:
    """What the tenant's login tries on each of the others."""
    databases = sorted({other.database for other in tenants} - {who.database})
    result = [
        _Attempt(who, f"connect to {database}", try_login(_in_database(uri, database))) for database in databases
    ]
    for other in tenants:
        if other.database == who.database and other.schema != who.schema:
            statement = sql.SQL("SELECT * FROM {}.users").format(sql.Identifier(other.schema))
            result.append(_Attempt(who, statement.as_string(), try_statement(uri, statement)))
    return result


def _show_suspension(cluster: Cluster, console: Console, tenant: TenantView) -> None:
    uri = cluster.tenant_uri(NAMESPACE, tenant.secret)
    _set_state(cluster, tenant.name, "Suspended")
    _wait_phase(cluster, tenant.name, "Suspended")
    refusal = try_login(uri)
    if refusal is None:
        raise LocalError(f"{tenant.name} is suspended, and yet its login works")
    console.print(f"  {tenant.name} suspended: login refused, [red]{escape(refusal)}[/]")
    _set_state(cluster, tenant.name, "Active")
    _wait_phase(cluster, tenant.name, "Ready")
    refusal = try_login(cluster.tenant_uri(NAMESPACE, tenant.secret))
    if refusal is not None:
        raise LocalError(f"{tenant.name} is active again, and yet its login is refused: {refusal}")
    console.print(f"  {tenant.name} resumed: [green]login works[/], the data is where it was")


def _show_engines(cluster: Cluster, console: Console) -> None:
    programs.install()
    flags = ("--server-side", "--force-conflicts", f"--field-manager={MANAGER}")
    cluster.kubectl("apply", *flags, "-f", str(ENGINES))
    wait_for_tenants(cluster.kubectl, STUDIO, lambda tenant: tenant.ready and tenant.phase == "Ready", timeout=180)
    table = Table("Tenant", "Database", "Engine", "Server", "Written and read with its login")
    for tenant in cluster.kubectl.get("tenants.tenantry.dev", "-n", STUDIO)["items"]:
        for database in tenant["status"]["databases"]:
            secret = cluster.kubectl.secret(STUDIO, database["secret"])
            try:
                word = logins.use(secret)
            except logins.Refused as error:
                raise LocalError(f"{tenant['metadata']['name']} cannot use {database['name']}: {error}") from error
            server = f"{database['instanceNamespace']}/{database['instance']}"
            name = tenant["metadata"]["name"]
            table.add_row(name, database["database"], database["engine"], server, f"[green]{word}[/]")
    console.print(table)
    console.print("  the servers are pods of StatefulSets, which the node runs as processes of this machine:")
    for line in cluster.kubectl("get", "pods", "-A", "-l", "tenantry.dev/instance").splitlines():
        console.print(f"    {line}", markup=False, soft_wrap=True)


def _show_next(cluster: Cluster, console: Console, tenant: TenantView) -> None:
    env = cluster.paths.dev_env
    programs = f"{Path(kubectl_binary()).parent}:{binaries()}"  # kubectl, psql
    secret = f"kubectl -n {NAMESPACE} get secret {tenant.secret} -o jsonpath='{{.data.uri}}' | base64 -d"
    for line in (
        f"  set -a; . {env}; set +a; export PATH={programs}:$PATH",
        "  kubectl get tenants -A",
        f"  kubectl -n {NAMESPACE} describe tenant {tenant.name}",
        f'  psql "$({secret})"',
        f"  kubectl -n {NAMESPACE} annotate --overwrite tenant {tenant.name} tenantry.dev/rotate=$(date +%s)",
        f'  curl -H "Authorization: Bearer $TENANTRY_ADMIN_TOKEN" {cluster.api_url}/api/v3/tenants',
        f"  {cluster.api_url}/api/v3/docs    to browse a contract; also /api/v1, /api, /tenant-management/v1",
        "  make status    what runs;    make down    stop it;    make clean    remove it with its data",
    ):
        console.print(line, soft_wrap=True, markup=False)


def _set_state(cluster: Cluster, name: str, state: str) -> None:
    patch = json.dumps({"spec": {"state": state}})
    cluster.kubectl("patch", "tenant", name, "-n", NAMESPACE, "--type=merge", "-p", patch)


def _wait_phase(cluster: Cluster, name: str, phase: str) -> None:
    wait_for_tenants(
        cluster.kubectl,
        NAMESPACE,
        lambda tenant: tenant.name != name or (tenant.ready and tenant.phase == phase),
        timeout=60,
    )


def _in_database(uri: str, database: str) -> str:
    return urlunsplit(urlsplit(uri)._replace(path=f"/{database}"))
