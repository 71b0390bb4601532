"""What a budget's owner wants done now: the steps that its share spent has reached. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from serving.budgets.values import Budget


class Effects(NamedTuple):
    """What holds for one call, of all its budgets together."""

    refused_by: Budget | None = None
    local_by: Budget | None = None
    model: str = ""
    wait_s: float = 0.0


NONE = Effects()


def effects(shares: Iterable[tuple[Budget, float]]) -> Effects:
    """The steps reached, by budget and its share spent. Of several smaller models the one of the
    highest step reached counts, of several waits the longest."""
    found, reached = NONE, -1.0
    for budget, share in shares:
        for step in budget.ladder:
            if share < step.at_share:
                break
            if step.action == "refuse":
                found = found._replace(refused_by=budget)
            elif step.action == "local_only":
                found = found._replace(local_by=budget)
            elif step.action == "queue_longer":
                found = found._replace(wait_s=max(found.wait_s, step.wait_s))
            elif step.at_share > reached:
                found, reached = found._replace(model=step.model), step.at_share
    return found
