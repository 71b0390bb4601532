"""What finance can change of budgets, as functions from one state to rows and an event. Pure.

A budget's scope, period, zone and currency are for ever: what was counted would mean something
else. Its limit, kind and ladder change, and it can be raised for a while.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from models.worded import Worded
from serving.budgets.values import BUDGETS_MAX, Budget, is_good
from serving.directory.changes import By, Change, check_name, event, found, put, validated
from serving.directory.values import Directory, removed
from serving.errors import CallerError

FIXED = ("tenant", "project", "model", "provider", "period", "time_zone", "currency")


def set_budget(directory: Directory, row: Mapping[str, Any], by: By) -> Change:
    """A new budget, or another limit, kind or ladder of one that is there."""
    id_ = str(row.get("id", ""))
    before = directory.budgets.get(id_)
    if before is None:
        made = {"created_by": by.actor, "created_ms": by.at_ms, "raises": ()}
        budget = validated(Budget, dict(row) | made)
        check_name(directory.budgets, budget.id, "budget")
        if len(directory.budgets) >= BUDGETS_MAX:
            message = Worded(
                "budget.many",
                "there are {budgets_max} budgets: remove some",
                budgets_max=BUDGETS_MAX,
            )
            raise CallerError("conflict", message)
        _check_scope(directory, budget)
        return put("budget", budget, "create", by)
    changed = [name for name in FIXED if name in row and row[name] != getattr(before, name)]
    if changed:
        message = Worded(
            "budget.fixed",
            "{changed}: make another budget, or remove this one first",
            changed=[*changed],
        )
        raise CallerError("invalid_value", message, param=changed[0])
    kept = before.model_dump() | {n: v for n, v in row.items() if n not in FIXED}
    kept |= {"created_by": before.created_by, "created_ms": before.created_ms}
    told = {name: value for name, value in row.items() if name not in (*FIXED, "id")}
    return put("budget", validated(Budget, kept), "change", by, told)


def _check_scope(directory: Directory, budget: Budget) -> None:
    """What stands in no directory may stand in settings, but for a tenant: a caller has one."""
    forwarder = budget.tenant.partition("/")[0]
    if budget.tenant and not {budget.tenant, forwarder} & set(directory.tenants):
        message = Worded(
            "directory.no_tenant", "there is no tenant {tenant}", tenant=repr(budget.tenant)
        )
        raise CallerError("not_found", message, param="tenant")


def raise_budget(
    directory: Directory, id_: str, micro: int, until: datetime, by: By
) -> Change:  # fmt: skip
    """More until a moment. Raises that are over are taken away."""
    budget = found(directory.budgets, id_, "budget")
    if until.tzinfo is None or until.timestamp() * 1e3 <= by.at_ms:
        message = Worded("budget.until", "until: a moment to come, with its time zone")
        raise CallerError("invalid_value", message, param="until")
    new = {"micro": micro, "until": until, "by": by.actor, "at_ms": by.at_ms, "why": by.why}
    good = [one.model_dump() for one in budget.raises if is_good(one, by.at_ms)]
    row = validated(Budget, budget.model_dump() | {"raises": [*good, new]})
    told = {"micro": micro, "until": until.isoformat(), "currency": budget.currency}
    return put("budget", row, "raise", by, told)


def remove_budget(directory: Directory, id_: str, by: By) -> Change:
    """Nothing is counted in it any more."""
    found(directory.budgets, id_, "budget")
    return Change([removed("budget", id_)], event(f"budget:{id_}", "remove", by, {}))
