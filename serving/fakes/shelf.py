"""Files served over HTTP with ranges and entity tags, and with the troubles of real networks.

Shared by the fake hub and the fake object store. A trouble is used up by the request it meets.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Mapping
from typing import NamedTuple

from aiohttp import web

from serving.fakes.server import reset

_RANGE = re.compile(r"bytes=(\d+)-")
FOREVER_S = 3600.0


class Trouble(NamedTuple):
    """What goes wrong with one request."""

    status: int = 0
    """Answered instead of the file."""
    headers: Mapping[str, str] = {}
    cut_after: int | None = None
    """The connection breaks after so many bytes of the body."""
    stall_after: int | None = None
    """Nothing comes after so many bytes of the body."""
    is_wrong: bool = False
    """One bit of the body is turned over."""
    has_no_ranges: bool = False
    """The whole file comes whatever was asked for."""


class Seen(NamedTuple):
    """One request as it came in."""

    path: str
    query: str
    headers: Mapping[str, str]


class Shelf:
    """Files by name, troubles by name, and what was asked."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.troubles: dict[str, list[Trouble]] = {}
        self.seen: list[Seen] = []

    def note(self, request: web.Request) -> None:
        """Keep what was asked."""
        headers = {k.lower(): v for k, v in request.headers.items()}
        self.seen.append(Seen(request.path, request.query_string, headers))

    def trouble(self, name: str) -> Trouble:
        """The next trouble of a file."""
        waiting = self.troubles.get(name)
        return waiting.pop(0) if waiting else Trouble()

    async def send(
        self, request: web.Request, name: str, trouble: Trouble, headers: Mapping[str, str]
    ) -> web.StreamResponse:
        """Answer with a file, or the part of it that was asked for."""
        if trouble.status:
            return web.Response(status=trouble.status, headers=trouble.headers)
        if name not in self.files:
            return web.Response(status=404)
        content = self.files[name]
        etag = f'"{hashlib.md5(content, usedforsecurity=False).hexdigest()}"'
        every = {"etag": etag, **headers}
        start = 0 if trouble.has_no_ranges else _start(request, every["etag"])
        if start and start >= len(content):
            return web.Response(status=416)
        if start:
            every["content-range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        body = content[start:]
        if trouble.is_wrong:
            body = bytes([body[0] ^ 1]) + body[1:]
        every["content-length"] = str(len(body))
        response = web.StreamResponse(status=206 if start else 200, headers=every)
        await response.prepare(request)
        await _send_body(request, response, body, trouble)
        return response


def _start(request: web.Request, etag: str) -> int:
    span = _RANGE.fullmatch(request.headers.get("range", ""))
    if span is None or request.headers.get("if-range", etag) != etag:
        return 0
    return int(span[1])


async def _send_body(
    request: web.Request, response: web.StreamResponse, body: bytes, trouble: Trouble
) -> None:
    if trouble.cut_after is not None:
        await response.write(body[: trouble.cut_after])
        # What was written must arrive before the reset, which drops what is still on its way.
        await asyncio.sleep(0.02)
        assert request.transport is not None
        reset(request.transport)
    elif trouble.stall_after is not None:
        await response.write(body[: trouble.stall_after])
        await asyncio.sleep(FOREVER_S)
    else:
        await response.write(body)
        await response.write_eof()
