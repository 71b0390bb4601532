"""The groups of commands that administrators, auditors and reviewers use, put together."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import typer

from ballast import (
    admin_cli,
    audit_cli,
    budgets_cli,
    canaries_cli,
    evaluate_cli,
    history_cli,
    keys_cli,
    limits_cli,
    projects_cli,
    review_cli,
    rollout_cli,
    split_cli,
)
from ballast import terms_cli as terms_cli  # adds commands to the group of keys

Guard = Callable[[Callable[..., None]], Callable[..., None]]


def guarded(guard: Guard) -> Iterator[tuple[str, typer.Typer]]:
    """The groups by name, each command wrapped so that a problem is told in words."""
    groups = {
        "tenants": admin_cli.tenants, "projects": projects_cli.projects, "keys": keys_cli.keys,
        "switch": admin_cli.switch,
        "admins": admin_cli.admins, "history": history_cli.history, "review": review_cli.review,
        "canaries": canaries_cli.canaries, "audit": audit_cli.audit,
        "limits": limits_cli.limits, "budgets": budgets_cli.budgets,
        "split": split_cli.split, "evaluate": evaluate_cli.evaluate,
        "rollout": rollout_cli.rollout,
    }  # fmt: skip
    for name, group in groups.items():
        for info in group.registered_commands:
            if info.callback is not None:
                info.callback = guard(info.callback)
        yield name, group
    history_cli.history.callback()(guard(history_cli.read))
    limits_cli.limits.callback()(guard(limits_cli.read))
