"""Why nobody can take a call, in words for its caller. Pure."""

from __future__ import annotations

from serving.codecs.coverage import needs
from serving.codecs.openai import RESERVED
from serving.placement.offered import Ask, ceiling, offered
from serving.records import LatencyClass, Overflow, Refuse, Target


def unserved(ask: Ask) -> Refuse:
    """The refusal of a call that no target can take now; the time to return is the caller's."""
    call, view = ask.call, ask.view
    if _is_residency_bound(ask):
        message = f"no target for {call.model!r} is allowed by this key's residency"
        return Refuse("residency_refused", "residency", message)
    if ask.route.is_thinking and call.latency_class is LatencyClass.LIVE:
        message = f"{call.model!r} cannot be kept from thinking: too slow for the class live"
        return Refuse("no_capacity", "thinking", message)
    message = f"no target for {call.model!r} can take this call now"
    if call.adapter:
        message = f"no engine that can take this call now has adapter {call.adapter!r} loaded"
    return Refuse("no_capacity", "no_target", message + _third_parties(ask))


def _third_parties(ask: Ask) -> str:
    """What keeps them all out, where that is one thing."""
    call, caller, rows = ask.call, ask.caller, offered(ask.call, ask.view)
    if not rows:
        return ""
    if caller.policy.overflow is not Overflow.ALLOWED:
        return "; this key may not overflow to a third party's API"
    if call.is_home_only:
        return "; a third party refused its content"
    if name := ceiling(ask):
        return f"; the ceiling for third parties ({name}) is reached"
    tier_max = caller.policy.tier_max or ask.route.tier_max
    if all(row.tier > tier_max for row in rows):
        return "; third parties have other weights, which this tenant has not allowed"
    wanted = needs(call.fields, RESERVED)
    unknown = sorted(frozenset.intersection(*(wanted - row.speaks for row in rows)))[:8]
    return f"; third parties do not know {', '.join(unknown)}" if unknown else ""


def _is_residency_bound(ask: Ask) -> bool:
    targets: tuple[Target, ...] = (
        *ask.view.replicas.get(ask.call.model, ()), *offered(ask.call, ask.view)
    )  # fmt: skip
    return bool(targets) and not any(ask.residency.admits(t.label) for t in targets)
