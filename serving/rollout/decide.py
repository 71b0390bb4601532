"""What a rollout does next. Pure: a row, what was seen and the time in; one step with its reason
out.

A difference counts when chance hardly makes it: if the new model were as the old one, or as bad as
is allowed, so many errors or more among so many calls would come less than once in `1 / CHANCE_MAX`
(the upper tail of the binomial distribution, exact: nearly all approximations are wrong where calls
are few). The question is asked every few seconds, so the bound is far below the usual 5 %.
"""

from __future__ import annotations

import math
from typing import NamedTuple, TypeAlias

from serving.rollout import words
from serving.rollout.values import Rollout

CHANCE_MAX = 1e-4
"""tests/unit/test_rollout.py counts the false alarms of many looks."""
REJECTED_MAX = 0.05
"""Share of calls that are answered as their caller's fault that is nobody's alarm."""
REJECTED_BLIND = 0.5
"""The same while the old model's share is not known: a blue-green step leaves it few calls."""
LOST_SHARE = 0.5
"""At the deadline: fewer ended calls than this share of those sent means that they hang."""


class Tally(NamedTuple):
    """Ended calls of one side."""

    calls: int = 0
    errors: int = 0
    late: int = 0
    asked: int = 0
    """Those, and calls answered as their caller's fault."""
    rejected: int = 0
    """The latter. Who is wrong is wrong with either model; a new one that takes what the old one
    took for a fault shows here, and nowhere else."""

    @property
    def error_share(self) -> float:
        """Of calls in which a target failed, whether or not another helped out."""
        return self.errors / self.calls if self.calls else 0.0

    @property
    def rejected_share(self) -> float:
        """Of calls that came, those answered as their caller's fault."""
        return self.rejected / self.asked if self.asked else 0.0

    @property
    def late_share(self) -> float:
        """Of calls whose first token came too late."""
        return self.late / self.calls if self.calls else 0.0


class Seen(NamedTuple):
    """What the ledger and the gateways tell."""

    new: Tally
    """Since the step began."""
    old: Tally
    before: Tally = Tally()
    """The old model's, since the rollout began."""
    engines: int = 0
    """Engines of the new model that the gateways see."""
    gate: str | None = None
    """Why the gate said no; empty is yes, None is not asked."""


class Unseen(NamedTuple):
    """Nothing is known now."""

    reason: str


class Hold(NamedTuple):
    """Go on as it is."""

    reason: str


class Advance(NamedTuple):
    """The next step."""

    step: int
    reason: str


class Arrive(NamedTuple):
    """In place: the new engine is there; the step is judged from now on."""

    reason: str


class Finish(NamedTuple):
    """The last step has passed."""

    reason: str


class RollBack(NamedTuple):
    """All calls to the old model again, at once."""

    reason: str


class Pause(NamedTuple):
    """Stay at this weight until somebody decides."""

    reason: str


Step: TypeAlias = Hold | Advance | Arrive | Finish | RollBack | Pause


def decide(rollout: Rollout, seen: Seen | Unseen, now_ms: int) -> Step:
    """The next step. A paused rollout is still taken back when it burns; one that is done too, for
    as long as a step may last."""
    in_step_s = (now_ms - rollout.since_ms) / 1e3
    is_over = in_step_s >= rollout.checks.deadline_s
    if rollout.state not in ("running", "paused", "done"):
        return Hold(words.is_now(rollout.state))
    if rollout.state == "done" and is_over:
        return Hold(words.DONE)
    if isinstance(seen, Unseen):
        if is_over and rollout.state == "running":
            return Pause(words.unknown(seen.reason, is_over=True))
        return Hold(words.unknown(seen.reason, is_over=False))
    if rollout.step < 0:
        return _begin(rollout, seen, is_over)
    if rollout.is_in_place and not rollout.has_begun:
        return _in_the_gap(rollout, seen, is_over)
    burn = burning(rollout, seen)
    if burn:
        return RollBack(burn)
    if rollout.state != "running":
        return Hold(words.is_now(rollout.state))
    missing = _missing(rollout, seen, in_step_s)
    if not missing:
        return _onward(rollout, seen)
    return _expired(rollout, seen, missing) if is_over else Hold(missing)


def burning(rollout: Rollout, seen: Seen) -> str:
    """Why the new model must not go on; empty is no reason."""
    checks, new = rollout.checks, seen.new
    if new.calls >= checks.hard_calls_min and new.error_share >= checks.error_hard:
        return words.hard(new.errors, new.calls, checks.error_hard)
    old = seen.old if seen.old.calls >= checks.calls_min else seen.before
    usual = REJECTED_MAX if old.asked >= checks.calls_min else REJECTED_BLIND
    for what, count, calls, most, was in (
        (words.ERRORS, new.errors, new.calls, checks.error_max, old.error_share),
        (words.LATE, new.late, new.calls, checks.late_max, old.late_share),
        (words.REJECTED, new.rejected, new.asked, usual, old.rejected_share),
    ):
        share = max(most, was)
        if calls >= checks.hard_calls_min and by_chance(count, calls, share) < CHANCE_MAX:
            return words.burn(what, (count, calls), was, most)
    return ""


def by_chance(count: int, calls: int, share: float) -> float:
    """How likely `count` or more of `calls` are where each is one with the chance `share`."""
    if count <= calls * share:
        return 1.0
    if share <= 0.0:
        return 0.0
    log = (
        math.lgamma(calls + 1) - math.lgamma(count + 1) - math.lgamma(calls - count + 1)
        + count * math.log(share) + (calls - count) * math.log1p(-share)
    )  # fmt: skip
    term = total = math.exp(log)
    odds = share / (1 - share)
    for one in range(count, calls):  # each is smaller than the one before: above the mean
        term *= (calls - one) / (one + 1) * odds
        total += term
        if term < total * 1e-12:
            break
    return min(1.0, total)


def _begin(rollout: Rollout, seen: Seen, is_over: bool) -> Step:
    if rollout.state == "paused":
        return Hold(words.is_now("paused"))
    if rollout.needs_engine and not rollout.is_in_place and not seen.engines:
        if is_over:
            return Pause(words.NO_ENGINE_MOVED)
        return Hold(words.NO_ENGINE_YET)
    if seen.gate is None:
        return Hold(words.WAITS_FOR_GATE)
    if seen.gate:
        return RollBack(words.refused_by_gate(seen.gate))
    return Advance(0, words.begins(seen.engines))


def _in_the_gap(rollout: Rollout, seen: Seen, is_over: bool) -> Step:
    """No engine of either model: what third parties answer or we refuse is no judgement."""
    if seen.engines:
        return Arrive(words.arrived(seen.engines))
    if is_over and rollout.state == "running":
        return RollBack(words.NO_ENGINE_CAME)
    return Hold(words.IN_THE_GAP)


def _missing(rollout: Rollout, seen: Seen, in_step_s: float) -> str:
    """What the step still lacks to be passed."""
    checks = rollout.checks
    if seen.new.calls < checks.calls_min:
        return words.calls_seen(seen.new.calls, checks.calls_min)
    if in_step_s < checks.hold_s:
        return words.time_seen(in_step_s, checks.hold_s)
    if rollout.needs_engine and not seen.engines:
        return words.NO_ENGINE_LEFT
    return ""


def _onward(rollout: Rollout, seen: Seen) -> Step:
    new = seen.new
    said = words.passed(new.calls, new.errors, new.late)
    if rollout.step + 1 == len(rollout.steps):
        return Finish(said)
    return Advance(rollout.step + 1, said)


def _expired(rollout: Rollout, seen: Seen, missing: str) -> Step:
    """The deadline has come. Calls that were sent and did not end are the worst sign; too few of
    them are none."""
    percent = rollout.percent
    if percent < 100:
        sent = seen.old.calls * percent / (100 - percent)
        if sent >= rollout.checks.calls_min and seen.new.calls < LOST_SHARE * sent:
            return RollBack(words.lost(sent, seen.new.calls))
    return Pause(words.expired(missing))
