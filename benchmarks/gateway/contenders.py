"""The gateways that are compared: how each starts before its upstreams, and when it has settled.

A peer is found on PATH or in a given folder; one that is missing is reported, not an error.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from benchmarks.gateway import own, peers, processes
from benchmarks.gateway.builds import HERE, Build
from benchmarks.gateway.client import Target
from benchmarks.gateway.processes import Cpu, Started, StartFailed
from benchmarks.gateway.script import MODEL, Pace

ROOT = HERE.source
BALLAST, BALLAST_WITHOUT_LEDGER = own.BALLAST, own.WITHOUT_LEDGER
PEERS = tuple(peers.PEERS)
SETTLE_S_MAX = 30.0
PEER_START_S_MAX = 180.0
"""LiteLLM imports for seconds on a quiet machine, for a minute on a busy one."""


class NotSettled(Exception):  # noqa: N818 - reads as what happened
    """The ledger does not hold a row for every request."""


class Contender(NamedTuple):
    """One running gateway."""

    name: str
    target: Target
    started: Started
    rows: Callable[[], int] | None = None
    """Request rows in its ledger by now; None for a gateway that keeps none."""
    others: tuple[Started, ...] = ()
    """Further processes that share its port."""

    def settle(self, requests: int) -> None:
        """Wait until all background work for so many requests is done. Raises NotSettled."""
        if self.rows is None:
            return
        until_s = time.monotonic() + SETTLE_S_MAX
        while (found := self.rows()) < requests:
            if time.monotonic() > until_s:
                raise NotSettled(f"{found} rows for {requests} requests")
            time.sleep(0.2)

    def cpu(self) -> Cpu:
        """Of all its processes until now."""
        found = [processes.cpu(one.pid) for one in (self.started, *self.others)]
        return Cpu(*(sum(parts) for parts in zip(*found, strict=True)))

    def stop(self) -> None:
        """End all of it."""
        for one in (self.started, *self.others):
            one.stop()


class Ground(NamedTuple):
    """What a contender starts on."""

    upstreams: tuple[str, ...]
    folder: Path
    peer_bin: Path | None
    build: Build = HERE
    """Of Ballast."""


@contextlib.contextmanager
def upstream(pace: Pace, folder: Path, targets: int = 1) -> Iterator[tuple[str, ...]]:
    """An upstream as a process; the base URL of each of its targets."""
    command = [
        sys.executable, "-m", "benchmarks.gateway.upstream", "--targets", str(targets),
        "--tokens", str(pace.tokens), "--chunk-ms", str(pace.chunk_ms),
    ]  # fmt: skip
    started = processes.start(command, folder / "upstream.log", ROOT)
    try:
        urls = started.line()["urls"]
        assert isinstance(urls, list)
        yield tuple(str(url) for url in urls)
    finally:
        started.stop()


@contextlib.contextmanager
def running(name: str, ground: Ground) -> Iterator[Contender]:
    """A gateway that answers requests, in a folder of its own. Raises StartFailed."""
    with tempfile.TemporaryDirectory(dir=ground.folder, prefix=f"{name}-") as folder:
        contender = _STARTS[name](ground._replace(folder=Path(folder)))
        try:
            yield contender
        finally:
            contender.stop()


def _ballast(ground: Ground, name: str, module: str = "serving.app") -> Contender:
    """One process, or two that share a port and a ledger; the log goes to a file."""
    folder = ground.folder
    made, key = own.settings(name, ground.upstreams, folder)
    count = 2 if name == own.TWO else 1
    if count > 1:
        made["gateway"] |= {"port": processes.free_port(), "pods": count}
    started: list[Started] = []
    try:
        for index in range(count):
            made["gateway"]["index"] = index
            own.write(made, folder / f"settings-{index}.yaml")
            command = [
                ground.build.python, "-m", module,
                "--config", str(folder / f"settings-{index}.yaml"),
            ]  # fmt: skip
            log = folder / f"ballast-{index}.log"
            started.append(processes.start(command, log, ground.build.source))
        urls = [str(one.line()["url"]) for one in started]
    except StartFailed:
        for one in started:
            one.stop()
        raise
    ledger = folder / "state" / "ledger.sqlite"
    rows = None if name == own.WITHOUT_LEDGER else partial(_rows, ledger)
    return Contender(name, Target(urls[0], key, MODEL), started[0], rows, tuple(started[1:]))


def _rows(path: Path) -> int:
    """Counted by us, so that the gateway's own CPU is not spent on the question."""
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=5)) as ledger:
        return int(ledger.execute("SELECT count(*) FROM requests").fetchone()[0])


def _peer(name: str, ground: Ground) -> Contender:
    """As its documentation starts it, in a folder of its own; no keys, no records."""
    command = find_peer(name, ground.peer_bin)
    assert command is not None
    port, metrics = processes.free_port(), processes.free_port()
    words = peers.words(name, (ground.upstreams, MODEL), (port, metrics), ground.folder)
    started = processes.start(
        [str(command), *words], ground.folder / f"{name}.log", ground.folder, tells=False
    )
    try:
        processes.wait_until_open(started, port, PEER_START_S_MAX)
    except StartFailed:
        started.stop()
        raise
    return Contender(name, Target(f"http://127.0.0.1:{port}", peers.KEY, MODEL), started)


_STARTS: dict[str, Callable[[Ground], Contender]] = {
    **{name: partial(_ballast, name=name) for name in own.SAID},
    BALLAST_WITHOUT_LEDGER: partial(
        _ballast, name=BALLAST_WITHOUT_LEDGER, module="benchmarks.ledger.without"
    ),
    **{name: partial(_peer, name) for name in PEERS},
}


def find_peer(name: str, peer_bin: Path | None) -> Path | None:
    """The peer's command in `peer_bin`, else on PATH, else as `install` made it; None when it is
    not here."""
    return peers.find(name, peer_bin)


def peer_version(command: Path) -> str:
    """The version of the distribution that brought a Python command; empty when unknown."""
    with command.open("rb") as script:
        first = script.readline(256).decode("utf-8", "replace")
    if not first.startswith("#!") or not os.access(first[2:].strip(), os.X_OK):
        return ""
    ask = f"import importlib.metadata as m; print(m.version({command.name!r}))"
    done = subprocess.run(
        [first[2:].strip(), "-c", ask], capture_output=True, text=True, timeout=30, check=False
    )
    return done.stdout.strip()


def direct(url: str) -> Target:
    """The upstream itself, for comparison."""
    assert urlsplit(url).port
    return Target(url, "k", MODEL)
