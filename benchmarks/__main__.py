"""``python -m benchmarks``: runs benchmarks, prints a table for each, and writes JSON."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

from benchmarks import (
    dedicated,
    drift,
    engines,
    facade,
    footprint,
    peers,
    provision,
    restart,
    rollout,
    sampling,
    steady,
    templates,
)
from benchmarks.environment import RESULTS, Result, as_json, machine, save, say, show
from benchmarks.population import populated
from tenantry_local.build import BuildError
from tenantry_local.errors import LocalError

NAMES = (
    "provision",
    "rollout",
    "template",
    "restart",
    "steady",
    "memory",
    "drift",
    "peers",
    "facade",
    "dedicated",
    "engines",
)
PROVISION, RESTART, PEERS, ENGINES = 1_000, 10_000, 100, 200


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measures Tenantry against references in the same run. Starts a cluster of its own on "
        "loopback, prints tables, writes JSON below benchmarks/results/, and removes the cluster.",
        epilog="provision: Tenants at once until Ready, against the same SQL by parallel psql. "
        "rollout: a version of one ALTER TABLE, against the same statement by parallel psql; and a rollout with "
        "nothing to do, against migrate_schemas of django-tenants. "
        "template: a new tenant with a database of 200 tables, against replaying the DDL by psql. "
        "restart: writes, statements, seconds and memory of a restart with nothing changed. "
        "steady: what a minute costs while nothing changes. "
        "memory: the operator against kopf alone. "
        "drift: damage done by hand until it is mended. "
        "peers: other operators on the same servers. "
        "facade: reads through each REST contract, against the same objects straight from kube-apiserver. "
        "dedicated: a tenant with a server of its own, against initdb, start and psql by hand. "
        "engines: Tenants on a shared server of each engine, against the same statements by plain clients, and "
        "what a sweep costs each server. "
        "python -m benchmarks.references: the references of rollout and template alone. "
        "Figures that were measured while the machine does other work are worth nothing.",
    )
    parser.add_argument("what", nargs="*", metavar="what", help=f"{', '.join(NAMES)}, all (the default)")
    parser.add_argument(
        "--tenants",
        type=int,
        metavar="N",
        help=f"Tenants; else {PROVISION:,} for provision and rollout, {RESTART:,} for restart, steady, memory and "
        "facade, "
        f"{PEERS} for peers, {ENGINES} on each engine for engines",
    )
    parser.add_argument(
        "--databases",
        type=int,
        metavar="N",
        help="Tenants under Database isolation; else a tenth of provision's; 0: none",
    )
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="times every damage is done (5)")
    parser.add_argument(
        "--ext-postgres-operator",
        type=Path,
        metavar="CHECKOUT",
        help="a checkout of that operator, to be built and measured by peers; else it is left out",
    )
    parser.add_argument("-o", dest="output", choices=["table", "json"], default="table", help="what is printed")
    parser.add_argument("--profile", action="store_true", help="sample the operator's stack while it provisions")
    arguments = parser.parse_args()
    unknown = set(arguments.what) - {*NAMES, "all"}
    if unknown:
        parser.error(f"no benchmark is called {', '.join(sorted(unknown))}; there are {', '.join(NAMES)} and all")
    return arguments


class _Output:
    """Shows and keeps every result as soon as it is there."""

    def __init__(self, style: str) -> None:
        self._style = style
        self._all: list[dict[str, Any]] = []

    async def take(self, measuring: Awaitable[Result]) -> None:
        before = machine()
        if before["load"][0] > 0.5 * (before["cpus"] or 1):
            say(f"the machine is busy (load {before['load'][0]}): these figures will say little")
        result = await measuring
        path = save(result, before)
        if self._style == "table":
            show(result, before)
            sys.stdout.flush()
        self._all.append(as_json(result, before))
        say(f"written to {path}")

    def end(self) -> None:
        if self._style == "json":
            sys.stdout.write(json.dumps(self._all, indent=2) + "\n")


async def _run(arguments: argparse.Namespace, output: _Output) -> None:
    asked = set(arguments.what) or {"all"}
    wanted = {*NAMES} if "all" in asked else asked
    if "provision" in wanted:
        count = arguments.tenants or PROVISION
        databases = arguments.databases if arguments.databases is not None else max(2, count // 10)
        samples: Path | None = None
        if arguments.profile:
            RESULTS.mkdir(exist_ok=True)
            samples = RESULTS / "operator-samples.json"
        await output.take(provision.run(count, databases, profile=samples))
        if samples is not None:
            say("where the operator spent its processor time:\n" + sampling.summarise(samples))
    if "rollout" in wanted:
        await output.take(rollout.run(arguments.tenants or PROVISION))
    if "template" in wanted:
        await output.take(templates.run())
    if wanted & {"restart", "steady", "memory"}:
        count = arguments.tenants or RESTART
        async with populated() as population:
            if "restart" in wanted:
                await output.take(restart.run(population, sorted({max(1, count // 10), count})))
            if "steady" in wanted:
                await output.take(steady.run(population, count))
            if "memory" in wanted:
                await output.take(footprint.run(population, count))
    if "drift" in wanted:
        await output.take(drift.run(arguments.rounds))
    if "peers" in wanted:
        await output.take(peers.run(arguments.tenants or PEERS, arguments.ext_postgres_operator))
    if "facade" in wanted:
        await output.take(facade.run(arguments.tenants or RESTART, PROVISION))
    if "dedicated" in wanted:
        await output.take(dedicated.run())
    if "engines" in wanted:
        await output.take(engines.run(arguments.tenants or ENGINES))


def main() -> int:
    """The command; its exit code says whether anything broke, never whether a figure is good."""
    arguments = _arguments()
    output = _Output(arguments.output)
    try:
        asyncio.run(_run(arguments, output))
    except (LocalError, BuildError, RuntimeError, TimeoutError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        output.end()
    return 0


if __name__ == "__main__":
    sys.exit(main())
