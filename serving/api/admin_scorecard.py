"""The admin API's path for scorecards: how each third party did in a month. Here is only HTTP."""

# No `from __future__ import annotations`: FastAPI reads the handlers' annotations, and those name
# what only this module's functions know.
from collections.abc import Callable
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends, Query, Response

from serving.api.admin import Admin, Desk
from serving.directory.roles import Right
from serving.finance import months
from serving.finance.desk import FinanceDesk


def add(router: APIRouter, finance: FinanceDesk, admin: Admin, desk: Callable[..., Any]) -> None:
    """The cards."""

    @router.get("/scorecard")
    async def scorecard(
        at: Annotated[Desk, Depends(desk)],
        month: Annotated[str, Query(max_length=7, description="As 2026-11; else this one.")] = "",
        provider: Annotated[str, Query(max_length=200)] = "",
    ) -> Response:
        """Per account and model of third parties: attempts and how they ended, time to first
        content, availability promised and measured, tokens and money at list price, micro-units.
        For those who see the money of all tenants."""
        at.need(Right.SEE_MONEY)
        named = month or months.of(admin.utc_ms(), finance.offset_ms)
        body = await finance.scorecard(named, provider)
        return Response(msgspec.json.encode(body), media_type="application/json")
