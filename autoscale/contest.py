"""Policies beside each other and beside the optimum in hindsight, on one trace."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import msgspec

from autoscale import baselines, oracle
from autoscale.course import Point, Recorder
from autoscale.simulate import OURS, Bench, run_baseline, run_ours
from autoscale.world import Spent


class Run(msgspec.Struct, frozen=True):
    """One policy on one trace in one world."""

    policy: str
    seed: int
    cost: float
    """Against the optimum."""
    starts: int
    own_share: float
    """Of the work."""
    kept: float
    """Share of the work that was served at all."""
    saved: float
    """Against sending all to the API, as a share of that."""
    bins_per_s: float
    """Of simulation."""
    fixed: int | None = None
    """Replicas of the best fixed fleet, where the policy is that one."""
    course: tuple[Point, ...] = ()
    """How it went, where that was asked for."""
    edge: float = 1.0
    """Of the model's figure, what a replica of the optimum does (`request_edge`)."""


def tuned(benches: Sequence[Bench]) -> Mapping[str, float]:
    """Each baseline's best target on these traces, to be used on others: that of the least cost
    against the optimum, on average."""
    best = [oracle.optimum(b.demand, b.ratios, b.start).cost for b in benches]
    found = {}
    for name in baselines.SCALERS:
        costs = {
            target: sum(
                run_baseline(bench, 0, (name, target)).cost / least
                for bench, least in zip(benches, best, strict=True)
            )
            for target in baselines.grid(name)
        }
        found[name] = min(costs, key=lambda target: costs[target])
    return found


def compare(bench: Bench, seeds: Sequence[int], targets: Mapping[str, float]) -> list[Run]:
    """All policies, and the hindsights as rows of their own."""
    demand, ratios = bench.demand, bench.ratios
    best = oracle.optimum(demand, ratios, bench.start)
    count, fixed = oracle.best_fixed(demand, ratios, bench.start)
    stands = _hindsight(f"best fixed ({count}) + API, hindsight", fixed, best.cost, bench)
    rows = [
        _hindsight("optimum in hindsight", best, best.cost, bench),
        msgspec.structs.replace(stands, fixed=count),
    ]
    laws = [(OURS, 0.0), *targets.items()]
    return rows + [one(bench, seed, law, best.cost) for law in laws for seed in seeds]


def one(bench: Bench, seed: int, law: tuple[str, float], best: float) -> Run:
    """One policy, one seed; `best` is the optimum's cost."""
    began_s, recorder = time.perf_counter(), bench.recorder(seed)
    if law[0] == OURS:
        spent = run_ours(bench, seed, recorder)
    else:
        spent = run_baseline(bench, seed, law, recorder)
    speed = len(bench.demand) / (time.perf_counter() - began_s)
    return with_course(_row(law[0], seed, (spent, speed), best, bench), recorder)


def all_api(bench: Bench) -> float:
    """What sending everything to the API costs, in replica-bins."""
    return sum(d * r for d, r in zip(bench.demand, bench.ratios, strict=True))


def with_course(run: Run, recorder: Recorder | None) -> Run:
    """The row with what was recorded."""
    if recorder is None:
        return run
    return msgspec.structs.replace(run, course=tuple(recorder.points))


def _hindsight(name: str, found: oracle.Best, best: float, bench: Bench) -> Run:
    total, all_ = sum(bench.demand), all_api(bench)
    saved = 1.0 - found.cost / all_ if all_ else 0.0
    share = found.own / total if total else 0.0
    return Run(name, 0, found.cost / best if best else 1.0, found.starts, share, 1.0, saved, 0.0)


def _row(name: str, seed: int, done: tuple[Spent, float], best: float, bench: Bench) -> Run:
    spent, speed = done
    total = spent.own_work + spent.api_work + spent.lost_work
    if not total:
        return Run(name, seed, 1.0, spent.starts, 0.0, 1.0, 0.0, speed)
    return Run(
        policy=name,
        seed=seed,
        cost=spent.cost / best,
        starts=spent.starts,
        own_share=spent.own_work / total,
        kept=1.0 - spent.lost_work / total,
        saved=1.0 - spent.cost / all_api(bench),
        bins_per_s=speed,
    )
