"""The node's process: ``python -m tenantry_local.node --folder .local/node``, with KUBECONFIG set."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from tenantry_local.errors import LocalError
from tenantry_local.node import runtime
from tenantry_local.node.addresses import Addresses, network_of
from tenantry_local.node.agent import Agent
from tenantry_local.node.claims import Claims
from tenantry_local.node.client import NodeClient
from tenantry_local.node.context import Context
from tenantry_local.node.images import Programs
from tenantry_local.node.users import Account
from tenantry_local.postgres import fsync_setting

BACK_OFF = 10.0
"""Seconds, a kubelet's."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the node until SIGTERM; returns the exit code. The pods' processes run on."""
    parser = argparse.ArgumentParser(prog="python -m tenantry_local.node", description="Runs pods as processes.")
    parser.add_argument("--kubeconfig", help="how to reach the API server; default: $KUBECONFIG")
    parser.add_argument("--folder", type=Path, required=True, help="where it keeps pods, volumes and logs")
    parser.add_argument("--back-off", type=float, default=BACK_OFF, help="seconds (default: %(default)s)")
    options = parser.parse_args(arguments)
    if options.kubeconfig:
        os.environ["KUBECONFIG"] = options.kubeconfig
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    try:
        asyncio.run(_run(options.folder, options.back_off))
    except LocalError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except (asyncio.CancelledError, KeyboardInterrupt):
        return 0
    return 0


async def _run(folder: Path, back_off: float) -> None:
    os.umask(0o022)  # folders that containers pass through say so; files with secrets are made private
    account = Account.find()
    for name in ("pods", "volumes", "log", "run"):
        (folder / name).mkdir(mode=0o711, exist_ok=True)
        (folder / name).chmod(0o711)
    client = await NodeClient.connect()
    address = urlsplit(client.base)
    context = Context(
        client=client,
        folder=folder,
        account=account,
        programs=Programs(account, fsync_setting()),
        addresses=Addresses(folder / "addresses.json", network_of(folder)),
        claims=Claims(client, folder / "volumes", account),
        back_off=back_off,
        api=(address.hostname or "127.0.0.1", address.port or 443),
    )
    runtime.keep_spare()
    task = asyncio.ensure_future(Agent(context).run())
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)
    try:
        await task
    finally:
        await client.close()


if __name__ == "__main__":
    sys.exit(main())
