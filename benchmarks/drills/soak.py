"""`python -m benchmarks.drills.soak --minutes 30`: a steady load, and whether memory grows.

One gateway and two simulated engines as processes; streams, plain answers, clients that hang up,
keys that are unknown. The gateway's RSS is read four times a second; the slope of what comes after
the warm-up is told with its interval of confidence. Then the books are compared as after a drill.
A short run can show that something leaks fast, not that nothing leaks slowly: see the interval.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from benchmarks.drills import runner
from benchmarks.drills.ground import ROOT
from benchmarks.drills.slope import fitted
from benchmarks.drills.values import Criterion, Drill, Engine, Evidence, Finding, Topology, Wave
from benchmarks.gateway.machine import provenance
from benchmarks.gateway.processes import StartFailed
from benchmarks.load import flags, results
from benchmarks.load.parser import Parser
from benchmarks.load.wording import spoken, text
from benchmarks.telling import tell
from models.worded import Worded, of

WARM_SHARE = 0.5
"""Of the run, at its start: caches fill, the allocator finds its size."""
HOUR_S = 3600.0


def grows(most_mib_h: float) -> Criterion:
    """Fails where it is nearly certain that RSS grows faster than that."""

    def judge(evidence: Evidence) -> Finding:
        last_s = evidence.rss_mib[-1][0]
        kept = [(at_s, mib) for at_s, mib in evidence.rss_mib if at_s >= WARM_SHARE * last_s]
        found = fitted(kept)
        slope, low, high = (HOUR_S * one for one in found)
        told = Worded("found.slope", "{slope} MiB/h, 95 % from {low} to {high}, at {mib} MiB",
                      slope=f"{slope:+.1f}", low=f"{low:+.1f}", high=f"{high:+.1f}",
                      mib=f"{kept[-1][1]:.0f}")  # fmt: skip
        template = "RSS grows by no more than {most} MiB/h"
        words = Worded("soak.grows", template, most=f"{most_mib_h:g}")
        return Finding(words, told, low <= most_mib_h)

    return judge


def drill(minutes: float, rate: float, most_mib_h: float) -> Drill:
    """The soak, as a drill without faults."""
    seconds = 60.0 * minutes
    engine = Engine(max_num_seqs=256, max_queued_reqs=512)
    return Drill(
        name="soak", meaning="a steady load; memory stays where it is",
        topology=Topology(engines=(engine, engine)),
        load=(
            Wave(name="streams", key="own", rate=rate / 2, seconds=seconds, tokens=24),
            Wave(name="plain", key="own", rate=rate / 2, seconds=seconds, is_stream=False),
            Wave(name="unknown", key="nobody", rate=rate / 20, seconds=seconds),
            Wave(name="leaving", key="own", rate=0.5, seconds=seconds - 5, tokens=4000,
                 read_pause_s=0.05, reads_s=0.2, give_up_s=1.0),
        ),
        faults=(), criteria=(grows(most_mib_h),),
    )  # fmt: skip


def main(argv: Sequence[str]) -> int:
    """Entry point: 0 when it stays, 1 when it grows, 2 bad flags, 3 nothing ran."""
    parser = Parser("benchmarks.drills.soak", __doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--rate", type=float, default=40.0, help="requests a second")
    parser.add_argument("--most-mib-h", type=float, default=10.0, metavar="MIB")
    parser.add_argument("--out", type=Path, metavar="FILE.json")
    given = parser.parse_args(argv)
    if given.minutes < 1.5:
        template = "--minutes: at least 1.5, or there is no slope to speak of"
        parser.error(tell(Worded("soak.short", template), spoken()))
    return flags.guarded(lambda: _main(given, argv))


def _main(given: argparse.Namespace, argv: Sequence[str]) -> int:
    if given.out is not None:
        results.prepare_file(given.out)
    made = provenance(argv, ROOT, {}, "benchmarks.drills.soak")
    try:
        outcome = runner.run(drill(given.minutes, given.rate, given.most_mib_h))
    except StartFailed as failed:
        print(text("error", spoken(), words=tell(of(failed), spoken())), file=sys.stderr)
        return 3
    print("\n".join(runner.lines(outcome)))
    if given.out:
        report = {"provenance": made, "soak": outcome}
        results.put(given.out, msgspec.json.format(msgspec.json.encode(report, enc_hook=str)))
    return int(not outcome.has_passed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
