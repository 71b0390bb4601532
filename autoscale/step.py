"""The one brain: samples in, one decision per model out, each with its reason. Pure.

Today's rule only grows: more replicas when calls wait, were shed or went to an API because there
were too few. It never shrinks; that needs windows and forecasts, which come with the autoscaler.
"""

from __future__ import annotations

from autoscale.records import Decision, Demand, Hold, Plan, Samples, Scale, Signals

STALE_MS = 10_000
"""A gateway's report older than this is not news."""
NO_DEMAND = Demand()


def step(samples: Samples, before: Samples | None, plans: tuple[Plan, ...]) -> tuple[Decision, ...]:
    """One decision for each plan, in order. `before` is the tick before, for growth of totals."""
    fresh = tuple(g for g in samples.gateways if samples.at_ms - g.at <= STALE_MS)
    stale = len(samples.gateways) - len(fresh)
    partial = len(samples.missing) + stale
    return tuple(_decide(plan, samples, fresh, before, partial) for plan in plans)


def _decide(
    plan: Plan, samples: Samples, fresh: tuple[Signals, ...], before: Samples | None, partial: int
) -> Decision:
    if not fresh:
        return Hold(plan.model, "no data: no gateway answered")
    if samples.supply is None or plan.model not in samples.supply:
        return Hold(plan.model, "no data: replicas unknown")
    supply = samples.supply[plan.model]
    running = sum(g.models.get(plan.model, NO_DEMAND).running for g in fresh)
    queued = sum(g.models.get(plan.model, NO_DEMAND).queued for g in fresh)
    shed, burst = _grown(plan.model, fresh, before)
    note = f"; partial, {partial} source(s) missing" if partial else ""
    if not queued + shed + burst:
        return Hold(plan.model, f"nothing waits: {running} running on {supply.ready} ready{note}")
    why = f"queue {queued}, shed {shed}, burst {burst}, running {running}{note}"
    if supply.is_coming:
        return Hold(plan.model, f"a replica is coming; {why}")
    wanted = max(supply.ready + 1, -(-(running + queued + shed + burst) // plan.slots))
    return Scale(plan.model, wanted, f"{supply.ready} ready are too few: {why}")


def _grown(model: str, fresh: tuple[Signals, ...], before: Samples | None) -> tuple[int, int]:
    """Calls shed and burst since the tick before, of gateways that lived through both."""
    old = {(g.instance, g.started): g for g in (before.gateways if before else ())}
    shed = burst = 0
    for gateway in fresh:
        earlier = old.get((gateway.instance, gateway.started))
        if earlier is None:
            continue
        now = gateway.models.get(model, NO_DEMAND)
        then = earlier.models.get(model, NO_DEMAND)
        shed += max(0, now.shed_total - then.shed_total)
        burst += max(0, now.burst_total - then.burst_total)
    return shed, burst
