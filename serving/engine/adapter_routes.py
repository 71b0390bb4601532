"""The gate's internal routes for LoRA adapters. Behind the deployment secret, for the admin API.

GET    /internal/adapters          what is loaded
POST   /internal/adapters          load: the fields of an Adapter; 200 also when it was there
DELETE /internal/adapters/NAME     unload
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from serving.engine.adapter_spec import Adapter
from serving.engine.adapters import AdapterError, Adapters
from serving.unreadable import UNREADABLE

PREFIX = "/internal/adapters"
BODY_BYTES_MAX = 64 << 10


class Reply(NamedTuple):
    """Status and JSON; `code` names an error."""

    status: int
    content: dict[str, Any]
    code: str = ""


async def reply(adapters: Adapters, method: str, name: str, body: bytes) -> Reply:
    """Serve one request; `name` is what follows the prefix, "" for none."""
    try:
        if method == "GET" and not name:
            return Reply(200, {"adapters": [row._asdict() for row in adapters.listing()]})
        if method == "POST" and not name:
            return Reply(200, (await adapters.load(_adapter(body)))._asdict())
        if method == "DELETE" and name:
            await adapters.unload(name)
            return Reply(200, {"name": name, "unloaded": True})
    except AdapterError as error:
        return Reply(error.status, {"message": str(error)}, "adapter_refused")
    return Reply(404, {"message": f"No route {method} {PREFIX}/{name} here."}, "not_found")


def _adapter(body: bytes) -> Adapter:
    if len(body) > BODY_BYTES_MAX:
        raise AdapterError(f"more than {BODY_BYTES_MAX} bytes", 413)
    try:
        return msgspec.json.decode(body, type=Adapter)
    except UNREADABLE as error:
        raise AdapterError(f"no adapter: {error}", 400) from None
