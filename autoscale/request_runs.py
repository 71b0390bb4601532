"""Request-level comparisons: what answers were in time, and what they cost beside the optimum."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from statistics import mean

import msgspec

from autoscale import baselines, request_edge
from autoscale.arrivals import Asked, rows
from autoscale.calls import TICK_S, TOKEN_S_MAX, Row, Setup, Tally, Want, paced
from autoscale.contest import Run, all_api, with_course
from autoscale.course import Recorder
from autoscale.records import Demand
from autoscale.request_api import MICRO_PER_S
from autoscale.requests import Requests
from autoscale.simulate import OURS, Bench, Ours
from autoscale.work import Work
from models.capacity import Profile
from serving.finance.values import Grant


class Case(msgspec.Struct, frozen=True):
    """One trace in both forms: requests to serve, bins for the optimum."""

    bench: Bench
    rows: Sequence[tuple[float, int, int]]
    setup: Setup
    edge: request_edge.Edge = request_edge.Edge()
    """What its optimum may count on."""


def case_of(
    bench: Bench, wish: Asked, profile: Profile, batch: int, given: tuple[Grant, ...] = ()
) -> Case:
    """Each request through the gateway's routing; engines set as an operator would, and told how
    long answers are on average. Raises TraceError."""
    found = rows(wish)
    scenario = bench.scenario
    engine = msgspec.structs.replace(
        paced(profile, batch, TOKEN_S_MAX),
        mean_output_tokens=max(1, round(mean(row[2] for row in found))),
    )
    setup = Setup(engine, batch, ready_s=scenario.ready_s,
                  ready_cv=max(scenario.ready_cv, 0.01), outages=scenario.outages,
                  scenario=scenario, work=bench.work, grants=given,
                  months=bench.months)  # fmt: skip
    return Case(bench, found, setup, request_edge.found(bench, found, setup))


def ours(bench: Bench) -> Want:
    """The controller's step."""
    brain = Ours(bench)

    def want(now_s: float, demand: Demand, ready: int, wanted: int) -> int:
        # The first tick comes at the start itself; a clock at 0 would count as none.
        brain.at(now_s + TICK_S)
        return brain.asked(demand, ready, wanted)

    return want


def law(name: str, target: float, work: Work) -> Want:
    """A baseline, which sees the rate of work that came in since the tick before."""
    scaler = baselines.SCALERS[name](target)
    before = [0, 0]

    def want(now_s: float, demand: Demand, ready: int, wanted: int) -> int:
        del now_s
        now = [
            demand.served_prompt_total + demand.shed_prompt_total + demand.burst_prompt_total,
            demand.served_output_total + demand.shed_output_total + demand.burst_output_total,
        ]
        rate = work.of(now[0] - before[0], now[1] - before[1]) / TICK_S
        before[:] = now
        return scaler.wanted(baselines.Seen(rate, ready, wanted))

    return want


def compare(case: Case, seeds: Sequence[int], targets: Mapping[str, float]) -> list[Run]:
    """All policies. `kept` is the share of calls whose answer kept the objective."""
    bench = case.bench
    best, count = request_edge.best(bench, case.edge)
    named = f"best fixed ({count}) + API, hindsight"
    fixed = partial(law, "fixed + spill", float(count), bench.work)
    made: list[tuple[Case, tuple[str, Callable[[], Want]]]] = [
        (case, (OURS, partial(ours, bench))),
        (case, (named, fixed)),
    ]
    made += [
        (standing(case, name, target), (name, partial(law, name, target, bench.work)))
        for name, target in targets.items()
    ]
    rows = [one(where, law, seed, best.cost) for where, law in made for seed in seeds]
    return [msgspec.structs.replace(r, fixed=count) if r.policy == named else r for r in rows]


def standing(case: Case, name: str, target: float) -> Case:
    """With the machines that a baseline has rented by the month."""
    months = baselines.months(name, target)
    return msgspec.structs.replace(case, setup=msgspec.structs.replace(case.setup, months=months))


def one(case: Case, law: tuple[str, Callable[[], Want]], seed: int, best: float) -> Run:
    """One policy, one seed; `best` is the optimum's cost."""
    name, make = law
    began_s, recorder = time.perf_counter(), case.bench.recorder(seed)
    wanted = make()
    watched = Watched(wanted, recorder, case.bench.work) if recorder is not None else None
    run = Requests(case.setup, watched or wanted, seed)
    if watched is not None:
        watched.tally = run.tally
    tally = run.run([Row(*row) for row in case.rows])
    speed = len(case.rows) / (time.perf_counter() - began_s)
    row = _row(name, seed, (tally, speed), case.bench, best)
    return with_course(msgspec.structs.replace(row, edge=case.edge.share), recorder)


class Watched:
    """A law, and a record of what it was told."""

    def __init__(self, want: Want, recorder: Recorder, work: Work) -> None:
        self._want, self._recorder, self._work = want, recorder, work
        self._before = (0.0, 0.0, 0.0, 0.0)
        self.tally = Tally()

    def __call__(self, now_s: float, demand: Demand, ready: int, wanted: int) -> int:
        tally, of = self.tally, self._work.of
        own = of(tally.own[0], tally.own[1])
        work = own + of(tally.api[0], tally.api[1]) + of(tally.shed[1], tally.shed[2])
        now = (own, work, float(tally.kept), float(tally.calls))
        done = tuple(a - b for a, b in zip(now, self._before, strict=True))
        self._before = now
        level = (done[1] / TICK_S, float(ready), float(demand.queued))
        self._recorder.note(now_s, level, done)
        return self._want(now_s, demand, ready, wanted)


def _row(name: str, seed: int, done: tuple[Tally, float], bench: Bench, best: float) -> Run:
    tally, speed = done
    work = bench.work
    own_s, api_s = work.of(tally.own[0], tally.own[1]), work.of(tally.api[0], tally.api[1])
    cost_s = tally.rent_s + tally.api_micro / MICRO_PER_S
    total_s = own_s + api_s + work.of(tally.shed[1], tally.shed[2])
    return Run(
        policy=name,
        seed=seed,
        cost=cost_s / (best * TICK_S),
        starts=tally.starts,
        own_share=own_s / total_s,
        kept=tally.kept / max(1, tally.calls),
        saved=1.0 - cost_s / (all_api(bench) * TICK_S),
        bins_per_s=speed,
    )
