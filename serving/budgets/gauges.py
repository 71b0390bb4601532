"""What the scrape reads of budgets. Ids are few by construction; the fullest are shown."""

from __future__ import annotations

import math
from collections.abc import Iterable

from serving.budgets.keeper import Keeper
from serving.metrics import Labels

SERIES_MAX = 200
"""Budgets shown, those with the largest share spent."""


def series(keeper: Keeper) -> Iterable[tuple[str, str, Labels, dict[Labels, float]]]:
    """For `gauges`."""
    now_ms = keeper.utc_ms()
    current = [
        purse for purse in keeper.funds.purses.values()
        if purse.span.start_ms <= now_ms < purse.span.end_ms and keeper.funds.is_wanted(purse)
    ]  # fmt: skip
    current.sort(key=lambda purse: purse.share, reverse=True)
    used: dict[Labels, float] = {}
    slices: dict[Labels, float] = {}
    for purse in current[:SERIES_MAX]:
        labels = (purse.budget.scope, purse.budget.id)
        used[labels] = purse.share if math.isfinite(purse.share) else 1.0
        slices[labels] = float(purse.free)
    names = ("scope", "budget")
    yield "ballast_budget_used_ratio", "Spent by all / limit, by the last report", names, used
    yield "ballast_budget_slice_micro", "Leased here and free, micro-units", names, slices
    in_force: dict[Labels, float] = {(): float(len(current))}
    yield "ballast_budgets", "In force", (), in_force
    away: dict[Labels, float] = {(): float(bool(keeper.last_error))}
    yield "ballast_budget_store_away", "1 while only leased slices are spent", (), away
    told: dict[Labels, float] = {
        (str(share),): float(count) for share, count in keeper.alerts.items()
    }
    text = "Thresholds passed, told of by this process since its start"
    yield "ballast_budget_thresholds", text, ("percent",), told
