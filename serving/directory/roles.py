"""What each role may do on the admin API. Pure: one table."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from serving.records import Role


class Right(StrEnum):
    """One thing that can be allowed."""

    SEE = "see"
    """Tenants, projects, keys without their values, switches."""
    SEE_MONEY = "see_money"
    SEE_HISTORY = "see_history"
    SWITCH = "switch"
    """Throw and take back kill switches; revoke a key in an emergency."""
    MANAGE = "manage"
    """Tenants, projects, keys and administrators."""


RIGHTS: Mapping[Role, frozenset[Right]] = {
    Role.VIEWER: frozenset({Right.SEE}),
    Role.OPERATOR: frozenset({Right.SEE, Right.SWITCH}),
    Role.FINANCE: frozenset({Right.SEE, Right.SEE_MONEY}),
    Role.AUDITOR: frozenset({Right.SEE, Right.SEE_MONEY, Right.SEE_HISTORY}),
    Role.ADMIN: frozenset(Right),
}


def may(role: Role, right: Right) -> bool:
    """Whether a role has a right."""
    return right in RIGHTS[role]
