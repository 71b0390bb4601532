"""`python -m benchmarks.ledger.latency`: what the ledger does to the first token.

Streams arrive at a steady rate whether earlier ones are answered or not, at a gateway with its
ledger and at one without, before an instant upstream; both run throughout, one is loaded at a time,
and who goes first alternates. Time to the first token counts from when a request was due. The
verdict is the median, over the pairs, of p99 with the ledger by p99 without.
"""

from __future__ import annotations

import argparse
import contextlib
import shlex
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import uvloop

from benchmarks.gateway.arrivals import Arrivals, Seen, arrive
from benchmarks.gateway.client import request
from benchmarks.gateway.contenders import (
    BALLAST,
    BALLAST_WITHOUT_LEDGER,
    ROOT,
    Contender,
    Ground,
    running,
    upstream,
)
from benchmarks.gateway.load import ready
from benchmarks.gateway.machine import provenance
from benchmarks.gateway.script import Pace

INSTANT = Pace(8, 0.0)


class Pair(NamedTuple):
    """Both, one after the other."""

    on: Seen
    off: Seen

    @property
    def ratio(self) -> float:
        """p99 with the ledger by p99 without."""
        return self.on.p99_ms / self.off.p99_ms


def pairs(count: int, plan: Arrivals) -> list[Pair]:
    """Measure so many pairs, after one load each that only warms up."""
    found = []
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ballast-bench-")))
        ground = Ground(stack.enter_context(upstream(INSTANT, folder)), folder, None)
        names = (BALLAST, BALLAST_WITHOUT_LEDGER)
        on, off = (stack.enter_context(running(name, ground)) for name in names)
        for one in (on, off):
            ready(one.target)
            uvloop.run(arrive(one.target, plan._replace(seconds=3.0), _stream(one)))
        for number in range(count):
            order = (on, off) if number % 2 == 0 else (off, on)
            seen = {one.name: uvloop.run(arrive(one.target, plan, _stream(one))) for one in order}
            found.append(Pair(seen[on.name], seen[off.name]))
    return found


def _stream(one: Contender) -> bytes:
    return request(one.target, is_stream=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; 1 when requests failed."""
    parser = argparse.ArgumentParser(prog="benchmarks.ledger.latency", description=__doc__)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--rate", type=float, default=300.0)
    parser.add_argument("--seconds", type=float, default=20.0, help="of each load")
    argv = sys.argv[1:] if argv is None else argv
    given = parser.parse_args(argv)
    before = provenance(argv, ROOT, {})
    found = pairs(given.pairs, Arrivals(given.rate, given.seconds))
    facts = msgspec.to_builtins(before)
    facts["command"] = shlex.join(["python", "-m", "benchmarks.ledger.latency", *argv])
    print(msgspec.json.format(msgspec.json.encode(facts)).decode())
    print("| pair | p50 on | p50 off | p99 on | p99 off | p99 on / off | failures |")
    print("|---|---|---|---|---|---|---|")
    for number, pair in enumerate(found, 1):
        print(
            f"| {number} | {pair.on.p50_ms:.2f} | {pair.off.p50_ms:.2f} | {pair.on.p99_ms:.2f}"
            f" | {pair.off.p99_ms:.2f} | {pair.ratio:.2f} |"
            f" {pair.on.failures + pair.off.failures} |"
        )
    ratio = statistics.median(pair.ratio for pair in found)
    print(f"median of the p99 ratios: {ratio:.3f} (below 1.10 is wanted)")
    return int(any(pair.on.failures + pair.off.failures for pair in found))


if __name__ == "__main__":
    sys.exit(main())
