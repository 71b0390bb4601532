"""What to ask of Ray Serve, from a decision and from what Serve says of itself. Pure.

A Hold leaves the number that was decided last. Where Serve has forgotten it (a redeploy sets the
application's own), a Hold puts it back only upwards: without a decision nothing is taken away.
"""

from __future__ import annotations

from typing import assert_never

import msgspec

from autoscale.acts import Act, Asked, Outcome
from autoscale.records import Decision, Engines, Hold, Scale

NAME = "serve"
IDLE_S = 60.0
"""An order that Serve accepted, and for which it starts nothing, is stuck after this."""
LOADING_S = 1800.0
"""The same where something starts: first downloads of large weights take so long."""
TRIES_MAX = 2
"""Accepted this often without the number changing: Serve does not act."""


class Verdict(msgspec.Struct, frozen=True):
    """What to do for one model."""

    act: Act
    asked: Asked | None
    """To remember."""
    write: int | None = None
    """The number to ask Serve for."""


def judge(
    decision: Decision, seen: Engines | None, old: Asked | None, at_ms: int, extra: int = 0
) -> Verdict:
    """The verdict on one model. `seen` None: Serve did not answer, or has no such application.
    `extra`: successors to start beside replicas whose hosts are going."""
    decided = decided_of(decision, old)
    model = decision.model
    if seen is None:
        act = Act(NAME, model, "unknown", "Serve tells nothing of it", _or(decided))
        return Verdict(act, old)
    if decided is None:
        words = f"nothing decided yet; Serve has {seen.running} of {seen.target}"
        return Verdict(Act(NAME, model, "kept", words, seen=seen.running), None)
    asked = _moved((decided + extra, extra), seen, old, at_ms)
    if seen.target != asked.wanted:
        # What was added for hosts that were going may be taken back without a decision.
        is_ours = old is not None and old.extra > extra and seen.target == old.wanted
        return _unlike(isinstance(decision, Scale) or is_ours, model, seen, asked)
    return _alike(model, seen, asked, at_ms)


def settled(verdict: Verdict, old: Asked | None, kind: str, error: str) -> Verdict:
    """The verdict once its write ended: `kind` is the outcome of one that failed, else empty."""
    if not kind:
        return verdict
    act = msgspec.structs.replace(verdict.act, outcome=msgspec.convert(kind, Outcome), error=error)
    tries = 0 if old is None else old.tries
    asked = verdict.asked and msgspec.structs.replace(verdict.asked, tries=tries)
    return Verdict(act, asked)


def decided_of(decision: Decision, old: Asked | None) -> int | None:
    """The number to hold Serve to; None: nobody decided one yet."""
    match decision:
        case Scale():
            return decision.replicas
        case Hold():
            return None if old is None else old.wanted - old.extra
        case _:
            assert_never(decision)


def coming(seen: Engines, old: Asked | None, at_ms: int) -> int:
    """Replicas that may be counted on: wanted by Serve, not there yet, and on their way."""
    missing = max(0, seen.target - seen.running)
    if old is not None and _is_stuck(seen, old, at_ms):
        return 0
    return missing


def _moved(number: tuple[int, int], seen: Engines, old: Asked | None, at_ms: int) -> Asked:
    """What is asked for now: `number` is (wanted, of these extra)."""
    wanted, extra = number
    shape = (seen.target, seen.running, seen.starting)
    if old is None or (old.wanted, old.extra) != number:
        return Asked(wanted, at_ms, shape, extra=extra)
    if old.shape != shape or at_ms < old.moved_ms:  # progress, or a clock set back
        return msgspec.structs.replace(old, moved_ms=at_ms, shape=shape, tries=0)
    return old


def _unlike(may_lower: bool, model: str, seen: Engines, asked: Asked) -> Verdict:
    """Serve's target is another number."""
    wanted = asked.wanted
    if wanted < seen.target and not may_lower:
        words = f"Serve's target is {seen.target}, {wanted} was decided; a hold takes nothing away"
        return Verdict(Act(NAME, model, "kept", words, wanted, seen.running), asked)
    tries = asked.tries + 1
    asked = msgspec.structs.replace(asked, tries=tries)
    if tries > TRIES_MAX:
        words = f"Serve accepted {wanted} {tries - 1} times, its target is still {seen.target}"
        return Verdict(Act(NAME, model, "stuck", words, wanted, seen.running), asked, wanted)
    words = f"target {seen.target} -> {wanted}"
    if asked.extra:
        words += f", {asked.extra} of them beside replicas whose hosts are going"
    return Verdict(Act(NAME, model, "asked", words, wanted, seen.running), asked, wanted)


def _alike(model: str, seen: Engines, asked: Asked, at_ms: int) -> Verdict:
    """Serve has our number; whether it acts on it."""
    wanted = asked.wanted
    if seen.running == wanted:
        words = f"{wanted} wanted, {wanted} running"
        return Verdict(Act(NAME, model, "kept", words, wanted, seen.running), asked)
    waited_s = (at_ms - asked.moved_ms) / 1e3
    words = f"{wanted} wanted, {seen.running} running, {seen.starting} starting"
    if _is_stuck(seen, asked, at_ms):
        words += f"; Serve accepted it and nothing has changed for {waited_s:.0f} s"
        if seen.message:
            words += f": {seen.message}"
        return Verdict(Act(NAME, model, "stuck", words, wanted, seen.running), asked)
    return Verdict(Act(NAME, model, "coming", words, wanted, seen.running), asked)


def _is_stuck(seen: Engines, asked: Asked, at_ms: int) -> bool:
    if seen.running >= seen.target and seen.target == asked.wanted:
        return False
    if asked.tries > TRIES_MAX:
        return True
    if asked.shape != (seen.target, seen.running, seen.starting):
        return False
    limit_s = LOADING_S if seen.starting else IDLE_S
    return at_ms - asked.moved_ms > limit_s * 1e3


def _or(wanted: int | None) -> int:
    return -1 if wanted is None else wanted
