"""Streams as engines really send them: events apart from each other, and many streams at once.

First the CPU of one event that travels alone (64 streams, an event each 20 ms), beside the peers in
the same run; then a check that 1,000 streams of one event a second each pass whole through one
Ballast process. Ends with 1 when the check fails.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec
import uvloop

from benchmarks.gateway import machine, processes
from benchmarks.gateway.check import Checked, SlowStreams, slow_streams
from benchmarks.gateway.contenders import BALLAST, ROOT, Contender, Ground, running, upstream
from benchmarks.gateway.load import Plan, load, ready
from benchmarks.gateway.machine import Provenance
from benchmarks.gateway.report import REFERENCE, origin
from benchmarks.gateway.run import Failed, parser, present
from benchmarks.gateway.upstream import Pace

TOKENS, CHUNK_MS, STREAMS, TURNS = 64, 20.0, 64, 3
CHUNKS = TOKENS + 1
"""Writes of the upstream per stream: the last event travels with the end."""


class Apart(msgspec.Struct, frozen=True):
    """One gateway in one round, events 20 ms apart."""

    gateway: str
    number: int
    streams: int
    cpu_us_chunk: float
    """CPU of the whole tree / (streams x 65), the request's own cost included."""
    first_p50_ms: float
    whole_p99_ms: float


class Many(msgspec.Struct, frozen=True):
    """The check, and what it cost."""

    checked: Checked
    cpu_us_event: float
    rss_mib: float


class SlowReport(msgspec.Struct, frozen=True):
    """A whole run."""

    origin: Provenance
    apart: list[Apart]
    many: Many


def apart(contender: Contender, number: int, streams: int) -> Apart:
    """CPU per event that travels alone. Raises Failed, NotSettled."""
    pid = contender.started.pid
    asked = ready(contender.target)
    warm = Plan(streams, 60.0, streams, is_stream=True)
    done = uvloop.run(load(contender.target, warm))
    contender.settle(asked + done.requests)
    before = processes.cpu(pid)
    plan = Plan(streams, 60.0, TURNS * streams, is_stream=True)
    measured = uvloop.run(load(contender.target, plan))
    contender.settle(asked + done.requests + measured.requests)
    used = processes.cpu(pid).since(before)
    if measured.failures or done.failures:
        raise Failed(f"{contender.name}: {measured.errors + done.errors}")
    return Apart(
        gateway=contender.name,
        number=number,
        streams=measured.requests,
        cpu_us_chunk=round(1e6 * used.total_s / (measured.requests * CHUNKS), 2),
        first_p50_ms=measured.first_p50_ms,
        whole_p99_ms=measured.p99_ms,
    )


def many(contender: Contender, slow: SlowStreams) -> Many:
    """The check of many slow streams through one process. Raises NotSettled."""
    pid = contender.started.pid
    asked = ready(contender.target)
    before = processes.cpu(pid)
    checked = uvloop.run(slow_streams(contender.target, slow))
    contender.settle(asked + slow.streams)
    used = processes.cpu(pid).since(before)
    cost = 1e6 * used.total_s / max(1, checked.events)
    return Many(checked, round(cost, 2), processes.rss_mib(pid))


def compare(names: Sequence[str], rounds: int, streams: int, peer_bin: Path | None) -> list[Apart]:
    """All rounds of all gateways, events apart."""
    found = []
    with (
        tempfile.TemporaryDirectory(prefix="ballast-bench-") as folder,
        upstream(Pace(TOKENS, CHUNK_MS), Path(folder)) as url,
    ):
        ground = Ground(url, Path(folder), peer_bin)
        for number in range(1, rounds + 1):
            for name in names:
                with running(name, ground) as contender:
                    found.append(apart(contender, number, streams))
                print(msgspec.json.encode(found[-1]).decode(), file=sys.stderr, flush=True)
    return found


def check(slow: SlowStreams) -> Many:
    """Start one Ballast process and check many slow streams through it."""
    with (
        tempfile.TemporaryDirectory(prefix="ballast-bench-") as folder,
        upstream(Pace(slow.tokens, 1e3 * slow.pace_s), Path(folder)) as url,
        running(BALLAST, Ground(url, Path(folder), None)) as contender,
    ):
        return many(contender, slow)


def markdown(report: SlowReport) -> str:
    """The tables for `docs/benchmarks.md`."""
    lines = ["| gateway | CPU us / chunk, 20 ms apart (each round) | ratio in the round |",
             "| --- | --- | --- |"]  # fmt: skip
    base = {a.number: a.cpu_us_chunk for a in report.apart if a.gateway == REFERENCE}
    for name in dict.fromkeys(a.gateway for a in report.apart):
        own = [a for a in report.apart if a.gateway == name]
        ratios = [f"{a.cpu_us_chunk / base[a.number]:.2f}" for a in own if base.get(a.number)]
        figures = ", ".join(f"{a.cpu_us_chunk:g}" for a in own)
        label = f"{name} {report.origin.versions.get(name, '')}".strip()
        lines.append(f"| {label} | {figures} | {', '.join(ratios) or '-'} |")
    found, cost = report.many.checked, report.many
    verdict = (
        f"{found.streams} slow streams through one process: {found.complete} complete, "
        f"{found.faults} lost, reordered, mixed or cut ({found.events} events; longest silence in "
        f"a stream: median {found.gap_p50_s:g} s, worst {found.gap_max_s:g} s; "
        f"{cost.cpu_us_event:g} us CPU per event, {cost.rss_mib:g} MiB resident)."
    )
    lines += ["", verdict, ""]
    return "\n".join([*lines, *origin(report.origin)])


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point: JSON on stdout, or tables with --markdown."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    flags = parser("slow", __doc__)
    flags.add_argument("--rounds", type=int, default=2, help="of events apart; 0 leaves it out")
    flags.add_argument("--streams", type=int, default=1000, help="of the check")
    flags.add_argument("--tokens", type=int, default=10, help="content events of its streams")
    given = flags.parse_args(arguments)
    processes.raise_file_limit()
    versions = present(given.peers, given.peer_bin)
    where = machine.provenance(["slow", *arguments], ROOT, versions)
    found = compare((BALLAST, *versions), given.rounds, STREAMS, given.peer_bin)
    report = SlowReport(where, found, check(SlowStreams(given.streams, given.tokens, 1.0)))
    data = msgspec.json.format(msgspec.json.encode(report), indent=1)
    if given.out:
        given.out.write_bytes(data + b"\n")
    print(markdown(report) if given.markdown else data.decode())
    return int(report.many.checked.faults > 0)


if __name__ == "__main__":
    sys.exit(main())
