"""Asks a container whether it has started, is ready, and is alive."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import aiohttp

Probe = Mapping[str, Any]
Execute = Callable[[list[str], float], Awaitable[tuple[int, str]]]
"""Runs a command as the container would, for so many seconds at most; its exit code and the end of its output."""


async def ask(probe: Probe, container: Mapping[str, Any], address: str, execute: Execute) -> str:
    """One question; why the answer is no, or empty."""
    timeout = float(probe.get("timeoutSeconds") or 1)
    try:
        if "exec" in probe:
            code, said = await execute(list(probe["exec"].get("command") or []), timeout)
            return f"exit code {code}: {said}" if code else ""
        if "tcpSocket" in probe:
            action = probe["tcpSocket"]
            where = (_host(action, address), port_of(action["port"], container))
            _, writer = await asyncio.wait_for(asyncio.open_connection(*where), timeout)
            writer.close()
            return ""
        if "httpGet" in probe:
            return await asyncio.wait_for(_http(probe["httpGet"], container, address), timeout)
    except TimeoutError:
        return f"no answer within {timeout:g} s"
    except (OSError, aiohttp.ClientError, ValueError) as error:
        return str(error) or repr(error)
    return "this node knows exec, tcpSocket and httpGet probes only"


def port_of(port: int | str, container: Mapping[str, Any]) -> int:
    """A port by number or by the name the container gives it.

    :raises ValueError: when it has none of that name.
    """
    if isinstance(port, int) or str(port).isdigit():
        return int(port)
    for entry in container.get("ports") or []:
        if entry.get("name") == port:
            return int(entry["containerPort"])
    raise ValueError(f"container {container['name']} has no port {port}")


class Verdict:
    """Counts answers until a threshold is reached."""

    def __init__(self, probe: Probe, *, value: bool) -> None:
        self.value = value
        self._thresholds = {
            True: int(probe.get("successThreshold") or 1),
            False: int(probe.get("failureThreshold") or 3),
        }
        self._same: tuple[bool, int] = (value, 0)

    def add(self, answer: bool) -> bool:
        """Whether a threshold was reached by this answer."""
        count = self._same[1] + 1 if self._same[0] == answer else 1
        self._same = (answer, count)
        if count >= self._thresholds[answer]:
            self.value = answer
            return True
        return False


async def _http(action: Probe, container: Mapping[str, Any], address: str) -> str:
    scheme = str(action.get("scheme") or "HTTP").lower()
    path = str(action.get("path") or "/")
    url = f"{scheme}://{_host(action, address)}:{port_of(action['port'], container)}/{path.lstrip('/')}"
    headers = {entry["name"]: entry["value"] for entry in action.get("httpHeaders") or []}
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # as a kubelet's probes
    async with (
        aiohttp.ClientSession() as session,
        session.get(url, headers=headers, ssl=context, allow_redirects=False) as response,
    ):
        good = 200 <= response.status < 400
        return "" if good else f"HTTP probe failed with statuscode: {response.status}"


def _host(action: Probe, address: str) -> str:
    host = str(action.get("host") or "")
    return address if host in {"", "127.0.0.1", "localhost"} else host
