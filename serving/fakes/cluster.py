"""A strict stand-in for a Kubernetes API server: objects in memory, over HTTP, as JSON.

It keeps the rules that lenient stand-ins hide: every write moves one resourceVersion, an update
without the version read is refused (422) and with an old one too (409), a merge patch with a list
as its body is refused (422), a watch begins after a version and is told 410 when that is forgotten,
bookmarks move it on, custom objects are checked against a schema. Not there: paging, server-side
apply, other kinds of patch, admission, namespaces' life.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import msgspec
from aiohttp import web

from serving.fakes.cluster_rules import Refusal, label_of, merged, selects, status_body

Object: TypeAlias = dict[str, Any]
Check: TypeAlias = Callable[[Object], str]
"""Why an object may not be stored; empty if it may."""
HISTORY_MAX = 1000
MERGE = "application/merge-patch+json"
COLLECTIONS = {
    "leases": "/apis/coordination.k8s.io/v1",
    "rayclusters": "/apis/ray.io/v1",
    "pods": "/api/v1",
    "events": "/api/v1",
    "nodes": "/api/v1",
}


@dataclass(slots=True)
class Fault:
    """What the next matching calls get in place of an answer."""

    method: str
    part: str
    status: int
    times: int
    retry_after: str = ""


@dataclass(slots=True)
class FakeCluster:
    """The server's state; `app` serves it."""

    token: str = "fake-token"  # noqa: S105 - a fake's
    checks: Mapping[str, Check] = field(default_factory=dict)
    """By collection."""
    objects: dict[str, dict[str, Object]] = field(default_factory=dict)
    """By collection path, then by name."""
    faults: list[Fault] = field(default_factory=list)
    calls: list[tuple[str, str]] = field(default_factory=list)
    version: int = 100
    forgotten: int = 0
    """Versions up to here can no longer be watched from."""
    history: list[tuple[int, str, str, Object]] = field(default_factory=list)
    watchers: dict[int, asyncio.Queue[bytes | None]] = field(default_factory=dict)
    _watched: dict[int, str] = field(default_factory=dict)
    _numbers: Any = field(default_factory=itertools.count)

    def app(self) -> web.Application:
        """To be served by aiohttp."""
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        return app

    def fail(self, method: str, part: str, status: int, times: int = 1, retry: str = "") -> None:
        """Answer the next `times` calls whose path holds `part` with `status`."""
        self.faults.append(Fault(method, part, status, times, retry))

    def put(self, path: str, body: Object) -> Object:
        """Store an object as the server's own controllers do, at `collection/name`."""
        folder, _, name = path.rpartition("/")
        kind = "MODIFIED" if name in self.objects.get(folder, {}) else "ADDED"
        return self._store(folder, name, body, kind)

    def remove(self, path: str) -> None:
        """Delete it."""
        folder, _, name = path.rpartition("/")
        gone = self.objects[folder].pop(name)
        self._tell(folder, "DELETED", gone)

    def compact(self) -> None:
        """Forget all versions before now; watches that begin there are told 410."""
        self.forgotten, self.history = self.version, []

    def bookmark(self) -> None:
        """Move all watches on to the version of now."""
        mark = {"metadata": {"resourceVersion": str(self.version)}}
        for number in self.watchers:
            self.watchers[number].put_nowait(_line("BOOKMARK", mark))

    def end_watches(self, status: int = 0) -> None:
        """End all watches, with an ERROR event first if a status is given."""
        for queue in self.watchers.values():
            if status:
                queue.put_nowait(_line("ERROR", status_body(status, "the watch ended")))
            queue.put_nowait(None)

    def _store(self, folder: str, name: str, body: Object, kind: str) -> Object:
        self.version += 1
        old = self.objects.setdefault(folder, {}).get(name)
        meta = dict(body.get("metadata") or {}) | {
            "name": name, "resourceVersion": str(self.version),
            "uid": old["metadata"]["uid"] if old else f"uid-{self.version}",
        }  # fmt: skip
        stored = dict(body) | {"metadata": meta}
        self.objects[folder][name] = stored
        self._tell(folder, kind, stored)
        return stored

    def _tell(self, folder: str, kind: str, body: Object) -> None:
        if kind == "DELETED":
            self.version += 1
            meta = body["metadata"] | {"resourceVersion": str(self.version)}
            body = dict(body) | {"metadata": meta}
        self.history.append((self.version, folder, kind, body))
        if len(self.history) > HISTORY_MAX:
            self.forgotten = self.history.pop(0)[0]
        for number, path in self._watched.items():
            if path == folder:
                self.watchers[number].put_nowait(_line(kind, body))

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        path = "/" + request.match_info["path"]
        self.calls.append((request.method, path))
        try:
            if request.headers.get("Authorization") != f"Bearer {self.token}":
                raise Refusal(401, "Unauthorized")
            for fault in self.faults:
                if fault.times and fault.method == request.method and fault.part in path:
                    fault.times -= 1
                    raise Refusal(fault.status, "as the test wishes", fault.retry_after)
            if request.query.get("watch") == "true":
                return await self._watch(request, path)
            body = await request.read()
            found = self._do(request, path, msgspec.json.decode(body) if body else None)
        except Refusal as no:
            headers = {"Retry-After": no.retry_after} if no.retry_after else {}
            return web.json_response(status_body(no.status, str(no)), status=no.status,
                                     headers=headers)  # fmt: skip
        return web.json_response(found, status=201 if request.method == "POST" else 200)

    def _do(self, request: web.Request, path: str, body: Any) -> Object:
        folder, _, name = path.rpartition("/")
        if name in COLLECTIONS:
            if request.method == "GET":
                return self._list(path, request.query.get("labelSelector", ""))
            if request.method == "POST":
                return self._create(path, body)
            raise Refusal(405, "the server does not allow this method on the resource")
        held = self.objects.get(folder, {}).get(name)
        if held is None:
            raise Refusal(404, f'{folder.rpartition("/")[2]} "{name}" not found')
        match request.method:
            case "GET":
                return held
            case "PUT":
                if not (body.get("metadata") or {}).get("resourceVersion"):
                    raise Refusal(422, "metadata.resourceVersion: must be specified for an update")
                return self._update(folder, name, body)
            case "PATCH":
                return self._update(folder, name, _patched(request, held, body))
            case "DELETE":
                self.remove(path)
                return status_body(200, "deleted")
        raise Refusal(405, "the server does not allow this method on the resource")

    def _list(self, path: str, selector: str) -> Object:
        items = [o for o in self.objects.get(path, {}).values() if selects(selector, label_of(o))]
        return {"kind": "List", "metadata": {"resourceVersion": str(self.version)}, "items": items}

    def _create(self, path: str, body: Object) -> Object:
        name = (body.get("metadata") or {}).get("name")
        if not name:
            raise Refusal(422, "metadata.name: Required value")
        if name in self.objects.get(path, {}):
            raise Refusal(409, f'"{name}" already exists')
        self._check(path, body)
        return self._store(path, name, body, "ADDED")

    def _update(self, folder: str, name: str, body: Object) -> Object:
        now = self.objects[folder][name]["metadata"]["resourceVersion"]
        given = body["metadata"].get("resourceVersion")
        if given not in (None, now):
            raise Refusal(409, "the object has been modified; apply your changes to the latest")
        self._check(folder, body)
        return self._store(folder, name, body, "MODIFIED")

    def _check(self, folder: str, body: Object) -> None:
        check = self.checks.get(folder.rpartition("/")[2])
        if check is not None and (why := check(body)):
            raise Refusal(422, why)

    async def _watch(self, request: web.Request, path: str) -> web.StreamResponse:
        since = int(request.query.get("resourceVersion") or 0)
        if since < self.forgotten:
            raise Refusal(410, f"too old resource version: {since} ({self.forgotten})")
        number, queue = next(self._numbers), asyncio.Queue[bytes | None]()
        for version, folder, kind, body in self.history:
            if folder == path and version > since:
                queue.put_nowait(_line(kind, body))
        self.watchers[number], self._watched[number] = queue, path
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        try:
            await response.prepare(request)
            while (line := await queue.get()) is not None:
                await response.write(line)
        finally:
            del self.watchers[number], self._watched[number]
        return response


def _patched(request: web.Request, held: Object, body: Any) -> Object:
    kind = request.content_type
    if kind != MERGE:
        raise Refusal(415, f"the body of the request was in an unknown format: {kind}")
    if not isinstance(body, dict):
        raise Refusal(422, "couldn't get version/kind; json parse error")
    given = (body.get("metadata") or {}).get("resourceVersion")
    now = held["metadata"]["resourceVersion"]
    if given is not None and given != now:
        raise Refusal(409, "the object has been modified; apply your changes to the latest")
    found: Object = merged(held, body)
    return found


def _line(kind: str, body: Object) -> bytes:
    return msgspec.json.encode({"type": kind, "object": body}) + b"\n"
