"""The hard rules: which target may see a call at all. Pure; they fail closed, on every hop.

Residency, kill switches, and how old our knowledge of both may be. Every target is asked, our own
pools included: a rented machine abroad is an egress too.
"""

from __future__ import annotations

import msgspec

from serving.records import (
    MAINLAND,
    Call,
    Caller,
    FleetView,
    Offering,
    Refuse,
    Residency,
    ResidencyLevel,
    Sensitivity,
    Stops,
    Target,
)

_NONE: frozenset[str] = frozenset()
_MAINLAND = frozenset({MAINLAND})
EGRESS_POLICY_S_MAX = 10.0
"""Older knowledge of who may do what sends nothing off the premises but to our own pools."""
UNPAID_RETRY_S = 30.0
"""Unless the budget's own period says more."""
POLICY_S_MAX = 60.0
"""Older knowledge serves targets on the premises only."""


def stopped(call: Call, stops: Stops) -> str:
    """What a kill switch keeps from every target, in words; empty when this call is not."""
    what = "everything" if stops.is_all else ""
    if call.model in stops.models:
        what = f"model {call.model!r}"
    if not stops.tenants.isdisjoint((call.tenant, call.tenant.partition("/")[0])):
        what = f"tenant {call.tenant!r}"
    return f"{what} has been stopped here by an operator" if what else ""


def unpaid(call: Call) -> Refuse:
    """The refusal of a call that only money keeps from a third party."""
    message = f"what is left of a budget does not pay for {call.model!r} at a third party"
    return Refuse("budget_exceeded", "budget", message, UNPAID_RETRY_S)


def may_see(target: Target, view: FleetView, now_s: float) -> bool:
    """Whether switches and the age of what we know let a target see anything new."""
    label = target.label
    if not label.on_premises:
        age_s = now_s - view.policy_at_s
        if age_s > (EGRESS_POLICY_S_MAX if isinstance(target, Offering) else POLICY_S_MAX):
            return False
    if view.stops is None:
        return True
    is_stopped = isinstance(target, Offering) and target.provider in view.stops.providers
    return not is_stopped and label.jurisdiction not in view.stops.jurisdictions


def effective_residency(call: Call, caller: Caller) -> Residency:
    """The tighter of the key's rule and the call's: what both admit."""
    rule = caller.policy.residency
    return rule if call.residency is None else tighter(rule, call.residency)


def tighter(one: Residency, other: Residency) -> Residency:
    """A rule that admits what both admit, and nothing else."""
    if one.level is ResidencyLevel.ANYWHERE:
        return other
    if other.level is ResidencyLevel.ANYWHERE:
        return one
    common = _jurisdictions(one) & _jurisdictions(other)
    if not common:
        return Residency(ResidencyLevel.PREMISES)
    if common == _MAINLAND:
        return Residency(ResidencyLevel.MAINLAND)
    return Residency(ResidencyLevel.NAMED, common)


def _jurisdictions(rule: Residency) -> frozenset[str]:
    """Countries outside the premises, of a rule that names them."""
    if rule.level is ResidencyLevel.NAMED:
        return rule.jurisdictions
    return _MAINLAND if rule.level is ResidencyLevel.MAINLAND else _NONE


def confined(call: Call, caller: Caller, sensitivity: Sensitivity) -> Call:
    """The call, bound to where what it holds may be processed; never wider than it was.

    Secrets stay on the premises. Personal data goes no further than the mainland for a tenant that
    named no countries: whose data it is nobody knows, and mainland people's may not leave.
    """
    rule = effective_residency(call, caller)
    if sensitivity is Sensitivity.SECRET:
        bound = Residency(ResidencyLevel.PREMISES)
    elif sensitivity is Sensitivity.PERSONAL and rule.level is ResidencyLevel.ANYWHERE:
        bound = Residency(ResidencyLevel.MAINLAND)
    else:
        return call
    return msgspec.structs.replace(call, residency=tighter(rule, bound))
