"""`python -m benchmarks.drills NAME...|all`: faults under load, on real processes, judged.

Each drill starts what it needs on loopback (gateways, simulated engines, a third party that
misbehaves on order, Redis, PostgreSQL), sends a load, does something to a part, and then compares
what every client saw with the ledger and the audit, row by row. docs/drills.md has the list.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from benchmarks.drills import ray_head, runner
from benchmarks.drills.catalogue import DRILLS
from benchmarks.drills.ground import ROOT
from benchmarks.drills.values import Drill, Outcome
from benchmarks.gateway.machine import provenance
from benchmarks.gateway.processes import StartFailed
from benchmarks.load import flags, results
from benchmarks.load.parser import Parser
from benchmarks.load.wording import spoken, text
from benchmarks.telling import tell
from models.worded import Worded, of


def chosen(names: Sequence[str], *, is_fast: bool) -> list[Drill]:
    """The drills of these names. Raises KeyError with the one that is unknown."""
    wanted = list(DRILLS) if "all" in names else list(dict.fromkeys(names))
    known = DRILLS | {ray_head.DRILL.name: ray_head.DRILL}
    return [known[name] for name in wanted if known[name].is_fast or not is_fast]


def run(drill: Drill) -> Outcome:
    """What came of it. Raises StartFailed."""
    return ray_head.run() if drill is ray_head.DRILL else runner.run(drill)


def table(outcomes: Iterable[Outcome]) -> str:
    """For people: a line per criterion."""
    return "\n".join(line for one in outcomes for line in runner.lines(one))


def main(argv: Sequence[str]) -> int:
    """Entry point: 0 when all passed, 1 when one failed, 2 for bad flags, 3 when one cannot run."""
    parser = Parser("benchmarks.drills", __doc__)
    aside = Worded("drill.aside", "{name} (not in all: a real engine)", name=ray_head.DRILL.name)
    known = Worded("drill.names", "all, or {known}", known=[*DRILLS, aside])
    parser.add_argument("names", nargs="*", metavar="NAME", help=tell(known, spoken()))
    parser.add_argument("--list", action="store_true", help="name them and end")
    parser.add_argument("--fast", action="store_true", help="of those, the short ones")
    parser.add_argument("--out", type=Path, metavar="FILE.json", help="write the report here")
    given = parser.parse_args(argv)
    if given.list:
        width = max(map(len, DRILLS))
        rows = [*DRILLS.values(), ray_head.DRILL]
        print("\n".join(f"{one.name:<{width}}  {runner.meaning(one)}" for one in rows))
        return 0
    try:
        drills = chosen(given.names, is_fast=given.fast)
    except KeyError as unknown:
        said = Worded("drill.unknown", "no drill {name}; --list names them", name=unknown)
        parser.error(tell(said, spoken()))
    if not drills:
        parser.error(tell(Worded("drill.none", "name a drill, or all"), spoken()))
    return flags.guarded(lambda: _main(drills, given.out, argv))


def _main(drills: Sequence[Drill], out: Path | None, argv: Sequence[str]) -> int:
    if out is not None:
        results.prepare_file(out)
    made = provenance(argv, ROOT, {}, "benchmarks.drills")
    outcomes: list[Outcome] = []
    for drill in drills:
        try:
            outcomes.append(run(drill))
        except StartFailed as failed:
            print(
                text("error", spoken(), words=f"{drill.name}: {tell(of(failed), spoken())}"),
                file=sys.stderr,
            )
            return 3
        print(table(outcomes[-1:]), flush=True)
        if out is not None:  # after each: one that is stopped leaves those before
            report = {"provenance": made, "drills": outcomes}
            results.put(out, msgspec.json.format(msgspec.json.encode(report, enc_hook=str)))
    return int(not all(one.has_passed or one.skipped for one in outcomes))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
