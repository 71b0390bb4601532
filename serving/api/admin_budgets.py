"""The admin API's paths for budgets: what they are, how far they are spent, who was told.

Finance and administrators write; who may see a tenant reads its budgets. Here is only HTTP.
"""

# No `from __future__ import annotations`: FastAPI reads the handlers' annotations, and those name
# what only this module's functions know.
from collections.abc import Callable
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends, Query, Response
from pydantic import AwareDatetime, Field

from models.worded import Worded
from serving.api.admin import Admin, Desk, plain, said
from serving.budgets.base import Alert, BudgetStore, Row
from serving.budgets.period import span
from serving.budgets.settings import MICRO_MAX, Currency, Period
from serving.budgets.values import STEPS_MAX, Budget, Kind, Step
from serving.directory import budgets as commands
from serving.directory.roles import Right
from serving.directory.values import WHY_CHARS_MAX
from serving.errors import CallerError
from serving.settings import Group, Words

Why = Annotated[str, Query(max_length=WHY_CHARS_MAX, description="Kept in the history.")]
Name = Annotated[Words, Field(max_length=200)]
SHOWN_MS = 400 * 86_400_000


class NewBudget(Group):
    """A budget to be, or what changes of one that is there."""

    id: Name
    tenant: Name = ""
    project: Name = ""
    model: Name = ""
    provider: Name = ""
    period: Period = "month"
    time_zone: Name = "Asia/Shanghai"
    currency: Currency = "CNY"
    limit_micro: int = Field(ge=0, le=MICRO_MAX)
    kind: Kind = "hard"
    ladder: tuple[Step, ...] = Field((), max_length=STEPS_MAX)


class NewRaise(Group):
    """More for a while."""

    micro: int = Field(gt=0, le=MICRO_MAX)
    until: AwareDatetime


def add(router: APIRouter, admin: Admin, desk: Callable[..., Any]) -> None:
    """Read, set, raise, remove."""
    _reading(router, admin, desk)
    _writing(router, admin, desk)


def _reading(router: APIRouter, admin: Admin, desk: Callable[..., Any]) -> None:
    @router.get("/budgets")
    async def read(at: Annotated[Desk, Depends(desk)]) -> Response:
        """Budgets of the tenants that the actor may see, with the period under way and its alerts,
        by the reports of all gateways. Money in integer micro-units."""
        if not any(Right.SEE in one.rights for one in at.actor.allowed):
            at.need(Right.SEE)
        now_ms = admin.utc_ms()
        rows, alerts = await admin.budgets.ask(lambda store: _current(store, now_ms))
        found = [
            _told(budget, rows, alerts, now_ms)
            for budget in admin.budgets.funds.in_force.values()
            if at.may(Right.SEE, budget.tenant or None)
        ]
        away = admin.budgets.last_error
        return Response(
            msgspec.json.encode({"budgets": found, "store_away": away}),
            media_type="application/json",
        )

    @router.get("/budgets/{id_}")
    async def show(at: Annotated[Desk, Depends(desk)], id_: str) -> Response:
        """One budget, its raises, and its periods and alerts of a year, newest first."""
        budget = _seen(admin, at, id_)
        now_ms = admin.utc_ms()
        rows, alerts = await admin.budgets.ask(
            lambda store: (store.rows(now_ms - SHOWN_MS, now_ms), store.alerts(now_ms - SHOWN_MS))
        )
        told = _told(budget, rows, alerts, now_ms) | {
            "periods": [r._asdict() for r in rows if r.budget == id_],
            "alerts": [a._asdict() for a in alerts if a.budget == id_],
        }
        return Response(msgspec.json.encode(told), media_type="application/json")


def _seen(admin: Admin, at: Desk, id_: str) -> Budget:
    budget = admin.budgets.funds.in_force.get(id_)
    if budget is None or not at.may(Right.SEE, budget.tenant or None):
        raise CallerError(
            "not_found", Worded("budget.none", "there is no budget {id}", id=repr(id_[:200]))
        )
    return budget


def _current(store: BudgetStore, now_ms: int) -> tuple[list[Row], list[Alert]]:
    rows = store.rows(now_ms, now_ms)
    return rows, store.alerts(min((r.start_ms for r in rows), default=now_ms))


def _told(
    budget: Budget, rows: list[Row], alerts: list[Alert], now_ms: int
) -> dict[str, Any]:  # fmt: skip
    """A budget and its period under way."""
    now = span(budget.period, budget.time_zone, now_ms)
    key = (budget.id, now.start_ms)
    row = next((r for r in rows if (r.budget, r.start_ms) == key), None)
    limit = budget.limit_at(now_ms)
    spent = row.spent_micro if row else 0
    return plain(budget) | {
        "scope": budget.scope, "start_ms": now.start_ms, "end_ms": now.end_ms,
        "effective_limit_micro": limit, "spent_micro": spent,
        "leased_micro": row.granted_micro - spent - row.presumed_micro if row else 0,
        "presumed_micro": row.presumed_micro if row else 0,
        "share": spent / limit if limit else None,
        "passed": sorted(a.threshold for a in alerts if (a.budget, a.start_ms) == key),
    }  # fmt: skip


def _writing(router: APIRouter, admin: Admin, desk: Callable[..., Any]) -> None:
    @router.put("/budgets")
    async def put(
        at: Annotated[Desk, Depends(desk)], row: NewBudget, why: Why = ""
    ) -> dict[str, Any]:
        """Make a budget, or change its limit, kind or ladder; what is left out stays."""
        known = admin.policies.directory.budgets.get(row.id)
        at.need(Right.BUDGET, row.tenant or None)
        if known is not None:
            at.need(Right.BUDGET, known.tenant or None)
        given = said(row)
        version = await at.change(lambda d: commands.set_budget(d, given, at.by(why)))
        return {"id": row.id, "version": version}

    @router.post("/budgets/{id_}/raise")
    async def lift(
        at: Annotated[Desk, Depends(desk)], id_: str, row: NewRaise, why: Why = ""
    ) -> dict[str, Any]:
        """More until a moment."""
        _may_write(admin, at, id_)
        by = at.by(why)
        version = await at.change(
            lambda d: commands.raise_budget(d, id_, row.micro, row.until, by)
        )  # fmt: skip
        return {"id": id_, "version": version}

    @router.delete("/budgets/{id_}")
    async def remove(at: Annotated[Desk, Depends(desk)], id_: str, why: Why = "") -> dict[str, Any]:
        _may_write(admin, at, id_)
        version = await at.change(lambda d: commands.remove_budget(d, id_, at.by(why)))
        return {"id": id_, "version": version}


def _may_write(admin: Admin, at: Desk, id_: str) -> None:
    """To whoever may not see a budget, there is none."""
    known = admin.policies.directory.budgets.get(id_)
    if known is not None and not at.may(Right.SEE, known.tenant or None):
        raise CallerError(
            "not_found", Worded("budget.none", "there is no budget {id}", id=repr(id_[:200]))
        )
    at.need(Right.BUDGET, None if known is None else known.tenant or None)
