"""How fast the fluid simulator runs `step`: `python -m benchmarks.scaling.speed TRACES`.

Our policy on each day and week trace of the published benchmark, at each price, in bins of ten
seconds. Two figures that are not each other: bins per second of CPU, which is one core's, and bins
per second of the clock while `--jobs` processes run side by side, which is the machine's and hangs
on what else it does.
"""

from __future__ import annotations

import argparse
import os
import time
from concurrent.futures import ProcessPoolExecutor
from functools import lru_cache
from itertools import repeat
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import NamedTuple

from msgspec.structs import replace

from autoscale.arrivals import Trace, asked, load
from autoscale.simulate import Bench, run_ours
from autoscale.work import of_profile
from benchmarks.scaling.runs import DAYS, FLUID, PROFILE, RATIOS, WEEKS

TRACES = (*DAYS, *WEEKS)


def main() -> None:
    """Print both figures."""
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("traces", type=Path)
    flags.add_argument("--seeds", type=int, default=3)
    flags.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    given = flags.parse_args()
    cases = [
        (trace, ratio, seed)
        for seed in range(1, given.seeds + 1) for trace in TRACES for ratio in RATIOS
    ]  # fmt: skip
    with ProcessPoolExecutor(
        given.jobs, get_context("spawn"), initializer=_warm, initargs=(given.traces,)
    ) as pool:
        runs = list(pool.map(_run, repeat(given.traces), cases))
    rates = sorted(run.bins / run.cpu_s for run in runs)
    clock_s = max(run.ended_s for run in runs) - min(run.began_s for run in runs)
    print(f"one core: median {median(rates):,.0f} bins/s of CPU, {rates[0]:,.0f} to"
          f" {rates[-1]:,.0f} ({len(rates)} runs)")  # fmt: skip
    print(f"machine: {sum(run.bins for run in runs) / clock_s:,.0f} bins/s of clock,"
          f" {given.jobs} processes, load {os.getloadavg()[0]:.1f}")  # fmt: skip


class Timed(NamedTuple):
    """One run. The clock is the same in all processes."""

    bins: int
    cpu_s: float
    began_s: float
    ended_s: float


@lru_cache
def _trace(address: str) -> Trace:
    return load(asked(address))


def _warm(folder: Path) -> None:
    """Read the traces before any is timed."""
    for trace in TRACES:
        _trace(str(folder / trace))


def _run(folder: Path, case: tuple[str, float, int]) -> Timed:
    address, ratio, seed = case
    world = replace(FLUID, ratio=ratio)
    bench = Bench(_trace(str(folder / address)), of_profile(PROFILE, 64), world)
    began_s, began_cpu_s = time.monotonic(), time.process_time()
    run_ours(bench, seed)
    cpu_s = time.process_time() - began_cpu_s
    return Timed(bench.trace.prompt.size, cpu_s, began_s, time.monotonic())


if __name__ == "__main__":
    main()
