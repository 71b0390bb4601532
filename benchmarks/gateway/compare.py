"""What the gateway costs, beside its peers in the same run on the same machine.

Each round visits each gateway once, freshly started (A B A B), so that drift of the machine hits
all alike; ratios are taken within a round. Peers that are not here are installed first, each into
an environment of its own; what cannot be had, or does not answer, is named and left out.

With --out the report is written after each visit. The same command goes on where it broke off: a
round that is not whole is measured anew, and `--rounds` may be raised later.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from benchmarks.gateway import builds, machine, own, peers, processes
from benchmarks.gateway.builds import Build
from benchmarks.gateway.client import Broken
from benchmarks.gateway.contenders import (
    PEERS,
    ROOT,
    Ground,
    NotSettled,
    find_peer,
    peer_version,
    upstream,
)
from benchmarks.gateway.figures import Effort, Visit
from benchmarks.gateway.peers import pinned
from benchmarks.gateway.processes import StartFailed
from benchmarks.gateway.report import Report, markdown
from benchmarks.gateway.rounds import Unlike, gone_on, left, order
from benchmarks.gateway.script import Pace
from benchmarks.gateway.visit import Failed, visit

TARGETS = 8
INTERRUPTED = 130


def present(names: Sequence[str], peer_bin: Path | None, *, installs: bool) -> dict[str, str]:
    """The peers that are here, and their versions; says aloud which are not, and why."""
    absent = [name for name in names if find_peer(name, peer_bin) is None]
    why = {}
    if absent and installs:
        _say(f"installing {', '.join(absent)} (once; minutes)")
        why = peers.install(absent)
    versions = {}
    for name in names:
        command = find_peer(name, peer_bin)
        if command is None:
            _say(f"{name} is not here: left out ({why.get(name, 'see `install`, --peer-bin')})")
        else:
            versions[name] = pinned(name, command) or peer_version(command) or "unknown"
    return versions


def tried(name: str, ground: Ground, effort: Effort, number: int) -> Visit:
    """A visit; of a gateway that does not start or breaks requests, the reason."""
    try:
        return visit(name, ground, effort, number)
    except (Failed, NotSettled, Broken, StartFailed, OSError) as error:
        return Visit(name, number, failed=" ".join(str(error).split())[:400])


def measured(report: Report, out: Path | None, peer_bin: Path | None, build: Build) -> Report:
    """Go through what is left of the rounds; the report is kept after each visit."""
    due = left(report)
    if not due:
        return report
    with (
        tempfile.TemporaryDirectory(prefix="ballast-bench-") as folder,
        upstream(Pace(64, 0.0), Path(folder), TARGETS) as urls,
    ):
        ground = Ground(urls, Path(folder), peer_bin, build)
        for at, (number, name) in enumerate(due, 1):
            began_s = time.monotonic()
            found = tried(name, ground, report.effort, number)
            report = msgspec.structs.replace(report, visits=[*report.visits, found])
            _keep(report, out)
            took_s = time.monotonic() - began_s
            where = f"[{at}/{len(due)}] round {number}, {name}"
            _say(f"{where}: {found.failed or 'done'}, {took_s:.0f} s")
    return report


def _keep(report: Report, out: Path | None) -> None:
    """Whole or not at all, so that a report that breaks off can be gone on with."""
    if out is not None:
        beside = out.with_name(f"{out.name}.part")
        beside.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n")
        os.replace(beside, out)


def parser() -> argparse.ArgumentParser:
    """The flags."""
    made = argparse.ArgumentParser(
        prog="benchmarks.gateway compare", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    made.add_argument("--peers", nargs="*", default=list(PEERS), choices=PEERS, metavar="NAME",
                      help=f"beside Ballast; default all known: {', '.join(PEERS)}")  # fmt: skip
    made.add_argument("--peer-bin", type=Path, metavar="DIR", help="where peers stand; else PATH")
    made.add_argument("--no-install", action="store_true", help="only peers that are here")
    made.add_argument("--rounds", type=int, default=3)
    made.add_argument("--seconds", type=float, default=3.0, help="of each load")
    made.add_argument("--streams", type=int, default=2000, help="slow ones, open together")
    made.add_argument("--out", type=Path, metavar="FILE.json", help="keep the report here")
    builds.flags(made)
    made.add_argument("--markdown", action="store_true", help="print tables, not JSON")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; 1 when Ballast itself failed, 2 when the report there is of something else or
    the interpreter named does not run Ballast."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    given = parser().parse_args(arguments)
    processes.raise_file_limit()
    build = builds.named(given)
    try:
        own_versions = build.versions()
    except builds.Unusable as error:
        _say(str(error))
        return 2
    versions = present(given.peers, given.peer_bin, installs=not given.no_install)
    origin = machine.provenance(["compare", *arguments], ROOT, versions | own_versions)
    effort = Effort(given.seconds, warm_s=min(1.0, given.seconds / 3), streams=given.streams)
    report = Report([origin], effort, order(list(versions), 1), given.rounds, [])
    if given.out and given.out.exists():
        try:
            report = gone_on(msgspec.json.decode(given.out.read_bytes(), type=Report), report)
        except (Unlike, msgspec.MsgspecError) as error:
            _say(f"{given.out}: {error}; move it away, or name another --out")
            return 2
    try:
        report = measured(report, given.out, given.peer_bin, build)
    except KeyboardInterrupt:
        _say("broken off" + (f"; the same command goes on from {given.out}" if given.out else ""))
        return INTERRUPTED
    data = msgspec.json.format(msgspec.json.encode(report), indent=1).decode()
    print(markdown(report) if given.markdown else data)
    return int(any(v.failed for v in report.visits if v.gateway in own.SAID))


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
