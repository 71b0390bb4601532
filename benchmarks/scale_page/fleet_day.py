"""Fifty models on at most five hundred replicas for some hours: the controller's own `step`, one
call a tick for all of them, in a world where replicas boot, fail and are given back. Seeded.

Demand is made, not recorded: sizes fall off as a power of the rank, each model has its own hour of
the day, and wanders. Fluid as `autoscale.simulate`: it says what is rented, not how long
a caller waits.
"""

from __future__ import annotations

import math
import random
import statistics
import time

import msgspec

from autoscale.arrivals import BIN_S
from autoscale.memory import Memory
from autoscale.policy import Api, Budget, Plan, Policy, Pool
from autoscale.records import Demand, Samples, Scale, Signals, Supply
from autoscale.step import step
from autoscale.work import Work, of_profile
from autoscale.world import Scenario, World
from models.capacity import PROFILES

RATIO = 3.0
"""The API's price for a replica's work against the replica's hour."""
HOUR_MICRO = 3_600_000_000
PROMPT_PER_OUTPUT = 3.75
"""Tokens: 1,500 in and 400 out."""
DAY_S = 86_400.0
EPOCH_MS = 1_767_225_600_000
GATEWAYS = 20


class Size(msgspec.Struct, frozen=True):
    """Of the world."""

    models: int = 50
    replicas_most: int = 500
    mean: float = 330.0
    """Replicas' work, over all models and the day."""
    hours: float = 6.0
    from_hour: float = 7.0
    """Of the day; most models are busiest about noon."""
    seed: int = 1


class Told(msgspec.Struct, frozen=True):
    """What came of it."""

    ticks: int
    replica_hours: float
    most: int
    """Replicas ordered at once."""
    starts: int
    own_share: float
    """Of the work."""
    api_share: float
    lost_share: float
    use: float
    """Of the replicas paid for."""
    cost: float
    """Of rent and API, in replica-hours."""
    cost_api: float
    """Had all gone to the API."""
    cost_even: float
    """Had every model its own peak rented all the time."""
    step_ms: float
    """Median."""
    step_ms_most: float
    held: int
    """Decisions to leave a number, of all."""
    decisions: int


class _Model:
    """One model's demand and replicas."""

    def __init__(self, number: int, mean: float, size: Size) -> None:
        # Reproducible draws, not secrets.
        self._lots = random.Random(f"{size.seed}/{number}")
        self.name, self._mean = f"m{number}", mean
        self._noon_s = 12 * 3600 + self._lots.gauss(0.0, 7200.0)
        self._wander = 0.0
        scenario = Scenario(ratio=RATIO, ready_cv=0.4, fail_rate=0.02)
        self.world = World(scenario, size.seed * 1000 + number)
        self.totals = [0.0] * 4
        self.peak = 0.0

    def demand(self, at_s: float) -> float:
        """In replicas: a day's wave, and a wander of half an hour."""
        self._wander += -self._wander * BIN_S / 1800 + self._lots.gauss(0.0, 0.2) * math.sqrt(
            2 * BIN_S / 1800
        )
        wave = 1.0 + 0.8 * math.cos(2 * math.pi * (at_s - self._noon_s) / DAY_S)
        found = self._mean * wave * math.exp(self._wander)
        self.peak = max(self.peak, found)
        return found


def plans(size: Size, work: Work) -> Policy:
    """What the controller is told: one pool and one API each, one bound over all."""
    micro = HOUR_MICRO / 3600 * RATIO * 1e6
    api = Api(round(work.prompt_token_s * micro), round(work.output_token_s * micro))
    made = tuple(
        Plan(f"m{n}", 64, (Pool("pool", hour_micro=HOUR_MICRO, ready_s=180.0, most=128),), api,
             work)
        for n in range(size.models)
    )  # fmt: skip
    return Policy(made, Budget(replicas_max=size.replicas_most))


def run(size: Size) -> Told:
    """The whole of it."""
    work = of_profile(PROFILES["qwen3-32b-fp8-h100"], 64)
    weights = [(n + 1) ** -0.8 for n in range(size.models)]
    every = [_Model(n, size.mean * weight / sum(weights), size) for n, weight in enumerate(weights)]
    policy, memory, took, held, decided = plans(size, work), Memory(), [], 0, 0
    ticks = max(1, round(size.hours * 3600 / BIN_S))
    most = 0
    for tick in range(ticks):
        at_s = size.from_hour * 3600 + tick * BIN_S
        for one in every:
            _pass(one, at_s, work)
        samples = _seen(every, EPOCH_MS + round(at_s * 1e3))
        began = time.thread_time()
        outcome = step(samples, memory, policy)
        took.append((time.thread_time() - began) * 1e3)
        memory = outcome.memory
        for one, decision in zip(every, outcome.decisions, strict=True):
            decided += 1
            if isinstance(decision, Scale):
                one.world.want(decision.replicas)
            else:
                held += 1
        most = max(most, sum(one.world.ordered for one in every))
    return _told(every, (took, most), (held, decided))


def _pass(one: _Model, at_s: float, work: Work) -> None:
    """A bin of one model: its work done, its totals told."""
    own, api = one.world.pass_bin(one.demand(at_s))
    per_output = PROMPT_PER_OUTPUT * work.prompt_token_s + work.output_token_s
    for place, share in ((0, own), (2, api)):
        output = share * BIN_S / per_output
        one.totals[place] += output * PROMPT_PER_OUTPUT
        one.totals[place + 1] += output


def _seen(every: list[_Model], at_ms: int) -> Samples:
    """Each gateway has an even part."""
    demand = {}
    for one in every:
        served_in, served_out, burst_in, burst_out = (int(t / GATEWAYS) for t in one.totals)
        demand[one.name] = Demand(
            served_prompt_total=served_in, served_output_total=served_out,
            burst_prompt_total=burst_in, burst_output_total=burst_out,
        )  # fmt: skip
    reports = tuple(Signals(f"g{n}", 1, at_ms, demand) for n in range(GATEWAYS))
    return Samples(at_ms, reports, (), {one.name: Supply(one.world.ready) for one in every})


def _told(every: list[_Model], seen: tuple[list[float], int], count: tuple[int, int]) -> Told:
    took, most = seen
    sums = [one.world.spent for one in every]
    own, api, lost = (
        sum(getattr(s, name) for s in sums) for name in ("own_work", "api_work", "lost_work")
    )
    rent, hours = sum(s.rent for s in sums), BIN_S / 3600
    work = own + api + lost
    return Told(
        ticks=len(took), replica_hours=rent * hours, most=most, starts=sum(s.starts for s in sums),
        own_share=own / work, api_share=api / work, lost_share=lost / work, use=own / rent,
        cost=sum(s.cost for s in sums) * hours, cost_api=work * RATIO * hours,
        cost_even=sum(math.ceil(one.peak) for one in every) * len(took) * hours,
        step_ms=statistics.median(took), step_ms_most=max(took), held=count[0],
        decisions=count[1],
    )  # fmt: skip
