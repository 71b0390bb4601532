"""Instructions that a gateway executes for a request, an event, a KiB of prompt: counts, not times.

Counts depend on the Python build, not on what else the machine does: what a gateway does while
nobody asks is taken off, and of several counts the least is the figure, since all that comes from
elsewhere adds.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from benchmarks.gateway import builds, callgrind, machine, peers
from benchmarks.gateway.callgrind import Count
from benchmarks.gateway.client import request
from benchmarks.gateway.contenders import BALLAST, ROOT
from benchmarks.gateway.counted import (
    GUARD,
    RELAY,
    SETTINGS,
    TARGETS,
    TOKENS,
    TWO,
    Counted,
    Ground,
    ballast,
    ground,
    peer,
)
from benchmarks.gateway.peers import VLLM_ROUTER
from benchmarks.gateway.report import filled, origin

EVENTS = TOKENS + 2
"""Of one stream: content, finish reason, [DONE]."""
WORDS = {0: 12, 4: 4 * 1024 // 6, 90: 90 * 1024 // 6}
"""Of six bytes each, by the KiB of the prompt they make."""
PLAIN, CHUNK, APART = "plain request", "coalesced chunk, net", "chunk 20 ms apart"
KIB_4, KIB_90 = "KiB of prompt, up to 4", "KiB of prompt, 4 to 90"


class Row(msgspec.Struct, frozen=True):
    """One figure: instructions of all threads, each time it was counted."""

    gateway: str
    setting: str
    what: str
    counts: list[int]
    aside: list[int]
    """Of them, those off the main thread."""

    @property
    def least(self) -> int:
        """The figure."""
        return min(self.counts)


class Report(msgspec.Struct, frozen=True):
    """A run."""

    origin: machine.Provenance
    requests: int
    rows: list[Row]


class Plan(NamedTuple):
    """What is counted of one gateway in one setting."""

    gateway: str
    setting: str
    whats: tuple[str, ...]


PLANS = (
    Plan(BALLAST, RELAY, (PLAIN, CHUNK, KIB_4, KIB_90, APART)),
    Plan(BALLAST, TARGETS, (PLAIN,)),
    Plan(BALLAST, TWO, (PLAIN,)),
    Plan(BALLAST, GUARD, (PLAIN, CHUNK, KIB_4, APART)),
    Plan(VLLM_ROUTER, RELAY, (PLAIN, CHUNK, KIB_4, KIB_90, APART)),
)


def count(plan: Plan, ground: Ground, command: Path | None = None) -> list[Row]:
    """All of one plan; `command` is the peer's. Raises StartFailed, Broken, NotSettled."""
    paced = plan.whats[-1] == APART
    whats = plan.whats[:-1] if paced else plan.whats
    rows = []
    with _running(plan, ground, ground.url, command) as counted:
        rows += _instant(plan, whats, counted, ground)
    if paced:
        with _running(plan, ground, ground.paced, command) as counted:
            data = request(counted.target, is_stream=True)
            streams = ground.requests // 8
            counted.ask(streams, data)
            counted.rest()
            each = [counted.ask(streams, data).over(EVENTS) for _ in range(ground.repeats)]
            rows.append(_row(plan, APART, each))
    return rows


@contextlib.contextmanager
def _running(
    plan: Plan, ground: Ground, url: str, command: Path | None
) -> Iterator[Counted]:  # fmt: skip
    if plan.gateway == BALLAST:
        with ballast(ground, plan.setting, url) as counted:
            yield counted
    else:
        assert command is not None
        with peer(ground, command, url) as counted:
            yield counted


def _instant(plan: Plan, whats: Sequence[str], counted: Counted, ground: Ground) -> list[Row]:
    bodies = {kib: request(counted.target, is_stream=False, prompt=" ".join(["hello"] * WORDS[kib]))
              for kib in WORDS}  # fmt: skip
    stream, requests = request(counted.target, is_stream=True), ground.requests
    counted.ask(requests, stream if CHUNK in whats else bodies[0])
    counted.rest()
    found: dict[str, list[Count]] = {what: [] for what in whats}
    for _ in range(ground.repeats):
        plain = counted.ask(requests, bodies[0])
        found[PLAIN].append(plain)
        if CHUNK in whats:
            whole = counted.ask(requests, stream)
            found[CHUNK].append(whole.less(plain, 1.0).over(EVENTS))
        if KIB_4 in whats:
            small = counted.ask(requests // 4, bodies[4])
            found[KIB_4].append(small.less(plain, 1.0).over(4))
        if KIB_90 in whats:
            large = counted.ask(requests // 4, bodies[90])
            found[KIB_90].append(large.less(small, 1.0).over(86))
    return [_row(plan, what, each) for what, each in found.items()]


def _row(plan: Plan, what: str, each: Sequence[Count]) -> Row:
    counts, aside = [round(c.total) for c in each], [round(c.aside) for c in each]
    return Row(plan.gateway, plan.setting, what, counts, aside)


def markdown(report: Report) -> str:
    """The table for `docs/benchmarks.md`: thousands of instructions, and ratios to the router's."""
    known = {r.what: r.least for r in report.rows if r.gateway == VLLM_ROUTER}
    lines = ["| gateway | setting | per | thousand instructions | of them ledger | ratio |",
             "| --- | --- | --- | --- | --- | --- |"]  # fmt: skip
    for row in report.rows:
        low, high = (f"{edge / 1e3:.2f}" for edge in (min(row.counts), max(row.counts)))
        ledger = f"{min(row.aside) / 1e3:.2f}" if row.gateway == BALLAST else "-"
        other = known.get(row.what)
        ratio = f"{row.least / other:.2f}" if other else "-"
        lines.append(
            f"| {row.gateway} | {row.setting} | {row.what} | {low} to {high} | {ledger} | {ratio} |"
        )
    return "\n".join([*lines, "", *origin(report.origin)])


def run(ground: Ground, plans: Sequence[Plan], command: Path | None) -> list[Row]:
    """Count all plans, one after the other; each row is told on stderr."""
    rows = []
    for plan in plans:
        if plan.gateway == BALLAST or command is not None:
            found = count(plan, ground, command)
            for row in found:
                print(msgspec.json.encode(row).decode(), file=sys.stderr, flush=True)
            rows += found
    return rows


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point: JSON on stdout, or a table with --markdown; 2 where nothing can be counted."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    flags = argparse.ArgumentParser(
        prog="benchmarks.gateway instructions", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    flags.add_argument("--settings", nargs="*", default=SETTINGS, choices=SETTINGS,
                       metavar="NAME", help=f"of {', '.join(SETTINGS)}; default all")  # fmt: skip
    flags.add_argument("--no-peer", action="store_true", help=f"leave {VLLM_ROUTER} out")
    flags.add_argument("--peer-bin", type=Path, metavar="DIR", help="where it stands; else PATH")
    flags.add_argument("--requests", type=int, default=400, help="of each count")
    flags.add_argument("--repeats", type=int, default=3, help="counts of each kind")
    flags.add_argument("--out", type=Path, metavar="FILE.json", help="write the report here")
    flags.add_argument("--page", type=Path, metavar="FILE.md", help="fill the table of this page")
    flags.add_argument("--markdown", action="store_true", help="print a table, not JSON")
    builds.flags(flags)
    given = flags.parse_args(arguments)
    build = builds.named(given)
    command = None if given.no_peer else peers.find(VLLM_ROUTER, given.peer_bin)
    try:
        versions = {"valgrind": callgrind.version(), **build.versions()}
    except (callgrind.CallgrindMissing, builds.Unusable) as error:
        print(error, file=sys.stderr)
        return 2
    if command is not None:
        versions[VLLM_ROUTER] = peers.pinned(VLLM_ROUTER, command) or "unknown"
    elif not given.no_peer:
        print(f"{VLLM_ROUTER} is not installed here (see `install`): left out", file=sys.stderr)
    where = machine.provenance(["instructions", *arguments], ROOT, versions)
    with ground(given.requests, given.repeats, build) as made:
        rows = run(made, [p for p in PLANS if p.setting in given.settings], command)
    report = Report(where, given.requests, rows)
    data = msgspec.json.format(msgspec.json.encode(report), indent=1)
    if given.out:
        given.out.write_bytes(data + b"\n")
    if given.page:
        page = filled(given.page.read_text("utf-8"), "instructions", markdown(report))
        given.page.write_text(page, "utf-8")
    print(markdown(report) if given.markdown else data.decode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
