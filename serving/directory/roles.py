"""What each role may do on the admin API, and for which tenants. Pure: one table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import NamedTuple

from serving.records import Role


class Right(StrEnum):
    """One thing that can be allowed."""

    SEE = "see"
    """Tenants, projects, keys without their values, switches."""
    ASK = "ask"
    """For a key, which somebody else approves."""
    SEE_MONEY = "see_money"
    SEE_HISTORY = "see_history"
    BUDGET = "budget"
    """Make, change, raise and remove budgets."""
    SWITCH = "switch"
    """Throw and take back kill switches; revoke a key in an emergency."""
    ROLL = "roll"
    """Start, pause, resume, abort and close rollouts."""
    REVIEW = "review"
    """Read sampled conversations and complaints, and judge them."""
    MANAGE = "manage"
    """Tenants, projects, keys and administrators."""


_ALL = frozenset({Right.SEE, Right.ASK})
RIGHTS: Mapping[Role, frozenset[Right]] = {
    Role.VIEWER: _ALL,
    Role.OPERATOR: _ALL | {Right.SWITCH, Right.ROLL},
    Role.FINANCE: _ALL | {Right.SEE_MONEY, Right.BUDGET},
    Role.AUDITOR: _ALL | {Right.SEE_MONEY, Right.SEE_HISTORY},
    Role.REVIEWER: _ALL | {Right.REVIEW},
    Role.ADMIN: frozenset(Right),
}


def may(role: Role, right: Right) -> bool:
    """Whether a role has a right."""
    return right in RIGHTS[role]


class Allowed(NamedTuple):
    """Rights, and the tenants they hold for."""

    rights: frozenset[Right]
    tenants: frozenset[str] | None = None
    """With their customers; None is all, and what is no tenant's."""


def allowed(role: Role, tenants: Iterable[str] | None = None) -> Allowed:
    """A role's rights, for all or for some tenants."""
    return Allowed(RIGHTS[role], None if tenants is None else frozenset(tenants))


def allows(given: Iterable[Allowed], right: Right, tenant: str | None = None) -> bool:
    """Whether one of them gives a right over a tenant; None is what is no one tenant's."""
    return any(
        right in one.rights and (one.tenants is None or _is_of(tenant, one.tenants))
        for one in given
    )


def _is_of(tenant: str | None, tenants: frozenset[str]) -> bool:
    """Whether a tenant, or the forwarder whose customer it is, is among them."""
    return tenant is not None and not tenants.isdisjoint((tenant, tenant.partition("/")[0]))
