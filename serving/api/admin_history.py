"""The admin API's paths for the history of changes. Here is only HTTP."""

# No `from __future__ import annotations`: FastAPI reads the handlers' annotations, and those name
# what only this module's functions know.
from collections.abc import Callable
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends, Query, Response

from serving.api.admin import Admin, Desk
from serving.directory.base import decode_event
from serving.directory.chain import Entry
from serving.directory.roles import Right


def add(router: APIRouter, admin: Admin, desk: Callable[..., Any]) -> None:
    """Read and verify."""

    @router.get("/history")
    async def history(
        at: Annotated[Desk, Depends(desk)], after: Annotated[int, Query(ge=0, lt=2**63)] = 0,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    ) -> Response:  # fmt: skip
        """Changes above number `after`, in order, each with the hash that chains it."""
        at.need(Right.SEE_HISTORY)
        entries = await admin.policies.history(after, limit)
        body = {"entries": [_told(entry) for entry in entries]}
        return Response(msgspec.json.encode(body), media_type="application/json")

    @router.get("/history/verify")
    async def verify(
        at: Annotated[Desk, Depends(desk)], number: Annotated[int, Query(ge=0, lt=2**63)] = 0,
        head: Annotated[str, Query(pattern="^([0-9a-f]{64})?$")] = "",
    ) -> dict[str, Any]:  # fmt: skip
        """Check the whole chain, and that it still holds an entry seen before."""
        at.need(Right.SEE_HISTORY)
        examined = await admin.policies.examine((number, bytes.fromhex(head)) if number else None)
        return {
            "is_whole": not examined.breaks(),
            "breaks": [found._asdict() for found in examined.breaks()],
            "head": {"number": examined.number, "hash": examined.hash.hex()},
        }


def _told(entry: Entry) -> dict[str, Any]:
    try:
        told: dict[str, Any] = msgspec.to_builtins(decode_event(entry.data))
    except msgspec.DecodeError:  # somebody wrote into the store: `verify` says where
        told = {"is_unreadable": True}
    return {"number": entry.number, "hash": entry.hash.hex()} | told
