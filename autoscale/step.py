"""The one brain: samples and memory in, one decision per model out, each with its reason. Pure.

windows -> forecast -> decide -> limits. Controller, simulator and replay call this very function.
Without data it holds; with part of the data it may add replicas and never takes any away.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import msgspec
from msgspec.structs import replace

from autoscale import clocks, decide, edge, forecast, limits, owned, reasons, waking, windows
from autoscale.ladder import Rung, by_pool, ladder
from autoscale.memory import Memory, ModelMemory
from autoscale.policy import Plan, Policy
from autoscale.records import Decision, Hold, Samples, Scale
from autoscale.spares import spares
from autoscale.supply import arrived, caps, ordered, ready_of
from autoscale.swaps import EVERYTHING, Room, bridged, common, shared, some, stayed
from autoscale.windows import Flow, Fresh

AWAY_S = 1800.0
ALONE = 0.5
"""Refused share of the overflow from which the API counts as away."""
NEWS = 0.3
"""Weight of one tick's overflow in the share that is refused."""
PRICE_S = 3600.0
"""Memory of the API's price per work, which moves with the mix of calls."""
NEW = ModelMemory()


class Outcome(msgspec.Struct, frozen=True):
    """Decisions in the order of the plans, and what to pass in at the next tick."""

    decisions: tuple[Decision, ...]
    memory: Memory


class _Case(msgspec.Struct, frozen=True):
    """One model half-way."""

    plan: Plan
    model: ModelMemory
    wish: limits.Wish
    why: str
    numbers: Mapping[str, float]
    partial: int
    """Sources that say nothing of this model."""
    edge: str
    """What replicas of ours do at their edge, in words."""


def step(samples: Samples, memory: Memory, policy: Policy) -> Outcome:
    """One decision for each plan."""
    seen = windows.fresh(samples, memory)
    if not seen.gateways:
        why = reasons.STALE if samples.gateways else reasons.NO_GATEWAY
        return Outcome(tuple(Hold(p.model, why) for p in policy.plans), memory)
    at_ms = samples.at_ms
    if not seen.elapsed_s:
        memory = clocks.followed(memory, at_ms)
    day_micro = limits.charged(memory, policy, at_ms, seen.elapsed_s)
    marks = {(mark.instance, mark.started): mark for mark in memory.marks}
    cases: list[_Case | Decision] = []
    for plan in policy.plans:
        news = (seen, windows.flow(plan, seen, marks))
        cases.append(_case(plan, policy, samples, news, memory))
    counts: Mapping[str, int] = {}
    room = EVERYTHING
    if policy.budget.is_bounded:
        wishes = [case.wish for case in cases if isinstance(case, _Case)]
        counts = limits.shared(wishes, policy.budget, day_micro)
        room = limits.room(wishes, counts, policy.budget, day_micro)
    decisions: list[Decision] = []
    models = dict(memory.models)
    for case in cases:
        if isinstance(case, _Case):
            decision, models[case.plan.model], room = _settle(case, counts, room, at_ms)
            decisions.append(decision)
        else:
            decisions.append(case)
    day = clocks.day(memory, at_ms, seen.elapsed_s)
    return Outcome(tuple(decisions), Memory(at_ms, seen.marks, models, day, day_micro))


def _case(
    plan: Plan, policy: Policy, samples: Samples, news: tuple[Fresh, Flow], memory: Memory
) -> _Case | Decision:
    seen, flow = news
    supply = (samples.supply or {}).get(plan.model)
    if supply is None or supply.ready < 0:
        return Hold(plan.model, reasons.NO_SUPPLY)
    partial = seen.partial + flow.odd
    if not plan.pools:
        return owned.decide(plan, flow, partial, supply)
    at_ms = samples.at_ms
    old = memory.models.get(plan.model)
    model = old or NEW
    ready = ready_of(plan, supply, model)
    if old is None:
        model = replace(model, ready=ready, wanted=ready)
    model = arrived(plan, model, ready, at_ms)
    watch, edges, does = model.watch, model.edges, model.does
    trend, price, listed, refused = model.trend, model.micro_per_work_s, model.listed, model.refused
    elapsed_s = seen.elapsed_s
    is_news = elapsed_s > 0.0 and not partial
    if is_news:
        watch, edges, does = edge.watched(model, plan, flow, elapsed_s, policy.edge_least)
    rungs = ladder(plan, caps(plan, model, samples.short), model.ready_s, does)
    lead_s = rungs[0].ready_s_max if rungs else 1.0
    if is_news:
        trend = forecast.learn(trend, flow.need, at_ms, elapsed_s, lead_s)
        api = plan.api
        listed = () if api is None else (api.prompt_micro_per_mtok, api.output_micro_per_mtok)
        is_new = bool(model.listed) and model.listed != listed
        price = _price(0.0 if is_new else price, flow, elapsed_s)
        refused = _refused(refused, flow, elapsed_s)
    elif not (price or flow.odd):
        price = _price(0.0, flow, elapsed_s)  # a part of the calls tells their mix well enough
    worst = plan.insurance if plan.insurance > refused else refused
    if flow.is_away:
        worst = 1.0
    outlook = forecast.outlook(trend, at_ms, lead_s)
    api_price = None if plan.api is None else price
    view = decide.View(flow.need, outlook, api_price, worst, elapsed_s, policy.trust)
    adopted = shared(plan, model.wanted) if old is None else None
    weighed = _weighed(model, rungs, view, adopted, partial)
    model = replace(
        model, trend=trend, micro_per_work_s=price, listed=listed, refused=refused,
        balances=weighed.balances, is_on=weighed.is_on, depth=weighed.depth,
        watch=watch, edges=edges, does=does,
    )  # fmt: skip
    return _wished(plan, (flow, rungs, view), model, policy.edge_least, (at_ms, partial))


def _price(old: float, flow: Flow, elapsed_s: float) -> float:
    """API money per second of work, in the recent mix."""
    rate = flow.rate
    if rate <= 0.0 or flow.micro_per_s <= 0.0:
        return old
    now = flow.micro_per_s / rate
    weight = rate * elapsed_s / PRICE_S if old else 1.0
    return old + (weight if weight < 1.0 else 1.0) * (now - old)


def _refused(old: float, flow: Flow, elapsed_s: float) -> float:
    """Share of what overflows that nobody takes. Without news it fades: an API that was down is
    tried again at the price of a short loss."""
    over = flow.unmet_rate + flow.burst_rate
    if over <= 0.0:
        return old and old * math.exp(-elapsed_s / AWAY_S)
    return old + NEWS * (flow.unmet_rate / over - old)


def _weighed(
    model: ModelMemory, rungs: tuple[Rung, ...], view: decide.View, adopted: int | None,
    partial: int,
) -> decide.Weighed:  # fmt: skip
    before = decide.Weighed(model.balances, model.is_on, model.depth)
    if adopted is not None:  # what runs has until its account is used up to be of use
        before = decide.Weighed((0.0,) * adopted, (True,) * adopted)
    weighed = decide.weigh(rungs, view, before)
    if partial:  # part of the demand was not seen: it may only speak for more
        weighed = decide.higher(rungs, weighed, before, view.trust)
    return weighed


def _wished(
    plan: Plan, weighed: tuple[Flow, tuple[Rung, ...], decide.View], model: ModelMemory,
    edge_least: float, when: tuple[int, int],
) -> _Case:  # fmt: skip
    (flow, rungs, view), (at_ms, partial) = weighed, when
    ready = shared(plan, model.ready)
    before = max(0, shared(plan, model.wanted) - model.spare)
    wait_s = flow.backlog_s / ready if ready else flow.backlog_s + (flow.queued > 0) * 1e6
    count, why = sum(model.is_on), reasons.ACCOUNT
    # A stray refusal while the API takes the rest is priced by the account, not rented for.
    is_alone = plan.api is None or model.refused >= ALONE or flow.is_away
    if is_alone and (flow.shed or flow.late or (flow.queued and wait_s > plan.wait_s_max)):
        need = max(1, decide.urgent(rungs, flow.backlog_s, view.rate, plan.wait_s_max))
        if need > count:
            # Its place is on: else the next tick without a refusal takes the order back.
            model = waking.held_on(model, rungs[:need], view.trust)
            count, why = need, reasons.LATE
    if flow.queued and not ready and rungs:
        # Whatever the API takes, it has not taken these: they are kept home, or worth holding.
        model = waking.held_on(model, rungs[:1], view.trust)
        if not count:
            count, why = 1, reasons.HELD
    if plan.api is not None:
        model = waking.waked(model, rungs, flow.bound, view.trust, at_ms)
        if model.woken.count > count:
            count, why = model.woken.count, reasons.BOUND
    if flow.is_away and (more := spares(plan, rungs, view.rate, count, (ready, before))):
        count, why = count + more, reasons.SPARE
    least, most = limits.bounds(plan, at_ms)
    if not least <= count <= most:
        count, why = min(max(count, least), most), reasons.bounds(least, most)
    if partial and count < before:
        count, why = before, reasons.PARTIAL
    count = limits.stepped(plan, before, count)
    pool, share, error = edge.told(model, edge_least)
    numbers = {
        "rate": flow.rate, "served": flow.served_rate, "shed": flow.shed_rate,
        "burst": flow.burst_rate, "late": flow.late_rate, "bound": flow.bound,
        "running": flow.running, "queued": flow.queued,
        "wait_s": wait_s if wait_s < 1e6 else 1e6, "ready": ready, "forecast": view.outlook.mean,
        "deviation": view.outlook.deviation, "api_micro_per_s": view.micro_per_work_s or 0.0,
        "refused": view.refused, "edge": share, "edge_error": error,
    }  # fmt: skip
    wish = limits.Wish(plan.model, count, least, rungs, view)
    return _Case(plan, model, wish, why, numbers, partial, reasons.at_edge(pool, share, error))


def _settle(
    case: _Case, counts: Mapping[str, int], room: Room, at_ms: int
) -> tuple[Decision, ModelMemory, Room]:
    """The decision within the budget, the model's memory, and what is left of the budget."""
    plan, model, wish, partial = case.plan, case.model, case.wish, case.partial
    count = counts.get(plan.model, wish.count)
    why = case.why if count == wish.count else reasons.BUDGET
    wanted = by_pool(wish.rungs, count)
    counted = sum(wanted.values())
    # Of one pool that bills seconds nothing is beyond the number, but of other settings before it.
    is_beyond = len(plan.pools) > 1 or plan.pools[0].is_hourly
    held = None
    if is_beyond and partial and why is not reasons.BUDGET:
        held = stayed(plan, common(plan, model.wanted), wanted, room)
        why = reasons.BUDGET if held is None else why
    if held is not None:
        wanted, room = held
    elif len(plan.pools) > 1 and wanted != model.wanted:
        wanted, room = bridged(plan, model, wanted, room)
    wanted = limits.kept(plan, model, wanted, at_ms)
    total, before, ready = sum(wanted.values()), some(model.wanted), some(model.ready)
    if model.orders or wanted != model.wanted:
        model = ordered(model, plan, wanted, at_ms)
    if is_beyond or model.spare:
        spare = max(0, shared(plan, wanted) - counted)
        if spare != model.spare:
            model = replace(model, spare=spare)
    if wanted == before == ready:  # else an order is taken back, and somebody must be told
        said = reasons.stands(total, partial, case.edge)
        return Hold(plan.model, said, case.numbers), model, room
    reason = reasons.ordered(why, wanted, partial, case.edge, model.spare)
    return Scale(plan.model, total, reason, wanted, case.numbers), model, room
