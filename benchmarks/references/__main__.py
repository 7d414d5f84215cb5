"""``python -m benchmarks.references``: measures the references alone, on a PostgreSQL of their own."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from functools import partial

from benchmarks.environment import Result, as_json, machine, save, say, show
from benchmarks.peers import Server
from benchmarks.references import alter, migrate, replay, tables
from benchmarks.references.psql import server_alone
from tenantry_local.errors import LocalError

NAMES = ("alter", "migrate", "replay")
TENANTS = 1_000


def _alter(server: Server, count: int, runs: int) -> Result:
    with alter.shop_schemas(server, count) as (database, schemas):
        made = alter.shop_tables(server, database, schemas[-1])
        found = alter.alter(server, database, schemas, runs=runs)
    result = Result("references-alter", f"One ALTER TABLE in {count:,} schemas of {made} tables, by psql")
    for each in found:
        result.add(str(each.way), f"{each.rate:.0f} statements a second")
    result.data = {"tables": made, "ways": [each.data() for each in found]}
    return result


def _migrate(server: Server, count: int, runs: int) -> Result:
    result = Result("references-migrate", f"migrate_schemas of django-tenants, nothing to do, {count:,} tenants")
    for found in migrate.measure(server, count, runs=runs):
        result.add(str(found.way), f"{found.median:.1f} s, {count / found.median:.0f} tenants a second")
        result.data[found.way.executor] = found.data()
    return result


def _replay(server: Server, runs: int) -> Result:
    found = replay.replay(server, runs=runs)
    result = Result(
        "references-replay", f"A new database of {tables.TABLES} tables by replaying the DDL with psql"
    )
    spread = f"{min(found.seconds):.2f} to {max(found.seconds):.2f}"
    result.add(f"{runs} databases, one after the other", f"{found.median:.2f} s each ({spread})")
    result.data = found.data()
    return result


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.references",
        description="Measures what Tenantry's rollouts are compared with, without Tenantry, on a PostgreSQL of "
        "its own with the settings of the one-machine cluster, removed at the end. Prints tables, writes JSON "
        "below benchmarks/results/.",
    )
    parser.add_argument("what", nargs="*", metavar="what", help=f"{', '.join(NAMES)}; all without any")
    parser.add_argument("--tenants", type=int, default=TENANTS, metavar="N", help=f"schemas ({TENANTS:,})")
    parser.add_argument("--runs", type=int, default=3, metavar="N", help="of each way of alter and migrate (3)")
    parser.add_argument("--databases", type=int, default=replay.RUNS, metavar="N", help=f"({replay.RUNS})")
    parser.add_argument("-o", dest="output", choices=["table", "json"], default="table", help="what is printed")
    arguments = parser.parse_args()
    unknown = set(arguments.what) - set(NAMES)
    if unknown:
        parser.error(f"no reference is called {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    return arguments


def main() -> int:
    """The command; its exit code says whether anything broke, never whether a figure is good."""
    arguments = _arguments()
    all_of_them: dict[str, Callable[[Server], Result]] = {
        "alter": partial(_alter, count=arguments.tenants, runs=arguments.runs),
        "migrate": partial(_migrate, count=arguments.tenants, runs=arguments.runs),
        "replay": partial(_replay, runs=arguments.databases),
    }
    results = []
    try:
        for name in NAMES:
            if arguments.what and name not in arguments.what:
                continue
            before = machine()
            with server_alone() as server:
                result = all_of_them[name](server)
            path = save(result, before)
            results.append(as_json(result, before))
            if arguments.output == "table":
                show(result, before)
                sys.stdout.flush()
            say(f"written to {path}")
    except (LocalError, RuntimeError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        if arguments.output == "json":
            sys.stdout.write(json.dumps(results, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
