"""Instructions that a gateway executes for a request, an event, a KiB of prompt: counts, not times.

Each gateway runs under callgrind before an instant upstream, with everything on that a production
request meets; a count ends when the ledger holds a row for every request. What the gateway does
while nobody asks is counted first and taken off. Counts depend on the Python build, not on what
else the machine does; those of two runs differ by less than a hundredth.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import secrets
import sqlite3
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import uvloop
import yaml

from benchmarks.gateway import callgrind, machine, peers, processes
from benchmarks.gateway.callgrind import Count, Counter
from benchmarks.gateway.client import Broken, Target, connect, request
from benchmarks.gateway.contenders import BALLAST, ROOT, SETTLE_S_MAX, NotSettled, upstream
from benchmarks.gateway.load import ready
from benchmarks.gateway.peers import VLLM_ROUTER
from benchmarks.gateway.report import origin
from benchmarks.gateway.upstream import MODEL, Pace
from benchmarks.guard.samples import SEED, term_list
from serving.auth import digest, new_key

TOKENS = 64
EVENTS = TOKENS + 2
"""Of one stream: content, finish reason, [DONE]."""
CONNECTIONS, START_S_MAX, IDLE_S = 8, 240.0, 5.0
WORDS = {0: 12, 4: 4 * 1024 // 6, 90: 90 * 1024 // 6}
"""Of six bytes each, by the KiB of the prompt they make."""
PLAIN, CHUNK, APART = "plain request", "coalesced chunk, net", "chunk 20 ms apart"
KIB_4, KIB_90 = "KiB of prompt, up to 4", "KiB of prompt, 4 to 90"
RELAY, TARGETS, TWO, GUARD = "relay", "8 targets", "2 processes", "guard inspecting"
TERMS = 20_000


class Row(msgspec.Struct, frozen=True):
    """One figure: instructions of all threads, each time it was counted."""

    gateway: str
    setting: str
    what: str
    counts: list[int]
    aside: list[int]
    """Of them, those off the main thread."""

    @property
    def middle(self) -> float:
        """Mean."""
        return sum(self.counts) / len(self.counts)


class Report(msgspec.Struct, frozen=True):
    """A run."""

    origin: machine.Provenance
    requests: int
    rows: list[Row]


class Ground(NamedTuple):
    """Where gateways run and how much they are asked."""

    folder: Path
    url: str
    paced: str
    """Of the upstream whose events are 20 ms apart."""
    requests: int
    repeats: int


class Counted:
    """A gateway, as one process or several, whose instructions are counted."""

    def __init__(self, running: Sequence[tuple[processes.Started, Path]], target: Target) -> None:
        self.target = target
        self._counters = [Counter(started, out) for started, out in running]
        self._ledger = running[0][1].parent / "state" / "ledger.sqlite"
        self._asked = ready(target)
        self._idle = Count(0, 0)
        self._since_s = 0.0

    def rest(self) -> None:
        """Learn what idleness costs."""
        self._settle()
        self._take()
        time.sleep(IDLE_S)
        found = self._take()
        self._idle = found.over(IDLE_S)

    def ask(self, requests: int, data: bytes) -> Count:
        """What one of so many requests costs, idleness aside. Raises Broken, NotSettled."""
        self._take()
        uvloop.run(_put(self.target, requests, data))
        self._asked += requests
        self._settle()
        seconds = time.monotonic() - self._since_s
        return self._take().less(self._idle, seconds).over(requests)

    def _take(self) -> Count:
        found = [counter.take() for counter in self._counters]
        self._since_s = time.monotonic()
        return Count(sum(c.main for c in found), sum(c.aside for c in found))

    def _settle(self) -> None:
        """Wait until the ledger, where there is one, holds a row for every request."""
        until_s = time.monotonic() + SETTLE_S_MAX
        while self._ledger.exists():
            with contextlib.closing(
                sqlite3.connect(f"file:{self._ledger}?mode=ro", uri=True)
            ) as db:
                rows = int(db.execute("SELECT count(*) FROM requests").fetchone()[0])
            if rows >= self._asked:
                return
            if time.monotonic() > until_s:
                raise NotSettled(f"{rows} rows for {self._asked} requests")
            time.sleep(0.2)


async def _put(target: Target, requests: int, data: bytes) -> None:
    """So many requests over a few connections. Raises Broken for any that is not answered well."""
    left = requests

    async def worker() -> None:
        nonlocal left
        client = await connect(target)
        while left > 0:
            left -= 1
            answer = await client.ask(data)
            if answer.status != 200:
                raise Broken(f"status {answer.status}: {answer.body[:120]!r}")
        client.close()

    await asyncio.gather(*(worker() for _ in range(CONNECTIONS)))


@contextlib.contextmanager
def ballast(ground: Ground, setting: str, url: str) -> Iterator[Counted]:
    """Ballast with a setting before one upstream. Raises StartFailed."""
    with tempfile.TemporaryDirectory(dir=ground.folder) as name, contextlib.ExitStack() as stack:
        folder, key = Path(name), new_key(secrets.token_bytes(32))
        text, port = _settings(setting, url, folder, key), processes.free_port()
        running, target = [], None
        for index in range(2 if setting == TWO else 1):
            text["gateway"] = {**text["gateway"], "index": index, "port": port}
            path = folder / f"settings-{index}.yaml"
            path.write_text(yaml.safe_dump(text), "utf-8")
            command = [sys.executable, "-m", "serving.app", "--config", str(path)]
            out = folder / f"count-{index}"
            started = processes.start(callgrind.under(command, out), folder / "ballast.log", ROOT)
            stack.callback(started.stop)
            target = Target(str(started.line(START_S_MAX)["url"]), key, MODEL)
            running.append((started, out))
        assert target is not None
        yield Counted(running, target)


def _settings(setting: str, url: str, folder: Path, key: str) -> dict[str, Any]:
    """As for `run`, and what the setting adds."""
    pepper = secrets.token_hex(32).encode()
    (folder / "pepper").write_bytes(pepper)
    (folder / "secret").write_text(secrets.token_hex(16) + "\n")
    urls = [f"{url}/r{i}" for i in range(8)] if setting == TARGETS else [url]
    found: dict[str, Any] = {
        "state_dir": str(folder / "state"),
        "pepper_file": str(folder / "pepper"),
        "gateway": {"pods": 2 if setting == TWO else 1, "ops_port": processes.free_port()},
        "fleet": {
            "secret_file": str(folder / "secret"),
            "poll_s": 5.0,  # less to take off: what is asked each second is no request's work
            "static": [{"model": MODEL, "url": each, "limit": 4096} for each in urls],
        },
        "models": [{"name": MODEL, "profile": "instant"}],
        "tenants": [{"id": "bench"}],
        # Patient: long prompts, of which the upstream reports none, are predicted to queue there.
        "keys": [{"id": "k1", "hmac": digest(pepper, key.encode()).hex(), "tenant": "bench",
                  "latency_class": "patient"}],
    }  # fmt: skip
    if setting == GUARD:
        (folder / "terms").mkdir()
        terms = "\n".join(term.text for term in term_list(TERMS, random.Random(SEED)))
        (folder / "terms" / "bench.txt").write_text(terms, "utf-8")
        default = {"lists": ["bench"], "personal": "mask"}
        found["guard"] = {"terms_dir": str(folder / "terms"), "default": default}
    return found


@contextlib.contextmanager
def peer(ground: Ground, command: Path, url: str) -> Iterator[Counted]:
    """vllm-router before one upstream. Raises StartFailed."""
    with tempfile.TemporaryDirectory(dir=ground.folder) as name:
        folder, port = Path(name), processes.free_port()
        words = peers.words(VLLM_ROUTER, (url, MODEL), (port, processes.free_port()), folder)
        out = folder / "count-0"
        started = processes.start(
            callgrind.under([str(command), *words], out), folder / "peer.log", folder, tells=False
        )
        try:
            processes.wait_until_open(started, port)
            yield Counted([(started, out)], Target(f"http://127.0.0.1:{port}", "k", MODEL))
        finally:
            started.stop()


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
    bodies = {kib: request(counted.target, is_stream=False, prompt_words=WORDS[kib])
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
    known = {r.what: r.middle for r in report.rows if r.gateway == VLLM_ROUTER}
    lines = ["| gateway | setting | per | thousand instructions | of them ledger | ratio |",
             "| --- | --- | --- | --- | --- | --- |"]  # fmt: skip
    for row in report.rows:
        low, high = (f"{edge / 1e3:.2f}" for edge in (min(row.counts), max(row.counts)))
        aside = sum(row.aside) / len(row.aside) / 1e3
        ledger = f"{aside:.2f}" if row.gateway == BALLAST else "-"
        other = known.get(row.what)
        ratio = f"{row.middle / other:.2f}" if other else "-"
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


@contextlib.contextmanager
def ground(requests: int, repeats: int) -> Iterator[Ground]:
    """Two upstreams and a folder. Raises CallgrindMissing."""
    callgrind.version()
    with (
        tempfile.TemporaryDirectory(prefix="ballast-bench-") as name,
        upstream(Pace(TOKENS, 0.0), Path(name)) as url,
        upstream(Pace(TOKENS, 20.0), Path(name)) as paced,
    ):
        yield Ground(Path(name), url, paced, requests, repeats)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point: JSON on stdout, or a table with --markdown; 2 where nothing can be counted."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    flags = argparse.ArgumentParser(
        prog="benchmarks.gateway instructions", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    settings = [RELAY, TARGETS, TWO, GUARD]
    flags.add_argument("--settings", nargs="*", default=settings, choices=settings,
                       metavar="NAME", help=f"of {', '.join(settings)}; default all")  # fmt: skip
    flags.add_argument("--no-peer", action="store_true", help=f"leave {VLLM_ROUTER} out")
    flags.add_argument("--peer-bin", type=Path, metavar="DIR", help="where it stands; else PATH")
    flags.add_argument("--requests", type=int, default=400, help="of each count")
    flags.add_argument("--repeats", type=int, default=2, help="counts of each kind")
    flags.add_argument("--out", type=Path, metavar="FILE.json", help="write the report here")
    flags.add_argument("--markdown", action="store_true", help="print a table, not JSON")
    given = flags.parse_args(arguments)
    command = None if given.no_peer else peers.find(VLLM_ROUTER, given.peer_bin)
    try:
        versions = {"valgrind": callgrind.version()}
    except callgrind.CallgrindMissing as error:
        print(error, file=sys.stderr)
        return 2
    if command is not None:
        versions[VLLM_ROUTER] = peers.pinned(VLLM_ROUTER, command) or "unknown"
    elif not given.no_peer:
        print(f"{VLLM_ROUTER} is not installed here (see `install`): left out", file=sys.stderr)
    where = machine.provenance(["instructions", *arguments], ROOT, versions)
    with ground(given.requests, given.repeats) as made:
        rows = run(made, [p for p in PLANS if p.setting in given.settings], command)
    report = Report(where, given.requests, rows)
    data = msgspec.json.format(msgspec.json.encode(report), indent=1)
    if given.out:
        given.out.write_bytes(data + b"\n")
    print(markdown(report) if given.markdown else data.decode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
