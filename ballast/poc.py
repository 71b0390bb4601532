"""Gathers a PoC's report: from the ledger's own traffic, or from two runs of the load generator."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from ballast import books, leaving_check, poc_runs, traffic
from ballast.messages import Said
from ballast.milestones import spent
from ballast.milestones_judge import DAYS_MIN, MONTH_DAYS
from ballast.poc_values import Effort, Measured, Trial, Works
from ballast.problem import ProblemError
from ballast.traffic import Calls, Side
from models import prices
from serving.audit.auditor import signer
from serving.finance.rates import CURRENCIES, converted, total
from serving.finance.values import FinanceError
from serving.ledger.costs import DAY_MS
from serving.settings import Settings


class Wish(NamedTuple):
    """What the flags ask for."""

    days: int
    currency: str
    effort: Effort
    api_run: Path | None = None
    local_run: Path | None = None
    gpu_hour: float = 0.0
    """Of all GPUs of the local run together."""
    exported: Path | None = None


def gather(settings: Settings, wish: Wish, now_s: float) -> Trial:
    """Everything that the page shows. Raises ProblemError."""
    if (wish.api_run is None) != (wish.local_run is None):
        raise ProblemError(Said("poc.one_run"), Said("poc.both_runs"))
    if wish.currency not in CURRENCIES:
        raise ProblemError(Said("poc.no_currency", currency=wish.currency), Said("poc.currencies"))
    day = datetime.fromtimestamp(now_s, UTC)
    faults, rows = (None, 0) if wish.exported is None else _exit(settings, wish.exported)
    if wish.api_run is not None and wish.local_run is not None:
        api = poc_runs.read(wish.api_run, wish.currency)
        local = poc_runs.read(wish.local_run, wish.currency, rent=wish.gpu_hour, price=api.price)
        poc_runs.alike(api, local)
        return Trial(
            day=f"{day:%Y-%m-%d}", since="", currency=wish.currency, rate="", api=api.side,
            local=local.side, works=local.works, effort=wish.effort,
            monthly_tokens=_pace(settings, wish.days, int(now_s * 1e3)),
            simulated=api.side.requests if api.is_simulated else 0,
            exit_faults=faults, exit_rows=rows, speed=api.speed,
        )  # fmt: skip
    found = of_ledger(settings, wish, int(now_s * 1e3))
    return msgspec.structs.replace(found, exit_faults=faults, exit_rows=rows)


def of_yuan(amount: float, currency: str, now_s: float) -> float:
    """Yuan in the report's currency. Raises ProblemError for one without a rate."""
    rate = prices.load().rate(datetime.fromtimestamp(now_s, UTC).date())
    try:
        return converted(round(amount * 1e6), "CNY", currency, rate) / 1e6
    except FinanceError:
        raise ProblemError(
            Said("poc.no_currency", currency=currency), Said("poc.currencies")
        ) from None


def _exit(settings: Settings, folder: Path) -> tuple[int, int]:
    faults = leaving_check.check(folder, signer(settings).public)
    return len(faults), sum(table.rows for table in leaving_check.read(folder).tables)


def of_ledger(settings: Settings, wish: Wish, now_ms: int) -> Trial:
    """Own traffic: own engines against all APIs together."""
    bounds = (now_ms - wish.days * DAY_MS, now_ms)
    with books.opened(settings) as ledger, books.finance(settings, is_to_read=True) as database:
        sides = traffic.sides(database, *bounds)
        calls = traffic.calls(database, *bounds)
        surfaces = traffic.surfaces(database, *bounds)
        spending, _ = spent(settings, (ledger, database), bounds, wish.currency)
    rate = prices.load().rate(datetime.fromtimestamp(now_ms / 1e3, UTC).date())

    def worth(side: Side) -> float | None:
        try:
            return total(side.money, wish.currency, rate) / 1e6
        except FinanceError:
            return None

    own = next((side for side in sides if side.kind == "own"), None)
    rent = spending.own_micro / 1e6 if spending is not None and spending.own_micro else None
    return Trial(
        day=f"{datetime.fromtimestamp(now_ms / 1e3, UTC):%Y-%m-%d}",
        since=f"{datetime.fromtimestamp(bounds[0] / 1e3, UTC):%Y-%m-%d}", currency=wish.currency,
        rate=f"{rate.cny_per_usd} CNY/USD, {rate.day}",
        api=_apis([side for side in sides if side.kind in ("api", "hosted")], worth),
        local=None if own is None else _measured(own, "own", rent),
        works=tuple(Works(*one) for one in surfaces), effort=wish.effort,
        monthly_tokens=monthly_tokens(calls),
        simulated=sum(side.tries for side in sides if side.kind == "simulated"),
    )  # fmt: skip


def _pace(settings: Settings, days: int, now_ms: int) -> float | None:
    """Own traffic's tokens a month; None where there is no ledger, no week of it, or where
    simulated providers took part."""
    bounds = (now_ms - days * DAY_MS, now_ms)
    try:
        with books.finance(settings, is_to_read=True) as database:
            if any(side.kind == "simulated" for side in traffic.sides(database, *bounds)):
                return None
            return monthly_tokens(traffic.calls(database, *bounds))
    except ProblemError:
        return None


def monthly_tokens(calls: Calls) -> float | None:
    """Tokens a month at the pace seen; None for less than a week of it. Pure."""
    days = (calls.last_ms - calls.first_ms) / DAY_MS
    tokens = calls.prompt_tokens + calls.completion_tokens
    return tokens / days * MONTH_DAYS if days >= DAYS_MIN else None


def _apis(sides: Sequence[Side], worth: Any) -> Measured | None:
    """All third parties together; times are those of the one asked most."""
    if not sides:
        return None
    busiest = max(sides, key=lambda side: side.tries)
    costs = [worth(side) for side in sides]
    sums = {n: sum(getattr(side, n) for side in sides)
            for n in ("tries", "ok", "callers", "prompt_tokens", "completion_tokens")}  # fmt: skip
    whole = msgspec.structs.replace(busiest, **sums)
    cost = None if None in costs else sum(costs)
    return _measured(whole, ", ".join(sorted(side.name for side in sides)), cost)


def _measured(side: Side, name: str, cost: float | None) -> Measured:
    return Measured(
        name, "ledger", side.tries, side.ok, side.tries - side.callers, side.prompt_tokens,
        side.completion_tokens, cost, side.first_token, side.whole,
    )  # fmt: skip
