"""How true the gateway's predictions are: `python -m benchmarks.calibration`.

One simulated engine (the scheduler of the fake one: continuous batching, paged memory, preemption)
on a virtual clock, and the gateway's own `Admission` and `predict` before it. The engine's
coefficients are off by up to 30 % from the profile that the gateway was given, each by itself;
nobody says how long answers will be; prompts are estimated from bytes; in the middle of the run the
engine becomes slower and answers longer. Prints a table per load, or JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from statistics import median

import msgspec

from benchmarks.calibration.world import DRIFT_LENGTH, Seen, World, capacity, off, slower
from models.capacity import PROFILES, Profile

LOADS = (0.3, 0.5, 0.7, 0.8, 0.9, 0.95)
WARM, ADAPTING = 100, 150
"""Calls until something is known, and until the drift is."""
P50_ERROR_MAX = 0.15
COVERED = (0.85, 0.95)


class Truth(msgspec.Struct, frozen=True):
    """How true one kind of prediction was."""

    bias: float
    """Median of seen / p50, less one."""
    error: float
    """Median of |seen / p50 - 1|."""
    covered: float
    """Share of calls that took at most p90."""


class Row(msgspec.Struct, frozen=True):
    """Some calls, and how true predictions were of first token and completion."""

    seed: int
    load: float
    part: str
    calls: int
    first: Truth
    whole: Truth


def truth(pairs: Sequence[tuple[float, float, float]]) -> Truth:
    """Of (p50, p90, seen)."""
    ratios = [seen / p50 for p50, _, seen in pairs]
    return Truth(
        median(ratios) - 1.0,
        median(abs(r - 1.0) for r in ratios),
        sum(seen <= p90 for _, p90, seen in pairs) / len(pairs),
    )


def row(seed: int, load: float, part: str, seen: Sequence[Seen]) -> Row:
    """The table's row of some calls."""
    return Row(
        seed, load, part, len(seen),
        truth([(s.said.first_token_s.p50, s.said.first_token_s.p90, s.first_s) for s in seen]),
        truth([(s.said.complete_s.p50, s.said.complete_s.p90, s.whole_s) for s in seen]),
    )  # fmt: skip


def rows(profile: Profile, seed: int, loads: Sequence[float], calls: int) -> Iterator[Row]:
    """All loads of one engine: its first hundred calls are left out, those around the drift told
    apart."""
    true = off(profile, seed)
    late = slower(true)
    before, after = capacity(true, 1.0), capacity(late, DRIFT_LENGTH)
    for load in loads:
        seen = World(profile, true, seed).run(calls, before * load, (late, after * load))
        seen.sort(key=lambda one: one.at_s)
        half = calls // 2
        yield row(seed, load, "steady", seen[WARM:half] + seen[half + ADAPTING :])
        yield row(seed, load, "drift", seen[half : half + ADAPTING])


def is_good(one: Truth) -> bool:
    """Whether both targets are kept."""
    return abs(one.bias) <= P50_ERROR_MAX and COVERED[0] <= one.covered <= COVERED[1]


def line(one: Row) -> str:
    """For people; a star where a target is missed."""
    parts = [
        f"{t.bias:+8.1%} {t.error:6.1%} {t.covered:6.1%} {' ' if is_good(t) else '*'}"
        for t in (one.first, one.whole)
    ]
    return f"{one.seed:4} {one.load:5.0%} {one.part:7} {one.calls:6} | {' | '.join(parts)}"


def main(argv: Sequence[str]) -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.calibration", description=__doc__)
    parser.add_argument("--profile", choices=sorted(PROFILES), default="qwen3-32b-fp8-h100")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--calls", type=int, default=3000)
    parser.add_argument("--loads", default=",".join(map(str, LOADS)))
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args(argv)
    loads = [float(part) for part in given.loads.split(",")]
    if not all(0.0 < load < 1.0 for load in loads) or given.calls < 2 * (WARM + ADAPTING):
        parser.error(f"loads lie between 0 and 1; at least {2 * (WARM + ADAPTING)} calls")
    found: list[Row] = []
    if not given.json:
        kinds = " | ".join(f"{kind:>8} {'error':>6} {'<= p90':>6}  " for kind in ("first", "whole"))
        print(f"{'seed':4} {'load':>5} {'part':7} {'calls':>6} | {kinds}")
    for seed in range(1, given.seeds + 1):
        for one in rows(PROFILES[given.profile], seed, loads, given.calls):
            found.append(one)
            if not given.json:
                print(line(one), flush=True)
    if given.json:
        print(json.dumps(msgspec.to_builtins(found)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
