"""The autoscaler's published benchmark: `python -m benchmarks.scaling TRACES OUT.jsonl [PART ...]`.

One line a run is appended to OUT; what is there already is not run again, so it may be stopped and
begun anew at any time. Seeds come last: after the first one of each part there is a whole table.
A line also holds the CPU seconds its run took. Cases (a trace, a price, a seed) are shared out over
`--jobs` processes, each of which runs all policies of one; this process alone writes.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from autoscale import baselines, contest
from autoscale.simulate import OURS
from benchmarks.scaling.runs import INSURED, PARTS, PLAIN, TUNE, Case, bench_of, lines


def main() -> None:
    """Run what is missing."""
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("traces", type=Path)
    flags.add_argument("out", type=Path)
    flags.add_argument("parts", nargs="*", default=list(PARTS))
    flags.add_argument("--seeds", type=int, default=5)
    flags.add_argument("--only", default="", help="Policies, with | between; else all.")
    flags.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    given = flags.parse_args()
    targets = {OURS: 0.0, **_tuned(given.traces, given.out.with_suffix(".targets.json"))}
    targets |= INSURED
    names = [n for n in targets if not given.only or n in given.only.split("|")]
    # Not forked: numpy's threads would not live on in the child.
    with ProcessPoolExecutor(given.jobs, get_context("spawn")) as pool:
        cases = [
            pool.submit(lines, given.traces, case, {n: targets[n] for n in todo})
            for case, todo in _missing(given.out, given.parts, given.seeds, names)
        ]
        for case in as_completed(cases):
            for line in case.result():
                _append(given.out, line)


def _missing(
    out: Path, parts: Sequence[str], seeds: int, names: Sequence[str]
) -> Iterator[tuple[Case, list[str]]]:
    """Each case that is not whole, and the policies that it lacks."""
    done = _done(out)
    for seed in range(1, seeds + 1):
        for part in parts:
            for trace in PARTS[part].traces:
                for ratio in PARTS[part].ratios:
                    todo = [
                        n for n in names
                        if (part, trace, ratio, n, seed) not in done
                        and (PARTS[part].is_by_request or n not in INSURED)
                    ]  # fmt: skip
                    if todo:
                        yield Case(part, trace, ratio, seed), todo


def _done(path: Path) -> set[tuple[Any, ...]]:
    if not path.exists():
        return set()
    lines = map(json.loads, path.read_text().splitlines())
    return {tuple(x[k] for k in ("part", "trace", "ratio", "policy", "seed")) for x in lines}


def _append(path: Path, line: dict[str, Any]) -> None:
    with path.open("a") as out:
        out.write(json.dumps(line) + "\n")
    print(line["part"], line["trace"], line["ratio"], line["policy"], line["seed"],
          f"{line['cost']:.3f}", file=sys.stderr)  # fmt: skip


def _tuned(folder: Path, path: Path) -> dict[str, float]:
    """One target for each baseline, the best on the training windows at r = 3."""
    found: dict[str, float] = json.loads(path.read_text()) if path.exists() else {}
    if found.keys() != baselines.SCALERS.keys():
        benches = [bench_of(str(folder / name), 3.0, PLAIN) for name in TUNE]
        found = dict(contest.tuned(benches))
        path.write_text(json.dumps(found))
    return found


if __name__ == "__main__":
    main()
