"""The hard rules: which target may see a call at all. Pure; they fail closed, on every hop.

One list, asked of every target on every try, our own pools included: a rented machine abroad is an
egress too. Load, price and speed come later and cannot bring back what was kept out here.
"""

from __future__ import annotations

import math
from typing import Final

import msgspec

from serving.records import (
    MAINLAND,
    OWN,
    POOLED,
    Call,
    Caller,
    FleetView,
    Offering,
    Overflow,
    Refuse,
    Residency,
    ResidencyLevel,
    Sensitivity,
    Stops,
    Surface,
    Target,
)

HARD: Final = {
    "residency": "its tenant's residency, or the call's own, does not admit where it is",
    "stopped": "an operator has stopped its provider or its country",
    "age": "what is known of rights and switches is too old to send anything there",
    "overflow": "this key may not overflow to a third party's API",
    "account": "its key's mode or its tenant does not let it use that account",
    "load_test": "calls of load tests never leave",
    "home_only": "a third party refused the content: only our own engines may judge it now",
    "pin": "the call names another target",
    "budget": "no budget pays for it",
    "breaker": "its breaker is open",
    "tried": "it has failed this call already",
}
"""In the order in which they are asked; the first that keeps a target out is named. What stops a
call whole (`stopped`) is asked before any target."""
_NEVER, _ALLOWED = Overflow.NEVER, Overflow.ALLOWED
_OWN, _OWN_FIRST = Overflow.OWN_KEYS, Overflow.OWN_KEYS_FIRST
_OURS = ("",)
_NONE: frozenset[str] = frozenset()
_MAINLAND = frozenset({MAINLAND})
HEARD = frozenset({Surface.TRANSCRIPTION, Surface.TRANSLATION})
"""Surfaces that write down what is said."""
BOUGHT = HEARD | {Surface.SPEECH}
"""Surfaces of third parties alone."""
AS_WRITTEN = POOLED | BOUGHT
"""Surfaces whose answer holds no text in which what was masked could be restored."""
EGRESS_POLICY_S_MAX = 10.0
"""Older knowledge of who may do what sends nothing off the premises but to our own pools."""
UNPAID_RETRY_S = 30.0
"""Unless the budget's own period says more."""
POLICY_S_MAX = 60.0
"""Older knowledge serves targets on the premises only."""


def keeps_out(
    target: Target, asked: tuple[Call, Caller, Residency], view: FleetView, now_s: float,
    tried: frozenset[str],
) -> str:  # fmt: skip
    """The first hard rule that keeps a target from a call; empty when all let it."""
    call, caller, residency = asked
    if not residency.admits(target.label):
        return "residency"
    if not may_see(target, view, now_s):
        return "stopped" if _is_stopped(target, view.stops) else "age"
    if isinstance(target, Offering):
        if why := _may_not_leave(call, caller):
            return why
        if not may_use(target, caller):
            return "account"
        if call.pin not in ("", target.id):
            return "pin"
        if target.id in call.unaffordable:
            return "budget"
    elif call.pin not in ("", OWN):
        return "pin"
    state = view.state.get(target.id)
    if state is not None and state.open_until_s > now_s:
        return "breaker"
    return "tried" if target.id in tried else ""


def _may_not_leave(call: Call, caller: Caller) -> str:
    """Why no third party at all may answer; empty when one may."""
    if caller.policy.overflow is _NEVER:
        return "overflow"
    if caller.policy.is_load_test:
        return "load_test"
    return "home_only" if call.is_home_only else ""


def may_use(target: Offering, caller: Caller) -> bool:
    """Whether the key may spend that account's money: ours by its mode, a tenant's if it is that
    tenant's key, has the mode for it, and is among those that the account names."""
    mode = caller.policy.overflow
    if not target.owner:
        return mode is _ALLOWED or mode is _OWN_FIRST
    is_theirs = (mode is _OWN or mode is _OWN_FIRST) and target.owner == caller.tenant
    return is_theirs and (target.keys is None or caller.key_id in target.keys)


def owners(caller: Caller) -> tuple[str, ...]:
    """Whose accounts a key's calls are offered, the first first; empty is ours."""
    mode = caller.policy.overflow
    if mode is _OWN:
        return (caller.tenant,)
    return (caller.tenant, "") if mode is _OWN_FIRST else _OURS


def may_leave(call: Call, caller: Caller) -> bool:
    """Whether any third party may answer."""
    return not _may_not_leave(call, caller)


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
    if not target.label.on_premises and view.policy_at_s != math.inf:
        age_s = now_s - view.policy_at_s
        if age_s > (EGRESS_POLICY_S_MAX if isinstance(target, Offering) else POLICY_S_MAX):
            return False
    return not _is_stopped(target, view.stops)


def _is_stopped(target: Target, stops: Stops | None) -> bool:
    if stops is None:
        return False
    is_theirs = isinstance(target, Offering) and (
        target.provider in stops.providers or target.vendor in stops.providers
    )
    return is_theirs or target.label.jurisdiction in stops.jurisdictions


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
    common = _countries(one) & _countries(other)
    if ResidencyLevel.PREMISES in (one.level, other.level) or not common:
        return Residency(ResidencyLevel.PREMISES, common - _MAINLAND)
    if common == _MAINLAND:
        return Residency(ResidencyLevel.MAINLAND)
    return Residency(ResidencyLevel.NAMED, common)


def _countries(rule: Residency) -> frozenset[str]:
    """Those that a rule names, at home or abroad."""
    return _MAINLAND if rule.level is ResidencyLevel.MAINLAND else rule.jurisdictions


def confined(call: Call, caller: Caller, sensitivity: Sensitivity) -> Call:
    """The call, bound to where what it holds may be processed; never wider than it was.

    Secrets stay on the premises, those in countries that the rule names included. Personal data
    goes no further than the mainland for a tenant that named no countries: whose data it is nobody
    knows, and mainland people's may not leave.
    """
    rule = effective_residency(call, caller)
    if sensitivity is Sensitivity.SECRET:
        bound = Residency(ResidencyLevel.PREMISES, _countries(rule) - _MAINLAND)
    elif sensitivity is Sensitivity.PERSONAL and rule.level is ResidencyLevel.ANYWHERE:
        bound = Residency(ResidencyLevel.MAINLAND)
    else:
        return call
    return msgspec.structs.replace(call, residency=tighter(rule, bound))
