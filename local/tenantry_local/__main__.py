"""The command line: ``python -m tenantry_local up|down|status|logs|demo|...``.

Exit codes: 0 done (``status``: everything runs); 1 failed, or ``status`` found something that does not
run; 2 wrong usage; 130 interrupted.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence

from tenantry_local import demo
from tenantry_local.build import BuildError
from tenantry_local.cluster import PROCESSES, Cluster
from tenantry_local.errors import LocalError
from tenantry_local.node.process import logs_of

EPILOG = """\
The cluster lives in .local of the checkout, or in the folder TENANTRY_LOCAL_DIR names.
TENANTRY_FSYNC=off makes PostgreSQL faster and forgetful: for benchmarks.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    options = _parser().parse_args(arguments)
    run: Callable[[argparse.Namespace], int] = options.run
    try:
        return run(options)
    except (LocalError, BuildError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of our output is gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tenantry_local",
        description="The one-machine cluster: a real control plane, PostgreSQL, the operator and the facade.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")

    up = commands.add_parser("up", help="start what does not run, and write .local/dev.env")
    up.add_argument("--no-operator", action="store_true", help="leave the operator out")
    up.add_argument("--no-api", action="store_true", help="leave the facade out")
    up.set_defaults(run=_up)

    down = commands.add_parser("down", help="stop everything; data stays")
    down.set_defaults(run=_down)

    clean = commands.add_parser("clean", help="stop everything and remove the cluster with its data")
    clean.set_defaults(run=_clean)

    restart = commands.add_parser("restart", help="start a process anew, the operator after a change say")
    restart.add_argument("name", choices=["operator", "api", "node"])
    restart.set_defaults(run=_restart)

    status = commands.add_parser("status", help="say what runs")
    status.add_argument("-o", "--output", choices=["text", "json"], default="text", help="how to print it")
    status.set_defaults(run=_status)

    logs = commands.add_parser("logs", help="print the end of the logs")
    logs.add_argument(
        "name", nargs="?", default="operator", help=f"{', '.join(PROCESSES)}, or [namespace/]pod[/container]"
    )
    logs.add_argument("-n", "--lines", type=int, default=100, help="how many lines (default: %(default)s)")
    logs.add_argument("-f", "--follow", action="store_true", help="go on as the log grows")
    logs.set_defaults(run=_logs)

    show = commands.add_parser("demo", help="start, apply the examples, and show isolation and suspension")
    show.set_defaults(run=lambda _: demo.run(_cluster()))
    return parser


def _cluster() -> Cluster:
    return Cluster(say=lambda line: print(line, flush=True))


def _up(options: argparse.Namespace) -> int:
    cluster = _cluster()
    cluster.up(operator=not options.no_operator, api=not options.no_api)
    print(f"\nIn a shell:  set -a; . {cluster.paths.dev_env}; set +a; kubectl get tenants -A")
    return 0


def _down(_: argparse.Namespace) -> int:
    _cluster().down()
    return 0


def _clean(_: argparse.Namespace) -> int:
    _cluster().clean()
    return 0


def _restart(options: argparse.Namespace) -> int:
    cluster = _cluster()
    cluster.stop(options.name)
    if options.name == "operator":
        pid = cluster.start_operator()
    else:
        pid = cluster.start_api() if options.name == "api" else cluster.start_node()
    print(f"{options.name} runs as process {pid}")
    return 0


def _status(options: argparse.Namespace) -> int:
    cluster = Cluster()
    found = cluster.status()
    if options.output == "json":
        processes = [
            {"name": name, "running": pid is not None, "pid": pid, "log": str(cluster.paths.log(name))}
            for name, pid in found.items()
        ]
        running = all(pid is not None for pid in found.values())
        value = {"folder": str(cluster.paths.home), "running": running, "processes": processes}
        print(json.dumps(value, indent=2))
    else:
        for name, pid in found.items():
            print(f"{name:<24} {f'running, process {pid}' if pid else 'not running'}")
    return 0 if all(found.values()) else 1


def _logs(options: argparse.Namespace) -> int:
    cluster = Cluster()
    files = (
        [cluster.paths.log(options.name)] if options.name in PROCESSES else logs_of(cluster.paths, options.name)
    )
    if not files[0].exists():
        raise LocalError(f"there is no {files[0]} yet; run `make up`")
    tail = ["tail", "-n", str(options.lines), *(["-F"] if options.follow else []), *map(str, files)]
    sys.stdout.flush()
    os.execvp("tail", tail)  # noqa: S606 - it takes this process's place, and its Ctrl-C


if __name__ == "__main__":
    sys.exit(main())
