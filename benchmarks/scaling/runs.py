"""What the published benchmark runs: traces, prices and worlds, and all policies on one of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from msgspec.structs import replace

from autoscale import contest, oracle, request_edge, request_runs
from autoscale.arrivals import asked, load
from autoscale.calls import Want
from autoscale.simulate import OURS, Bench
from autoscale.work import of_profile
from autoscale.world import Scenario
from models.capacity import PROFILES

TUNE = (
    "servegen_mlarge_week1_10s.parquet@0d-1d", "servegen_reasoning_day.parquet@0h-6h",
    "servegen_mlarge_day.parquet@0h-6h",
)  # fmt: skip
WEEKS = ("servegen_mlarge_week1_10s.parquet@48h-168h", "servegen_msmall_week1_10s.parquet*8")
DAYS = ("servegen_reasoning_day.parquet@6h-24h", "servegen_mlarge_day.parquet@6h-24h")
WINDOWS = ("servegen_reasoning_day.parquet@12h-18h", "servegen_mlarge_day.parquet@12h-14h")
HOURS = ("azure_conv_2023.parquet", "mooncake_conversation.parquet")
RATIOS = (1.5, 3.0, 6.0)
INSURED = {f"{OURS}, insured {share}": share for share in (0.2, 0.5, 1.0)}
"""`controller.scaling.insurance`; only where answers are timed."""


PROFILE = PROFILES["qwen3-32b-fp8-h100"]


class Part(NamedTuple):
    """Traces in one world."""

    traces: tuple[str, ...]
    ratios: tuple[float, ...]
    world: Scenario
    batch: int = 64
    is_by_request: bool = False


class Case(NamedTuple):
    """What one process runs at a time."""

    part: str
    trace: str
    ratio: float
    seed: int


FLUID = Scenario(ready_cv=0.4, fail_rate=0.02)
ONE_BY_ONE = Scenario(ready_cv=0.4)
PARTS = {
    "days": Part(DAYS, RATIOS, FLUID),
    "weeks": Part(WEEKS, RATIOS, FLUID),
    "days-away": Part(DAYS, (3.0,), replace(FLUID, outages=((20_000.0, 20_600.0),))),
    "requests": Part(WINDOWS, (3.0,), ONE_BY_ONE, 32, is_by_request=True),
    "requests-away": Part(
        WINDOWS[:1], (3.0,), replace(ONE_BY_ONE, outages=((7_200.0, 7_800.0),)), 32,
        is_by_request=True,
    ),
    "hours": Part(HOURS, (3.0,), ONE_BY_ONE, 32, is_by_request=True),
    "hours-away": Part(
        HOURS, (3.0,), replace(ONE_BY_ONE, outages=((1_800.0, 2_400.0),)), 32, is_by_request=True
    ),
}  # fmt: skip


PLAIN = Part((), (), Scenario())


def lines(folder: Path, case: Case, targets: dict[str, float]) -> list[dict[str, Any]]:
    """All runs of a case, by whichever process is free."""
    found = _runs((str(folder / case.trace), case.ratio, PARTS[case.part]), targets, case.seed)
    where = {"part": case.part, "trace": case.trace, "ratio": case.ratio}
    return [line | where for line in found]


def bench_of(address: str, ratio: float, part: Part) -> Bench:
    """The trace at `address` in the world of a part, at that price of the API."""
    work = of_profile(PROFILE, part.batch)
    return Bench(load(asked(address)), work, replace(part.world, ratio=ratio))


def _runs(
    case: tuple[str, float, Part], targets: dict[str, float], seed: int
) -> Iterator[dict[str, Any]]:
    address, ratio, part = case
    bench = bench_of(address, ratio, part)
    whole = None
    if part.is_by_request:
        whole = request_runs.case_of(bench, asked(address), PROFILE, part.batch)
    best, _ = request_edge.best(bench, request_edge.Edge() if whole is None else whole.edge)
    for name, target in targets.items():
        began_s = time.process_time()
        if whole is None:
            run = contest.one(bench, seed, (name, target), best.cost)
        else:
            where = request_runs.standing(whole, name, target)
            run = request_runs.one(where, (name, _law(name, target, bench)), seed, best.cost)
        yield _line(run, best, bench) | {"cpu_s": round(time.process_time() - began_s, 3)}


def _law(name: str, target: float, bench: Bench) -> Callable[[], Want]:
    if name == OURS or name in INSURED:
        return partial(request_runs.ours, replace(bench, insurance=INSURED.get(name, 0.0)))
    return partial(request_runs.law, name, target, bench.work)


def _line(run: contest.Run, best: oracle.Best, bench: Bench) -> dict[str, Any]:
    found = msgspec.to_builtins(run)
    assert isinstance(found, dict)
    total = sum(bench.demand)
    return found | {
        "optimum_starts": best.starts,
        "optimum_saved": 1 - best.cost / (total * bench.scenario.ratio),
        "demand": total / len(bench.demand),
    }
