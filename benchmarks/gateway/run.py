"""CPU and latency that a gateway costs, beside its peers in the same run.

Each round measures each gateway once, freshly started (A B A B), so that drift of the machine hits
all alike; the gates are ratios within a round. CPU is that of the gateway's whole process tree,
its ledger's work included: a reading ends when every request has its row.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec
import uvloop

from benchmarks.gateway import machine, processes
from benchmarks.gateway.client import Target
from benchmarks.gateway.contenders import (
    BALLAST,
    PEERS,
    ROOT,
    Contender,
    Ground,
    direct,
    find_peer,
    peer_version,
    running,
    upstream,
)
from benchmarks.gateway.load import Loaded, Plan, added, load, ready
from benchmarks.gateway.peers import pinned
from benchmarks.gateway.processes import Cpu
from benchmarks.gateway.report import Report, Round, markdown, summarise
from benchmarks.gateway.upstream import Pace

TOKENS = 64
EVENTS = TOKENS + 2
"""Of one stream as a client without usage sees it: content, finish reason, [DONE]."""


class Effort(msgspec.Struct, frozen=True):
    """How long one gateway is measured in one round."""

    seconds: float = 4.0
    """Of each load: plain requests, streams. Above 3 s, so that the ledger drains within."""
    warm_s: float = 1.0
    concurrency: int = 16
    blocks: int = 11
    block_requests: int = 40


class Failed(Exception):  # noqa: N818 - reads as what happened
    """A gateway refused or broke requests of the load: its figures would mean nothing."""


class _Meter:
    """Puts load on one gateway and reads its CPU once everything asked for is on its ledger."""

    def __init__(self, contender: Contender, effort: Effort) -> None:
        self._contender = contender
        self._effort = effort
        self._asked = ready(contender.target)

    def cost(self, *, is_stream: bool) -> tuple[Loaded, Cpu]:
        """Warm up, then one load and what it cost. Raises Failed, NotSettled."""
        self._put(self._effort.warm_s, is_stream)
        before = self._settled()
        done = self._put(self._effort.seconds, is_stream)
        return done, self._settled().since(before)

    def _put(self, seconds: float, is_stream: bool) -> Loaded:
        plan = Plan(self._effort.concurrency, seconds, is_stream=is_stream)
        done = uvloop.run(load(self._contender.target, plan))
        if done.failures or not done.requests:
            raise Failed(f"{self._contender.name}: {done.failures} failures: {done.errors}")
        self._asked += done.requests
        return done

    def _settled(self) -> Cpu:
        self._contender.settle(self._asked)
        return processes.cpu(self._contender.started.pid)


def measure(contender: Contender, base: Target, effort: Effort, number: int) -> Round:
    """One round of one gateway. Raises Failed, NotSettled, Broken."""
    meter = _Meter(contender, effort)
    plain, for_plain = meter.cost(is_stream=False)
    streams, for_streams = meter.cost(is_stream=True)
    more = uvloop.run(added(base, contender.target, effort.blocks, effort.block_requests))
    ms_request = 1e3 * for_plain.total_s / plain.requests
    ms_stream = 1e3 * for_streams.total_s / streams.requests
    aside_s = for_plain.total_s - for_plain.main_s
    return Round(
        gateway=contender.name,
        number=number,
        requests=plain.requests,
        streams=streams.requests,
        events_per_stream=round(streams.events / streams.requests, 2),
        cpu_ms_request=round(ms_request, 4),
        cpu_ms_request_user=round(1e3 * for_plain.user_s / plain.requests, 4),
        cpu_ms_request_system=round(1e3 * for_plain.system_s / plain.requests, 4),
        cpu_ms_request_ledger=(
            round(1e3 * aside_s / plain.requests, 4) if contender.rows is not None else None
        ),
        cpu_ms_stream=round(ms_stream, 4),
        cpu_us_chunk_net=round(1e3 * (ms_stream - ms_request) / EVENTS, 2),
        added_ms_request=more.request,
        added_ms_head=more.head,
        added_ms_first_byte=more.first_byte,
        rps=plain.rps,
        streams_per_s=streams.rps,
        rss_mib=processes.rss_mib(contender.started.pid),
    )


def compare(
    names: Sequence[str], rounds: int, effort: Effort, peer_bin: Path | None
) -> list[Round]:
    """All rounds of all gateways, one after the other; each is told on stderr."""
    found = []
    with (
        tempfile.TemporaryDirectory(prefix="ballast-bench-") as folder,
        upstream(Pace(TOKENS, 0.0), Path(folder)) as url,
    ):
        ground = Ground(url, Path(folder), peer_bin)
        for number in range(1, rounds + 1):
            for name in names:
                with running(name, ground) as contender:
                    found.append(measure(contender, direct(url), effort, number))
                print(msgspec.json.encode(found[-1]).decode(), file=sys.stderr, flush=True)
    return found


def present(peers: Sequence[str], peer_bin: Path | None) -> dict[str, str]:
    """The peers that are installed, and their versions; says aloud which are not."""
    versions = {}
    for name in peers:
        command = find_peer(name, peer_bin)
        if command is None:
            print(
                f"{name} is not installed here (see `install`, --peer-bin): left out",
                file=sys.stderr,
            )
        else:
            versions[name] = pinned(name, command) or peer_version(command) or "unknown"
    return versions


def parser(name: str, description: str | None) -> argparse.ArgumentParser:
    """The flags that all comparisons share."""
    made = argparse.ArgumentParser(
        prog=f"benchmarks.gateway {name}", description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    made.add_argument("--peers", nargs="*", default=list(PEERS), choices=PEERS, metavar="NAME",
                      help=f"beside Ballast; default all known: {', '.join(PEERS)}")  # fmt: skip
    made.add_argument("--peer-bin", type=Path, metavar="DIR", help="where peers stand; else PATH")
    made.add_argument("--out", type=Path, metavar="FILE.json", help="write the report here")
    made.add_argument("--markdown", action="store_true", help="print tables, not JSON")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point: JSON on stdout, or a table with --markdown."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    flags = parser("run", __doc__)
    flags.add_argument("--rounds", type=int, default=3)
    flags.add_argument("--seconds", type=float, default=4.0, help="of each load")
    given = flags.parse_args(arguments)
    processes.raise_file_limit()
    versions = present(given.peers, given.peer_bin)
    origin = machine.provenance(["run", *arguments], ROOT, versions)
    effort = Effort(seconds=given.seconds)
    rounds = compare((BALLAST, *versions), given.rounds, effort, given.peer_bin)
    report = Report(origin, rounds, *summarise(rounds))
    data = msgspec.json.format(msgspec.json.encode(report), indent=1)
    if given.out:
        given.out.write_bytes(data + b"\n")
    print(markdown(report) if given.markdown else data.decode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
