"""Why nobody can take a call, in words for its caller, and when to ask again. Pure."""

from __future__ import annotations

import math
from typing import Final, assert_never

from serving.codecs.coverage import needs
from serving.codecs.openai import RESERVED
from serving.placement.offered import Ask, ceiling, offered
from serving.records import Burst, LatencyClass, Overflow, Placement, Refuse, Run, Target, Wait
from serving.rules import may_use, owners

RETRY_S_DEFAULT: Final = 30.0
"""Nothing is known to be coming back: a client may as well ask again in half a minute."""
RETRY_S_MAX: Final = 600.0


def unserved(ask: Ask) -> Refuse:
    """The refusal of a call that no target can take now."""
    call = ask.call
    if _is_residency_bound(ask):
        message = f"no target for {call.model!r} is allowed by this key's residency"
        return Refuse("residency_refused", "residency", message)
    if ask.route.is_thinking and call.latency_class is LatencyClass.LIVE:
        message = f"{call.model!r} cannot be kept from thinking: too slow for the class live"
        return Refuse("no_capacity", "thinking", message, RETRY_S_MAX)
    message = f"no target for {call.model!r} can take this call now"
    if call.adapter:
        message = f"no engine that can take this call now has adapter {call.adapter!r} loaded"
    return Refuse("no_capacity", "no_target", message + _third_parties(ask), _again_s(ask))


def kept_home(ask: Ask) -> str:
    """That a ceiling keeps the call from third parties, where one does."""
    is_ours = "" in owners(ask.caller)
    if not is_ours or not offered(ask.call, ask.view) or not (name := ceiling(ask)):
        return ""
    return f"; the ceiling for third parties ({name}) is reached"


def retry_s(wait_s: float) -> float:
    """A time to return, within its bounds."""
    return min(max(1.0, wait_s), RETRY_S_MAX)


def _third_parties(ask: Ask) -> str:
    """What keeps them all out, where that is one thing."""
    call, caller, rows = ask.call, ask.caller, offered(ask.call, ask.view)
    if not rows:
        return ""
    if caller.policy.overflow is Overflow.NEVER:
        return "; the caller may not overflow to a third party's API"
    if not any(may_use(row, caller) for row in rows):
        return "; its tenant has no account of its own there that the caller may use"
    if call.is_home_only:
        return "; a third party refused its content"
    if text := kept_home(ask):
        return text
    rows = tuple(row for row in rows if may_use(row, caller))
    tier_max = caller.policy.tier_max or ask.route.tier_max
    if all(row.tier > tier_max for row in rows):
        return "; third parties have other weights, which this tenant has not allowed"
    wanted = needs(call.fields, RESERVED)
    unknown = sorted(frozenset.intersection(*(wanted - row.speaks for row in rows)))[:8]
    return f"; third parties do not know {', '.join(unknown)}" if unknown else ""


def _targets(ask: Ask) -> tuple[Target, ...]:
    return (*ask.view.replicas.get(ask.call.model, ()), *offered(ask.call, ask.view))


def _is_residency_bound(ask: Ask) -> bool:
    """Not while an engine of ours that may take it is only down: that passes."""
    name, homes = ask.call.model, ask.view.homes
    if any(model == name and ask.residency.admits(label) for model, label in homes):
        return False
    targets = _targets(ask)
    return bool(targets) and not any(ask.residency.admits(t.label) for t in targets)


def _again_s(ask: Ask) -> float:
    """Seconds until a target that is out of use may be asked again."""
    view, now_s, targets = ask.view, ask.now_s, _targets(ask)
    states = [view.state[t.id] for t in targets if t.id in view.state]
    again = [max(state.open_until_s, state.full_until_s) for state in states]
    again += [view.paces[t.id].until_s() for t in targets if t.id in view.paces]
    later = (at for at in again if now_s < at < math.inf)
    return retry_s(min(later, default=now_s + RETRY_S_DEFAULT) - now_s)


def told(placement: Placement) -> str:
    """What another policy would have done, in a word."""
    if isinstance(placement, Run | Burst):
        return placement.target.id
    if isinstance(placement, Wait):
        return "wait"
    if isinstance(placement, Refuse):
        return placement.code
    assert_never(placement)
