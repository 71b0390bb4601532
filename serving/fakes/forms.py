"""Forms that come to the fake provider: what is recorded of them, and what is answered."""

from __future__ import annotations

import io
from typing import Any

from aiohttp import web

from serving.fakes import listening
from serving.fakes.provider_answer import Json

FORM = "multipart/form-data"


async def members(request: web.Request) -> Json:
    """A form as a body: lists by their names, a file by its name, type and bytes."""
    form, found = await request.post(), {}
    for name in form:
        values: list[Any] = form.getall(name)
        file = values[0]
        if isinstance(file, web.FileField):
            size = file.file.seek(0, io.SEEK_END)
            found[name] = {"name": file.filename, "type": file.content_type, "bytes": size}
        else:
            found[name] = values if name.endswith("[]") else file
    return found


async def transcript(request: web.Request, body: Json) -> tuple[str, bytes] | str:
    """Content type and body, or what is wrong."""
    field = (await request.post()).get("file")
    if not isinstance(field, web.FileField):
        return "file: field required"
    field.file.seek(0)
    return listening.answered(body, field.file.read())
