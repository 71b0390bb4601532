"""The gateways that are compared: how each starts before one upstream, and when it has settled.

A peer is found on PATH or in a given folder; one that is missing is reported, not an error.
"""

from __future__ import annotations

import contextlib
import os
import secrets
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

import yaml

from benchmarks.gateway import peers, processes
from benchmarks.gateway.client import Target
from benchmarks.gateway.peers import LITELLM, SGLANG_ROUTER, VLLM_ROUTER
from benchmarks.gateway.processes import Started, StartFailed
from benchmarks.gateway.upstream import MODEL, Pace
from serving.auth import digest, new_key

ROOT = Path(__file__).resolve().parents[2]
BALLAST = "ballast"
BALLAST_WITHOUT_LEDGER = "ballast-without-ledger"
PEERS = tuple(peers.PEERS)
SETTLE_S_MAX = 30.0


class NotSettled(Exception):  # noqa: N818 - reads as what happened
    """The ledger does not hold a row for every request."""


class Contender(NamedTuple):
    """One running gateway."""

    name: str
    target: Target
    started: Started
    rows: Callable[[], int] | None = None
    """Request rows in its ledger by now; None for a gateway that keeps none."""

    def settle(self, requests: int) -> None:
        """Wait until all background work for so many requests is done. Raises NotSettled."""
        if self.rows is None:
            return
        until_s = time.monotonic() + SETTLE_S_MAX
        while (found := self.rows()) < requests:
            if time.monotonic() > until_s:
                raise NotSettled(f"{found} rows for {requests} requests")
            time.sleep(0.2)


class Ground(NamedTuple):
    """What a contender starts on."""

    upstream: str
    folder: Path
    peer_bin: Path | None


@contextlib.contextmanager
def upstream(pace: Pace, folder: Path) -> Iterator[str]:
    """An upstream as a process; its base URL."""
    command = [
        sys.executable, "-m", "benchmarks.gateway.upstream",
        "--tokens", str(pace.tokens), "--chunk-ms", str(pace.chunk_ms),
    ]  # fmt: skip
    started = processes.start(command, folder / "upstream.log", ROOT)
    try:
        yield str(started.line()["url"])
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
            contender.started.stop()


def _ballast(ground: Ground, module: str = "serving.app") -> Contender:
    """Auth, admission, routing, accounting, journal, ledger and request log: all on, one process;
    the log goes to a file."""
    folder, key = ground.folder, new_key(secrets.token_bytes(32))
    pepper = secrets.token_hex(32).encode()
    (folder / "pepper").write_bytes(pepper)
    (folder / "secret").write_text(secrets.token_hex(16) + "\n")
    settings = {
        "state_dir": str(folder / "state"),
        "pepper_file": str(folder / "pepper"),
        "gateway": {"port": 0, "ops_port": 0},
        "fleet": {
            "secret_file": str(folder / "secret"),
            "static": [{"model": MODEL, "url": ground.upstream, "limit": 4096}],
        },
        "models": [{"name": MODEL, "profile": "instant"}],
        "tenants": [{"id": "bench"}],
        "keys": [{"id": "k1", "hmac": digest(pepper, key.encode()).hex(), "tenant": "bench"}],
    }
    (folder / "settings.yaml").write_text(yaml.safe_dump(settings), "utf-8")
    command = [sys.executable, "-m", module, "--config", str(folder / "settings.yaml")]
    started = processes.start(command, folder / "ballast.log", ROOT)
    with _stopped_on_error(started):
        url = str(started.line()["url"])
    return Contender(
        BALLAST, Target(url, key, MODEL), started, lambda: _rows(folder / "state" / "ledger.sqlite")
    )


def _without_ledger(ground: Ground) -> Contender:
    """The same, but that it keeps no row."""
    found = _ballast(ground, "benchmarks.ledger.without")
    return found._replace(name=BALLAST_WITHOUT_LEDGER, rows=None)


def _rows(path: Path) -> int:
    """Counted by us, so that the gateway's own CPU is not spent on the question."""
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=5)) as ledger:
        return int(ledger.execute("SELECT count(*) FROM requests").fetchone()[0])


def _peer(name: str, ground: Ground) -> Contender:
    """As its documentation starts it, in a folder of its own; no keys, no records."""
    command = find_peer(name, ground.peer_bin)
    assert command is not None
    port, metrics = processes.free_port(), processes.free_port()
    words = peers.words(name, (ground.upstream, MODEL), (port, metrics), ground.folder)
    started = processes.start(
        [str(command), *words], ground.folder / f"{name}.log", ground.folder, tells=False
    )
    with _stopped_on_error(started):
        processes.wait_until_open(started, port)
    return Contender(name, Target(f"http://127.0.0.1:{port}", "k", MODEL), started)


@contextlib.contextmanager
def _stopped_on_error(started: Started) -> Iterator[None]:
    try:
        yield
    except StartFailed:
        started.stop()
        raise


_STARTS: dict[str, Callable[[Ground], Contender]] = {
    BALLAST: _ballast,
    BALLAST_WITHOUT_LEDGER: _without_ledger,
    **{name: partial(_peer, name) for name in (VLLM_ROUTER, SGLANG_ROUTER, LITELLM)},
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
