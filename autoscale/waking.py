"""Replicas for calls that can go nowhere else, whatever their work is worth. Pure.

A few calls whose data stays home are lost in the account beside all that an API takes: their work
is next to nothing, and nobody else can do it. Where one is held or refused, one replica more is
started and waited for; from then on the account decides, so it stays for a start's worth. Where
that was too short and another one is refused, the next stays for twice the time between the two:
of calls that keep coming fewer and fewer are refused, and one call a day pays for one start. The
rent is at most some three times that of the time in which such calls came.
"""

from __future__ import annotations

from msgspec.structs import replace

from autoscale import decide
from autoscale.ladder import Rung
from autoscale.memory import ModelMemory, Woken
from autoscale.supply import LATE

APART_MS = 1_800_000
"""A refusal that comes later than this after a replica was last kept is one of its own: nothing is
kept until the next."""
APART_MS_MAX = 3_600_000


def waked(
    model: ModelMemory, rungs: tuple[Rung, ...], bound: int, trust: float, at_ms: int
) -> ModelMemory:
    """The memory after `bound` refusals of calls that could not leave. One replica at a time: what
    is coming may be enough."""
    if not (bound or model.woken.count):
        return model
    ready, wanted = sum(model.ready.values()), sum(model.wanted.values())
    woken = model.woken
    if bound and wanted <= ready < len(rungs):
        woken = _asked(woken, ready + 1, round(1e3 * rungs[ready].ready_s), at_ms)
    is_over = at_ms >= (woken.keep_ms if ready >= woken.count else woken.until_ms)
    if not woken.count or is_over:
        return replace(model, woken=replace(woken, count=0)) if woken.count else model
    if not rungs:  # no pool can give one now
        return replace(model, woken=woken)
    return held_on(replace(model, woken=woken), rungs[: woken.count], trust)


def _asked(before: Woken, count: int, ready_ms: int, at_ms: int) -> Woken:
    apart_ms, keep_ms = at_ms - before.at_ms, 0
    if before.at_ms and at_ms - max(before.at_ms, before.keep_ms) <= APART_MS:
        keep_ms = at_ms + ready_ms + 2 * min(max(apart_ms, 0), APART_MS_MAX)
    return Woken(count, at_ms, keep_ms, max(keep_ms, at_ms + round(LATE * ready_ms)))


def held_on(model: ModelMemory, rungs: tuple[Rung, ...], trust: float) -> ModelMemory:
    """As many places on as these rungs, the last one with a whole account: what was started for
    such calls is not given back before or the moment they run."""
    count = len(rungs)
    rest = [decide.idle(rung, trust) for rung in rungs[len(model.balances) :]]
    balances, is_on = [*model.balances, *rest], [*model.is_on, *[False] * len(rest)]
    balances[count - 1] = 0.0
    is_on[:count] = [True] * count
    return replace(
        model, balances=tuple(balances), is_on=tuple(is_on), depth=max(count, model.depth)
    )
