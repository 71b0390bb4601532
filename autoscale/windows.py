"""From totals and counts to one model's demand in work, each signal on its own. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from operator import add, sub

import msgspec

from autoscale.memory import Mark, Memory
from autoscale.policy import Api, Plan
from autoscale.records import Demand, Samples, Signals

STALE_MS = 10_000
"""A gateway's report older than this is not news."""
GAP_MS_MAX = 300_000
"""After a longer pause, totals say nothing of the rate now."""
NO_DEMAND = Demand()
FREE = Api(0, 0)
"""Where there is no API, nothing is paid to one."""


class Fresh(msgspec.Struct, frozen=True):
    """The part of a sample that counts."""

    gateways: tuple[Signals, ...]
    partial: int
    """Sources that are away or stale."""
    elapsed_s: float
    """Since the tick before; 0 when there was none, the clock jumped, or too long ago."""
    marks: tuple[Mark, ...]
    """Of these gateways."""


class Flow(msgspec.Struct, frozen=True):
    """One model's demand. Rates are full replicas kept busy; backlog is seconds of one."""

    running: int
    queued: int
    shed: int
    burst: int
    served_rate: float
    shed_rate: float
    burst_rate: float
    backlog_s: float
    micro_per_s: float
    """What the API would take for all of it."""
    late: int = 0
    late_rate: float = 0.0
    """Work that had to stay and was begun too late; it is in `served_rate` too."""
    bound: int = 0
    """Of `shed`, the calls that could not have left."""
    is_away: bool = False
    """The API is absent as a whole: shut, and it took nothing since the tick before."""
    rate: float = 0.0
    """Work that comes in, wherever it went."""
    need: float = 0.0
    """Replicas that it takes. What was late counts once more: so much was missing when it came."""
    odd: int = 0
    """Gateways whose numbers for this model say nothing: it is not in their report, a number is
    below 0, a total shrank, or they began since the tick before. They count as missing."""

    @property
    def unmet_rate(self) -> float:
        """Work that neither our engines in time nor any API did."""
        return self.shed_rate + self.late_rate

    @property
    def unplaced(self) -> int:
        """Calls that found no replica."""
        return self.queued + self.shed + self.burst


def fresh(samples: Samples, memory: Memory) -> Fresh:
    """Gateways that speak of now, and how long the tick lasted."""
    at_ms, heard = samples.at_ms, samples.gateways
    # A stamp from the future is a clock that jumped: as little news as an old one.
    good = [gateway for gateway in heard if -STALE_MS <= at_ms - gateway.at <= STALE_MS]
    if len(good) > 1 and len({gateway.instance for gateway in good}) < len(good):
        # Two addresses of one gateway: its work counts once, and another one was not asked.
        good = list({gateway.instance: gateway for gateway in good}.values())
    elapsed_ms = at_ms - memory.at_ms
    is_known = memory.at_ms != 0 and 0 < elapsed_ms <= GAP_MS_MAX
    partial = len(samples.missing) + len(heard) - len(good)
    return Fresh(tuple(good), partial, elapsed_ms / 1e3 if is_known else 0.0, marked(good))


def marked(gateways: Sequence[Signals]) -> tuple[Mark, ...]:
    """Their totals, to compare with at the next tick. A gateway that did not answer starts anew:
    growth over a gap of unknown length is no rate."""
    found = []
    for gateway in gateways:
        sums = {name: totals(demand) for name, demand in gateway.models.items()}
        found.append(Mark(gateway.instance, gateway.started, sums))
    return tuple(found)


def flow(plan: Plan, seen: Fresh, before: dict[tuple[str, int], Mark]) -> Flow:
    """What gateways that lived through both ticks add up to."""
    running = queued = tokens = 0
    grown, is_shut, model, odd = NO_TOTALS, len(seen.gateways) > 0, plan.model, 0
    for gateway, mark in zip(seen.gateways, seen.marks, strict=True):
        now = gateway.models.get(model)
        if now is None:
            is_shut, odd = False, odd + 1
            continue
        if now.running > 0:
            running += now.running
        if now.queued > 0:
            queued += now.queued
        if now.queued_tokens > 0:
            tokens += now.queued_tokens
        is_shut = is_shut and now.is_shut
        is_, old = mark.totals[model], before.get((mark.instance, mark.started))
        was = None if old is None else old.totals.get(model)
        if was is None:
            is_odd = seen.elapsed_s > 0.0 or min(is_) < 0
        else:
            if len(was) < len(is_):  # a mark of an older release says nothing of the rest
                was += is_[len(was) :]
            more = tuple(map(sub, is_, was))
            is_odd = min(is_ + more) < 0
            if is_odd:
                more = tuple([max(0, n) for n in more])
            grown = more if grown is NO_TOTALS else tuple(map(add, grown, more))
        odd += is_odd or now.running < 0 or now.queued < 0 or now.queued_tokens < 0
    found = _flow(plan, seen.elapsed_s, (running, queued, tokens, is_shut), grown)
    return msgspec.structs.replace(found, odd=odd) if odd else found


def _flow(
    plan: Plan, elapsed_s: float, counts: tuple[int, int, int, bool], grown: tuple[int, ...]
) -> Flow:
    work, api, (running, queued, waiting, is_shut) = plan.work, plan.api or FREE, counts
    (shed, burst, prompt, output, shed_prompt, shed_output, burst_prompt, burst_output,
     late, late_prompt, late_output, bound) = grown  # fmt: skip
    served_rate = shed_rate = burst_rate = late_rate = micro = 0.0
    if elapsed_s:
        served_rate = work.of(prompt, output) / elapsed_s
        micro += api.of(prompt, output)
        if shed or shed_prompt or shed_output:
            shed_rate = (work.of(shed_prompt, shed_output) or shed * work.call_s) / elapsed_s
            micro += api.of(shed_prompt, shed_output)
        if burst or burst_prompt or burst_output:
            burst_rate = (work.of(burst_prompt, burst_output) or burst * work.call_s) / elapsed_s
            micro += api.of(burst_prompt, burst_output)
        if late or late_prompt or late_output:  # served too, so its price is counted there
            late_rate = (work.of(late_prompt, late_output) or late * work.call_s) / elapsed_s
        micro /= 1e6 * elapsed_s
    # Queued tokens are prompt and output together: the mean price of a token is between the two.
    backlog_s = waiting * (work.prompt_token_s + work.output_token_s) / 2
    rate = served_rate + shed_rate + burst_rate
    return Flow(
        running, queued, shed, burst, served_rate, shed_rate, burst_rate,
        backlog_s or queued * work.call_s, micro, late, late_rate, bound,
        is_shut and not burst_rate, rate, rate + late_rate,
    )  # fmt: skip


def totals(demand: Demand) -> tuple[int, ...]:
    """The totals of one model in one order."""
    return (
        demand.shed_total, demand.burst_total, demand.served_prompt_total,
        demand.served_output_total, demand.shed_prompt_total, demand.shed_output_total,
        demand.burst_prompt_total, demand.burst_output_total,
        demand.late_total, demand.late_prompt_total, demand.late_output_total,
        demand.bound_total,
    )  # fmt: skip


NO_TOTALS = totals(NO_DEMAND)
