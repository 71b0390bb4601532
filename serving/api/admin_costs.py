"""The admin API's path for finance: a period's summary. Here is only HTTP."""

# No `from __future__ import annotations`: FastAPI reads the handlers' annotations, and those name
# what only this module's functions know.
from collections.abc import Callable
from datetime import date
from typing import Annotated, Any, Literal

import msgspec
from fastapi import APIRouter, Depends, Query, Response

from models.worded import Worded
from serving.api.admin import Desk
from serving.directory.roles import Right
from serving.errors import CallerError
from serving.finance.desk import FinanceDesk
from serving.finance.values import HOUR_MS
from serving.ledger.costs import Question, begin_ms

DAYS_MAX = 400


def add(router: APIRouter, finance: FinanceDesk, desk: Callable[..., Any]) -> None:
    """The summary."""

    @router.get("/costs")
    async def costs(
        at: Annotated[Desk, Depends(desk)],
        since: date,
        until: date,
        currency: Literal["CNY", "USD"] = "CNY",
        utc_offset_hours: Annotated[int, Query(ge=-12, le=14)] = 0,
    ) -> Response:
        """What each feature, model and tier came to from `since` until before `until`, GPU-hours in
        use and idle, the share on our own engines and the saving against the APIs. Money is in
        micro-units of `currency`. For those who see the money of all tenants."""
        at.need(Right.SEE_MONEY)
        if not 1 <= (until - since).days <= DAYS_MAX:
            message = Worded(
                "finance.days",
                "until: ask for 1 to {days_max} days, not from {since} until {until}",
                days_max=DAYS_MAX,
                since=since,
                until=until,
            )
            raise CallerError("invalid_value", message, param="until")
        offset_ms = utc_offset_hours * HOUR_MS
        asked = Question((), begin_ms(since, offset_ms), begin_ms(until, offset_ms), offset_ms)
        body = {"since": since, "until": until} | await finance.summary(asked, currency)
        return Response(msgspec.json.encode(body), media_type="application/json")
