"""Gateways whose instructions are counted: each under callgrind before an instant upstream, with
everything on that a production request meets.

A count ends when the ledger holds a row for every request. What the gateway does while nobody asks
is counted first and taken off.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import sqlite3
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import uvloop
import yaml

from benchmarks.gateway import callgrind, own, peers, processes
from benchmarks.gateway.builds import HERE, Build
from benchmarks.gateway.callgrind import Count, Counter
from benchmarks.gateway.client import Broken, Target, connect
from benchmarks.gateway.contenders import SETTLE_S_MAX, NotSettled, upstream
from benchmarks.gateway.load import ready
from benchmarks.gateway.peers import VLLM_ROUTER
from benchmarks.gateway.script import MODEL, Pace
from serving.auth import digest, new_key

TOKENS = 64
"""Of one stream, and so many events of content."""
CONNECTIONS, START_S_MAX, IDLE_S = 8, 240.0, 5.0
RELAY, TARGETS, TWO, GUARD = "relay", "8 targets", "2 processes", "guard inspecting"
SETTINGS = (RELAY, TARGETS, TWO, GUARD)


class Ground(NamedTuple):
    """Where gateways run and how much they are asked."""

    folder: Path
    url: str
    paced: str
    """Of the upstream whose events are 20 ms apart."""
    requests: int
    repeats: int
    build: Build = HERE
    """Of Ballast."""


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
        text, port = settings(setting, url, folder, key), processes.free_port()
        running, target = [], None
        for index in range(2 if setting == TWO else 1):
            text["gateway"] = {**text["gateway"], "index": index, "port": port}
            path = folder / f"settings-{index}.yaml"
            path.write_text(yaml.safe_dump(text), "utf-8")
            command = [ground.build.python, "-m", "serving.app", "--config", str(path)]
            out, log = folder / f"count-{index}", folder / "ballast.log"
            started = processes.start(callgrind.under(command, out), log, ground.build.source)
            stack.callback(started.stop)
            target = Target(str(started.line(START_S_MAX)["url"]), key, MODEL)
            running.append((started, out))
        assert target is not None
        yield Counted(running, target)


def settings(setting: str, url: str, folder: Path, key: str) -> dict[str, Any]:
    """As for `run`, and what the setting adds."""
    pepper = secrets.token_hex(32).encode()
    (folder / "pepper").write_bytes(pepper)
    (folder / "secret").write_text(secrets.token_hex(16) + "\n")
    urls = [f"{url}/r{i}" for i in range(8)] if setting == TARGETS else [url]
    found: dict[str, Any] = {
        "state_dir": str(folder / "state"),
        "pepper_file": str(folder / "pepper"),
        # Long prompts, of whose end the upstream tells nothing, are predicted to queue there.
        "gateway": {"classes": {"interactive": {"first_token_s": 3600.0, "complete_s": 7200.0}},
                    "pods": 2 if setting == TWO else 1, "ops_port": processes.free_port()},
        "fleet": {
            "secret_file": str(folder / "secret"),
            "poll_s": 5.0,  # less to take off: what is asked each second is no request's work
            "static": [{"model": MODEL, "url": each, "limit": 4096} for each in urls],
        },
        "models": [{"name": MODEL, "profile": "instant"}],
        "tenants": [{"id": "bench"}],
        "keys": [{"id": "k1", "hmac": digest(pepper, key.encode()).hex(), "tenant": "bench"}],
    }  # fmt: skip
    if setting == GUARD:
        (folder / "terms").mkdir()
        lines = ["#! action: mask", *own.terms()]
        (folder / "terms" / "bench.txt").write_text("\n".join(lines), "utf-8")
        default = {"lists": ["bench"], "personal": "mask"}
        # One prompt is sent all along: remembered, it would cost what no first prompt costs.
        found["guard"] = {"terms_dir": str(folder / "terms"), "remembers": False,
                          "default": default}  # fmt: skip
    return found


@contextlib.contextmanager
def peer(ground: Ground, command: Path, url: str) -> Iterator[Counted]:
    """vllm-router before one upstream. Raises StartFailed."""
    with tempfile.TemporaryDirectory(dir=ground.folder) as name:
        folder, port = Path(name), processes.free_port()
        words = peers.words(VLLM_ROUTER, ([url], MODEL), (port, processes.free_port()), folder)
        out = folder / "count-0"
        started = processes.start(
            callgrind.under([str(command), *words], out), folder / "peer.log", folder, tells=False
        )
        try:
            processes.wait_until_open(started, port)
            yield Counted([(started, out)], Target(f"http://127.0.0.1:{port}", "k", MODEL))
        finally:
            started.stop()


@contextlib.contextmanager
def ground(requests: int, repeats: int, build: Build = HERE) -> Iterator[Ground]:
    """Two upstreams and a folder. Raises CallgrindMissing."""
    callgrind.version()
    with (
        tempfile.TemporaryDirectory(prefix="ballast-bench-") as name,
        upstream(Pace(TOKENS, 0.0), Path(name)) as urls,
        upstream(Pace(TOKENS, 20.0), Path(name)) as paced,
    ):
        yield Ground(Path(name), urls[0], paced[0], requests, repeats, build)
