"""Asks an ASGI app in the same process: no socket, no secret, no load report."""

from __future__ import annotations

import asyncio
import json
from collections.abc import MutableMapping
from typing import Any, NamedTuple

from serving.engine.asgi import App


class Answer(NamedTuple):
    """What came back."""

    status: int
    body: bytes


async def post(app: App, path: str, body: dict[str, Any]) -> Answer:
    """One POST with a JSON body. Raises whatever the app raises."""
    data = json.dumps(body).encode()
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST",
        "scheme": "http", "path": path, "raw_path": path.encode(), "root_path": "",
        "query_string": b"", "client": ("127.0.0.1", 0), "server": ("127.0.0.1", 0),
        "headers": [
            (b"content-type", b"application/json"), (b"content-length", b"%d" % len(data))
        ],
        "state": {},
    }  # fmt: skip
    incoming = [{"type": "http.request", "body": data, "more_body": False}]
    status, parts = 0, bytearray()

    async def receive() -> MutableMapping[str, Any]:
        return incoming.pop() if incoming else await _never()

    async def send(message: MutableMapping[str, Any]) -> None:
        nonlocal status
        if message["type"] == "http.response.start":
            status = message["status"]
        elif message["type"] == "http.response.body":
            parts.extend(message.get("body", b""))

    await app(scope, receive, send)
    return Answer(status, bytes(parts))


async def _never() -> MutableMapping[str, Any]:
    """The client stays: vLLM waits here for it to hang up, until the answer is out."""
    await asyncio.Event().wait()
    raise AssertionError("nobody sets the event")
