"""Gathers a PoC's report: from the ledger's own traffic, or from two runs of the load generator."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import msgspec

from ballast import books, leaving_check, traffic
from ballast.messages import Said
from ballast.milestones import spent
from ballast.milestones_judge import DAYS_MIN, MONTH_DAYS
from ballast.poc_values import Effort, Measured, Trial, Works
from ballast.problem import ProblemError
from ballast.traffic import Calls, Side, Times
from models import prices
from serving.audit.auditor import signer
from serving.finance.rates import CURRENCIES, converted, total
from serving.finance.values import FinanceError
from serving.ledger.costs import DAY_MS
from serving.settings import Settings

RESULT = "result.json"
API_SHARE_MAX = 0.01
"""Of a run of own engines; more and it is a run of something else."""


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
        api, works, loads = of_run(wish.api_run, wish, is_local=False)
        local, _, others = of_run(wish.local_run, wish, is_local=True)
        _alike(wish, loads, others)
        return Trial(
            day=f"{day:%Y-%m-%d}", since="", currency=wish.currency, rate="", api=api, local=local,
            works=works, effort=wish.effort, monthly_tokens=None, exit_faults=faults,
            exit_rows=rows,
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


Load: TypeAlias = dict[str, Any]
"""What makes two runs comparable, by name."""


def of_run(folder: Path, wish: Wish, *, is_local: bool) -> tuple[Measured, tuple[Works, ...], Load]:
    """One run of `ballast bench run`. Raises ProblemError naming the file or what it lacks."""
    path = folder / RESULT if folder.is_dir() else folder
    try:
        run = msgspec.json.decode(path.read_bytes())
        found, seconds = run["summary"]["total"], float(run["summary"]["seconds"])
        reasons, currency = run["summary"]["reasons"], run["summary"]["currency"]
        times = [_times(found[name]) for name in ("first_ms", "complete_ms")]
        sent, good, priced = int(found["sent"]), int(found["good"]), float(found["cost"])
        load = {"scenario": run["scenario"], "seed": run["seed"]}
        of_apis = float(found["api_share"])
        tokens = int(found["prompt_tokens"]), int(found["completion_tokens"])
        works = tuple(
            Works(str(kind["name"]), int(kind["sent"]), int(kind["good"]))
            for kind in run["summary"]["kinds"]
        )
    except (OSError, msgspec.DecodeError, KeyError, TypeError, ValueError) as error:
        raise ProblemError(Said("poc.no_run", path=path, why=error), Said("poc.make_run")) from None
    if reasons:
        what = Said("poc.invalid", path=path, why="; ".join(map(str, reasons)))
        raise ProblemError(what, Said("poc.make_run"))
    if is_local and of_apis > API_SHARE_MAX:
        what = Said("poc.not_own", path=path, share=f"{of_apis:.1%}")
        raise ProblemError(what, Said("poc.own_alone"))
    cost: float | None = wish.gpu_hour * seconds / 3600 if wish.gpu_hour else None
    if not is_local:
        if priced and currency != wish.currency:
            what = Said("poc.currency", path=path, currency=currency, wanted=wish.currency)
            raise ProblemError(what, Said("poc.same_currency", currency=currency))
        cost = priced or None
    side = Measured(str(run.get("model", "")), str(path), sent, good, sent, *tokens, cost, *times)
    return side, works, load


def _alike(wish: Wish, api: Load, local: Load) -> None:
    """Raises ProblemError naming what differs: two loads compared would prove nothing."""
    for name, value in api.items():
        # The price of a million tokens is a side's own, the load is not.
        here, there = (_unpriced(one) for one in (value, local[name]))
        if here != there:
            what = Said("poc.unlike", api=wish.api_run, local=wish.local_run,
                        what=Said(f"poc.what.{name}"))  # fmt: skip
            raise ProblemError(what, Said("poc.make_run"))


def _unpriced(value: Any) -> Any:
    return value | {"price": None} if isinstance(value, dict) else value


def _times(spread: dict[str, float]) -> Times:
    p50, p95 = float(spread["p50"]), float(spread["p95"])
    return Times() if p50 < 0 else Times(round(p50), round(p95))
