"""Forms that come to the fake provider: what is recorded of them, and what is answered."""

from __future__ import annotations

from typing import Final

from aiohttp import BodyPartReader, web

from serving.fakes import listening
from serving.fakes.provider_answer import Json

FORM: Final = "multipart/form-data"
_FILE: Final = web.RequestKey("file", bytes)


async def members(request: web.Request) -> Json:
    """A form as a body: lists by their names, a file by its name, type and bytes."""
    found: Json = {}
    async for part in await request.multipart():
        assert isinstance(part, BodyPartReader)
        name, data = part.name or "", bytes(await part.read())
        if part.filename:
            kind = part.headers.get("content-type")
            found[name] = {"name": part.filename, "type": kind, "bytes": len(data)}
            request[_FILE] = data
        elif name.endswith("[]"):
            found.setdefault(name, []).append(data.decode())
        else:
            found[name] = data.decode()
    return found


def transcript(request: web.Request, body: Json) -> tuple[str, bytes] | str:
    """Content type and body, or what is wrong."""
    return listening.answered(body, request.get(_FILE, b""))
