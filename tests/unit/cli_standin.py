"""What the tests of the command line talk to: its fixtures are in ``conftest``.

``Standin`` is a small real HTTP server (aiohttp, in a thread of its own) that stands in for the API server: the
command line connects to it with a kubeconfig and knows no difference. It keeps objects, counts resource versions,
lists in pages with label and field selectors, watches from a version on, applies merge patches, and can be told to
refuse, to cut connections, to forget old versions, and to be away.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web

from tenantry_operator.cli import __main__ as program

Object = dict[str, Any]
Act = Callable[[], Awaitable[None]]

NOW = datetime(2026, 3, 2, 10, 0, tzinfo=UTC)
TOKEN = "secret-of-jane"
KINDS = {
    "rollouts": "Rollout",
    "tenants": "Tenant",
    "blueprints": "Blueprint",
    "blueprintversions": "BlueprintVersion",
    "configmaps": "ConfigMap",
}


@dataclass
class Asked:
    """A request that came."""

    method: str
    path: str
    query: dict[str, str]
    body: Any
    headers: dict[str, str]


@dataclass
class Standin:
    """The server. Objects may be changed from the test while no command runs, and from acts while one does."""

    port: int = 0
    objects: dict[tuple[str, str, str], Object] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    refusals: dict[tuple[str, str], tuple[int, str]] = field(default_factory=dict)
    """By method (or WATCH) and plural: the status and message to answer with."""
    acts: deque[Act] = field(default_factory=deque)
    """What happens while something is watched: each is for one watch, and begins when that is opened."""
    tokens: set[str] = field(default_factory=lambda: {TOKEN})
    lifetime: str = "2026-03-02T11:00:00Z"
    """When tokens expire that are asked for."""
    page: int = 500
    _version: int = 100
    _forgotten: int = 0
    _history: list[tuple[int, str, str, Object]] = field(default_factory=list)
    _watchers: list[asyncio.Queue[Object | None]] = field(default_factory=list)
    _acting: set[asyncio.Task[None]] = field(default_factory=set)
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)
    _runner: web.AppRunner | None = None
    _site: web.TCPSite | None = None

    # What a test does

    def put(self, plural: str, obj: Object) -> Object:
        """Makes or replaces an object, and tells those who watch."""
        self._version += 1
        meta = {"uid": f"uid-{obj['metadata']['name']}", "generation": 1, **obj["metadata"]}
        meta["resourceVersion"] = str(self._version)
        meta["managedFields"] = [{"manager": "kubectl", "operation": "Apply"}]
        obj = {"apiVersion": "tenantry.dev/v1alpha1", "kind": KINDS[plural], **obj, "metadata": meta}
        key = (plural, meta.get("namespace", ""), meta["name"])
        self._tell("MODIFIED" if key in self.objects else "ADDED", plural, obj)
        self.objects[key] = obj
        return obj

    def remove(self, plural: str, namespace: str, name: str) -> Object:
        """Deletes an object, and tells those who watch."""
        self._version += 1
        obj = self.objects.pop((plural, namespace, name))
        obj = {**obj, "metadata": {**obj["metadata"], "resourceVersion": str(self._version)}}
        self._tell("DELETED", plural, obj)
        return obj

    def cut(self) -> None:
        """Breaks the connections of all watches."""
        for queue in self._watchers:
            queue.put_nowait(None)

    def forget(self) -> None:
        """Watches from the versions so far are answered with 410."""
        self._forgotten = self._version

    async def away(self, seconds: float) -> None:
        """Answers nobody for a while: the port is closed."""
        assert self._runner is not None
        assert self._site is not None
        self.cut()
        await self._site.stop()
        await asyncio.sleep(seconds)
        await self._listen()

    def paths(self, method: str) -> list[str]:
        """Which paths were asked with a method."""
        return [asked.path for asked in self.asked if asked.method == method]

    # What the server does

    def _tell(self, kind: str, plural: str, obj: Object) -> None:
        self._history.append((self._version, plural, kind, obj))
        for queue in self._watchers:
            queue.put_nowait({"type": kind, "object": obj})

    async def _listen(self) -> None:
        assert self._runner is not None
        self._site = web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True)
        await self._site.start()
        self.port = self._runner.addresses[0][1]

    async def _open(self) -> None:
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await self._listen()

    async def _close(self) -> None:
        for task in self._acting:
            task.cancel()
        await asyncio.gather(*self._acting, return_exceptions=True)
        self.cut()
        assert self._runner is not None
        await self._runner.cleanup()

    def run(self, ready: threading.Event) -> None:
        """The thread."""
        self._loop.run_until_complete(self._open())
        ready.set()
        self._loop.run_forever()
        self._loop.run_until_complete(self._close())
        self._loop.close()

    def stop(self) -> None:
        """Ends the thread."""
        self._loop.call_soon_threadsafe(self._loop.stop)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        query = dict(request.query)
        body = json.loads(raw) if raw else None
        asked = Asked(request.method, request.path, query, body, dict(request.headers))
        self.asked.append(asked)
        if request.headers.get("Authorization") not in {f"Bearer {token}" for token in self.tokens}:
            return _status(401, "Unauthorized", "Unauthorized")
        parts = request.path.strip("/").split("/")
        parts = parts[3:] if parts[0] == "apis" else parts[2:]
        namespace = ""
        if len(parts) > 2 and parts[0] == "namespaces":
            namespace, parts = parts[1], parts[2:]
        plural, name = parts[0], parts[1] if len(parts) > 1 else ""
        verb = "WATCH" if query.get("watch") else request.method
        if (verb, plural) in self.refusals:
            status, message = self.refusals[verb, plural]
            return _status(status, "Forbidden" if status == 403 else "Refused", message)
        if parts[-1] == "token":
            return self._token(namespace, name)
        if plural not in KINDS:
            return web.Response(status=404, text="404 page not found\n")
        if verb == "WATCH":
            return await self._watch(request, asked, plural, namespace)
        if not name:
            return self._list(plural, namespace, query)
        return self._one(asked, plural, namespace, name)

    def _token(self, namespace: str, account: str) -> web.Response:
        if account == "nobody":
            return _status(404, "NotFound", f'serviceaccounts "{account}" not found')
        value = {"token": f"token-of-{namespace}-{account}", "expirationTimestamp": self.lifetime}
        return web.json_response({"kind": "TokenRequest", "status": value}, status=201)

    def _list(self, plural: str, namespace: str, query: dict[str, str]) -> web.Response:
        found = [
            {key: value for key, value in obj.items() if key not in ("apiVersion", "kind")}
            for (kind, where, _), obj in self.objects.items()
            if kind == plural and namespace in ("", where) and _matches(obj, query)
        ]
        begin = int(query.get("continue") or 0)
        end = begin + min(self.page, int(query.get("limit") or 500))
        meta = {"resourceVersion": str(self._version)}
        if end < len(found):
            meta["continue"] = str(end)
        kind = f"{KINDS[plural]}List"
        answer = {"apiVersion": "tenantry.dev/v1alpha1", "kind": kind, "metadata": meta, "items": found[begin:end]}
        return web.json_response(answer)

    def _one(self, asked: Asked, plural: str, namespace: str, name: str) -> web.Response:
        obj = self.objects.get((plural, namespace, name))
        if obj is None:
            return _status(404, "NotFound", f'{plural}.tenantry.dev "{name}" not found')
        if asked.method == "PATCH":
            assert asked.headers["Content-Type"] == "application/merge-patch+json"
            changed = _merge(obj, asked.body)
            if changed["spec"] != obj["spec"]:
                changed["metadata"]["generation"] = obj["metadata"]["generation"] + 1
            obj = self.put(plural, changed)
        elif asked.method == "DELETE":
            wanted = ((asked.body or {}).get("preconditions") or {}).get("uid")
            if wanted not in (None, obj["metadata"]["uid"]):
                return _status(409, "Conflict", "the UID in the precondition does not match")
            obj = self.remove(plural, namespace, name)
        return web.json_response(obj)

    async def _watch(self, request: web.Request, asked: Asked, plural: str, namespace: str) -> web.StreamResponse:
        version = int(asked.query["resourceVersion"])
        response = web.StreamResponse()
        await response.prepare(request)
        if version < self._forgotten:
            gone = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version"}
            await response.write(json.dumps({"type": "ERROR", "object": gone}).encode() + b"\n")
            return response
        queue: asyncio.Queue[Object | None] = asyncio.Queue()
        for number, kind, event, obj in self._history:
            if number > version and kind == plural:
                queue.put_nowait({"type": event, "object": obj})
        self._watchers.append(queue)
        if self.acts:
            task = self._loop.create_task(self.acts.popleft()())  # type: ignore[arg-type]
            self._acting.add(task)
        try:
            async with asyncio.timeout(float(asked.query["timeoutSeconds"])):
                while (event := await queue.get()) is not None:
                    if event["object"]["metadata"].get("namespace", "") == namespace and _matches(
                        event["object"], asked.query
                    ):
                        await self._send(response, event)
            if request.transport is not None:
                request.transport.abort()
        except (TimeoutError, ConnectionError):
            pass
        finally:
            self._watchers.remove(queue)
        return response

    async def _send(self, response: web.StreamResponse, event: Object) -> None:
        # In two pieces: nobody promises that a line comes as one.
        line = json.dumps(event).encode() + b"\n"
        await response.write(line[:40])
        await asyncio.sleep(0)
        await response.write(line[40:])


def _status(code: int, reason: str, message: str) -> web.Response:
    body = {"kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": message}
    return web.json_response(body, status=code)


def _matches(obj: Object, query: dict[str, str]) -> bool:
    for requirement in filter(None, query.get("labelSelector", "").split(",")):
        key, _, value = requirement.partition("=")
        if (obj["metadata"].get("labels") or {}).get(key) != value:
            return False
    for requirement in filter(None, query.get("fieldSelector", "").split(",")):
        key, _, value = requirement.partition("=")
        found: Any = obj
        for part in key.split("."):
            found = (found or {}).get(part)
        if found != value:
            return False
    return True


def _merge(target: Any, patch: Any) -> Any:
    """RFC 7396."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = _merge(merged.get(key), value)
    return merged


@dataclass
class Result:
    """What a command did."""

    code: int
    out: str
    err: str


class Cli:
    """Runs the program in this process, as its scripts would."""

    def __init__(self, capture: pytest.CaptureFixture[str]) -> None:
        self._capture = capture

    def __call__(self, *arguments: str) -> Result:
        self._capture.readouterr()
        code = program._run(list(arguments), "tenantry")
        said = self._capture.readouterr()
        return Result(code, said.out, said.err)


def write_kubeconfig(path: Path, server: str, *, token: str = TOKEN, user: Object | None = None) -> None:
    """A kubeconfig with the contexts ``dev`` (namespace ``shop``) and ``bare`` (no namespace)."""
    contexts = [
        {"name": "dev", "context": {"cluster": "c", "user": "jane", "namespace": "shop"}},
        {"name": "bare", "context": {"cluster": "c", "user": "jane"}},
    ]
    value = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "dev",
        "clusters": [{"name": "c", "cluster": {"server": server}}],
        "users": [{"name": "jane", "user": user or {"token": token}}],
        "contexts": contexts,
    }
    path.write_text(yaml.safe_dump(value), encoding="utf-8")


def rollout(phase: str = "Running", **status: Any) -> Object:
    """The Rollout ``shop/shop-1.1`` of ten tenants in two waves."""
    waves = [
        {"name": "canary", "total": 2, "completed": 2, "failed": 0, "soakUntil": "2026-03-02T09:40:00Z"},
        {"name": "default", "total": 8, "completed": 1, "failed": 0},
    ]
    known = {
        "phase": phase,
        "wave": "default",
        "waves": waves,
        "total": 10,
        "completed": 3,
        "failed": 0,
        "skipped": 0,
        "running": 4,
        "progress": 30,
        "startedAt": "2026-03-02T09:30:00Z",
        "message": "3 of 10 tenants have version 1.1",
        "round": "1/",
    }
    return {
        "metadata": {"name": "shop-1.1", "namespace": "shop", "creationTimestamp": "2026-03-02T09:29:55Z"},
        "spec": {
            "blueprint": "shop",
            "version": "1.1",
            "waves": [{"name": "canary", "selector": {"matchLabels": {"ring": "canary"}}, "soak": "5m"}],
        },
        "status": {**known, **status},
    }
