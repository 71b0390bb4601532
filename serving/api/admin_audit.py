"""The admin API's paths for what left the premises. Here is only HTTP."""

# No `from __future__ import annotations`: FastAPI reads the handlers' annotations, and those name
# what only this module's functions know.
import asyncio
from collections.abc import Callable
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends, Query, Response
from pydantic import Field

from models.worded import Worded, of
from serving.api.admin import Desk
from serving.audit.anchor import AnchorFault
from serving.audit.auditor import Auditor
from serving.audit.values import CLASSES, PAGE_MAX, Egress, Question
from serving.directory.roles import Right
from serving.errors import CallerError, OwnError
from serving.logs import utc_ms
from serving.settings import Group, SettingsError

_CURSOR = r"^(\d{1,15}:[0-9a-f]{1,64}:\d{1,9})?$"


class Asked(Group):
    """Which egress to list; what is left out is any."""

    since_ms: int = Field(0, ge=0, lt=1 << 62)
    until_ms: int = Field(1 << 62, ge=0, le=1 << 62)
    tenant: str = Field("", max_length=200)
    sensitivity: str = Field("", alias="class", pattern=f"^({'|'.join(CLASSES)})?$")
    jurisdiction: str = Field("", max_length=40)
    provider: str = Field("", max_length=200)
    after: str = Field("", pattern=_CURSOR)
    limit: int = Field(100, ge=1, le=PAGE_MAX)


def add(router: APIRouter, auditor: Auditor, desk: Callable[..., Any]) -> None:
    """List and verify."""

    @router.get("/egress")
    async def egress(
        at: Annotated[Desk, Depends(desk)], asked: Annotated[Asked, Query()]
    ) -> Response:
        """Calls that left the premises, in order of time; the next page is `after` the last one's
        `at_ms:request_id:attempt`."""
        at.need(Right.SEE_HISTORY)
        rows = await asyncio.to_thread(auditor.egress, _question(asked))
        body = {"egress": [Egress(row).told for row in rows]}
        return Response(msgspec.json.encode(body), media_type="application/json")

    @router.get("/egress/verify")
    async def verify(at: Annotated[Desk, Depends(desk)]) -> dict[str, Any]:
        """Check every chain against itself and the signed checkpoints, and that somebody still
        signs. Reads all there is."""
        at.need(Right.SEE_HISTORY)
        try:
            found = await asyncio.to_thread(auditor.verify, utc_ms())
        except SettingsError as error:  # who signs holds the key; it need not be this gateway
            raise CallerError(
                "conflict",
                Worded(
                    "audit.no_key",
                    "nothing to check signatures with here: {error}",
                    error=of(error),
                ),
            ) from None
        except (AnchorFault, OSError) as error:
            raise OwnError("internal_error", of(error)) from None
        faults = [fault._asdict() for fault in found.faults]
        return {"is_whole": not faults} | found._asdict() | {"faults": faults}


def _question(asked: Asked) -> Question:
    seen: tuple[int, str, int] = (-1, "", 0)
    if asked.after:
        at_ms, request_id, attempt = asked.after.split(":")
        seen = (int(at_ms), request_id, int(attempt))
    return Question(
        asked.since_ms, asked.until_ms, asked.tenant,
        CLASSES.index(asked.sensitivity) if asked.sensitivity else None,
        asked.jurisdiction, asked.provider, seen, asked.limit,
    )  # fmt: skip
