"""Which budgets a call touches, and the caps that dev and test projects have by default. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from serving.budgets.settings import BudgetSettings
from serving.budgets.values import Budget
from serving.directory.values import Project

KEYS_MAX = 10_000
DEV = "dev:"
"""Begins the ids of caps by default; no budget that somebody makes has a colon."""


class Index:
    """Budgets by whom and what they hold for, with the answers for callers seen before."""

    def __init__(self, budgets: Iterable[Budget]) -> None:
        self._budgets = tuple(budgets)
        self._found: dict[tuple[str, str, str], tuple[Budget, ...]] = {}
        self.is_any = bool(self._budgets)

    def of(self, tenant: str, project: str, model: str) -> tuple[Budget, ...]:
        """Those that a call touches, whichever provider answers it."""
        key = (tenant, project, model)
        found = self._found.get(key)
        if found is None:
            if len(self._found) >= KEYS_MAX:
                self._found.clear()
            found = self._found[key] = tuple(b for b in self._budgets if _holds(b, *key))
        return found


def _holds(budget: Budget, tenant: str, project: str, model: str) -> bool:
    is_tenant = budget.tenant in ("", tenant, tenant.partition("/")[0])
    return is_tenant and budget.project in ("", project) and budget.model in ("", model)


def in_force(
    budgets: Mapping[str, Budget], projects: Iterable[Project], settings: BudgetSettings
) -> dict[str, Budget]:
    """Budgets by id: those made, and the caps of dev and test projects that have none."""
    capped = {(b.tenant, b.project) for b in budgets.values() if not (b.model or b.provider)}
    found = dict(budgets)
    for project in projects:
        key = (project.tenant, project.name)
        if project.environment == "prod" or not settings.dev_limit_micro or key in capped:
            continue
        # Not validated: its id has a colon, and all else is ours.
        found[f"{DEV}{project.id}"] = Budget.model_construct(
            id=f"{DEV}{project.id}", tenant=project.tenant, project=project.name,
            period=settings.dev_period, currency=settings.dev_currency,
            limit_micro=settings.dev_limit_micro, created_by="settings", created_ms=0,
        )  # fmt: skip
    return found
