"""`python -m benchmarks.ledger`: what it costs to bring rows into each ledger.

Transactions of `--calls-per-batch` finished calls (10 % with an egress intent) through the ledgers'
own `apply`, as the drainer does, committed to the disk. PostgreSQL is a throwaway server on a unix
socket of the same machine. Figures are the median over rounds, then the lowest and highest; rounds
of all contenders alternate. `--ask` fills both stores with so many calls and times
questions instead.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import psycopg

from benchmarks.gateway.contenders import ROOT
from benchmarks.gateway.machine import provenance
from benchmarks.ledger.server import PostgresServer
from benchmarks.ledger.traffic import batches, call
from benchmarks.ledger.ways import WAYS
from serving.ledger.address import address
from serving.ledger.base import EVER_MS, Ledger, Position
from serving.ledger.costs import Question
from serving.ledger.postgres import PostgresLedger
from serving.ledger.sqlite import SqliteLedger
from serving.rows import Record
from serving.settings import Ledger as Settings

BATCH = 1_300
"""Calls in one of the drainer's transactions when the journal is behind (`held`)."""
_TICK_S = 1.0 / os.sysconf("SC_CLK_TCK")
Apply = Callable[[Sequence[Record], int], None]


class Round(NamedTuple):
    """One round of one contender, per call but for the rate."""

    calls_per_s: float
    client_us: float
    """CPU of the thread that drains: what the gateway's process pays."""
    server_us: float
    """CPU of all of PostgreSQL's processes."""


def measured(apply: Apply, server_pid: int | None, traffic: Sequence[Sequence[Record]]) -> Round:
    """Apply every batch once; the first one only warms up."""
    apply(traffic[0], 0)
    calls = sum(1 for batch in traffic[1:] for record in batch if _is_request(record))
    server = _tree_s(server_pid)
    client_s, wall_s = time.thread_time(), time.perf_counter()
    for number, batch in enumerate(traffic[1:], 1):
        apply(batch, number)
    wall_s = time.perf_counter() - wall_s
    client_s = time.thread_time() - client_s
    server = _tree_s(server_pid) - server
    return Round(calls / wall_s, client_s / calls * 1e6, server / calls * 1e6)


def _is_request(record: Record) -> bool:
    return type(record).__name__ == "RequestEnd"


def _tree_s(pid: int | None) -> float:
    """CPU seconds of PostgreSQL: the postmaster and its children, ended ones included."""
    if pid is None:
        return 0.0
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split()
    ticks = 0
    for member in (str(pid), *children):
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{member}/stat").read_text("ascii").rpartition(") ")[2].split()
            ticks += int(fields[11]) + int(fields[12])
            if member == str(pid):
                ticks += int(fields[13]) + int(fields[14])
    return ticks * _TICK_S


@contextlib.contextmanager
def opened(name: str, server: PostgresServer, folder: Path) -> Iterator[Apply]:
    """A contender with an empty store."""
    with ledgers(name, server, folder) as ledger:
        if name not in WAYS:
            yield lambda records, number: ledger.apply(records, Position("life", 1, number))
            return
        database = server.run("SELECT max(datname) FROM pg_database WHERE datname LIKE 'bench%'")
        with psycopg.connect(server.url(database[0][0]), autocommit=True) as db:
            yield lambda records, _: WAYS[name](db, records)


@contextlib.contextmanager
def ledgers(name: str, server: PostgresServer, folder: Path) -> Iterator[Ledger]:
    """An empty ledger with its tables made."""
    if name == "SQLite":
        path = folder / f"ledger-{time.monotonic_ns()}"
        with contextlib.closing(SqliteLedger.open(path)) as embedded:
            yield embedded
        return
    database = f"bench{time.monotonic_ns()}"
    settings = Settings(url=server.create(database))
    with contextlib.closing(PostgresLedger.at(address(settings), settings)) as ledger:
        ledger.law()
        yield ledger
    server.run(f"DROP DATABASE {database} WITH (FORCE)")


def asked(name: str, server: PostgresServer, folder: Path, calls: int, rounds: int) -> None:
    """Print how long questions take over so many calls, seconds."""
    with ledgers(name, server, folder) as ledger:
        for at in range(0, calls, BATCH):
            ledger.apply([record for n in range(at, min(at + BATCH, calls)) for record in call(n)])
        by = ("tenant", "model", "target")
        questions: dict[str, Callable[[], object]] = {
            f"costs by {', '.join(by)}": lambda: ledger.costs(Question(by, 0, EVER_MS)),
            "costs by day": lambda: ledger.costs(Question(("day",), 0, EVER_MS)),
            "law": ledger.law,
            "100 newest requests": lambda: ledger.requests(100),
        }
        for what, question in questions.items():
            took_s = []
            for _ in range(rounds):
                begun_s = time.perf_counter()
                question()
                took_s.append(time.perf_counter() - begun_s)
            print(f"| {name} | {what} | {spread(took_s, 3)} |")


def spread(values: Sequence[float], digits: int = 1) -> str:
    """Median, lowest and highest."""
    low, high = min(values), max(values)
    return f"{statistics.median(values):,.{digits}f} ({low:,.{digits}f}-{high:,.{digits}f})"


def main(argv: Sequence[str]) -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="benchmarks.ledger", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--calls", type=int, default=20_000, help="of each round")
    parser.add_argument("--calls-per-batch", type=int, default=BATCH, help="of a transaction")
    parser.add_argument("--ask", type=int, metavar="CALLS", help="time questions over so many")
    given = parser.parse_args(argv)
    found: dict[str, list[Round]] = {}
    server = PostgresServer()
    try:
        server.make()
        with tempfile.TemporaryDirectory() as folder:
            for name in ("SQLite", "PostgreSQL") if given.ask else ():
                asked(name, server, Path(folder), given.ask, given.rounds)
            for _ in range(0 if given.ask else given.rounds):
                for name in ("SQLite", "PostgreSQL", *WAYS):
                    traffic = batches(given.calls, given.calls_per_batch)
                    with opened(name, server, Path(folder)) as apply:
                        pid = None if name == "SQLite" else server.pid
                        found.setdefault(name, []).append(measured(apply, pid, traffic))
        version = server.run("SHOW server_version")[0][0]
    finally:
        server.close()
    _print(found, argv, str(version))
    return 0


def _print(found: dict[str, list[Round]], argv: Sequence[str], version: str) -> None:
    versions = {"postgresql": version, "psycopg": psycopg.__version__}
    facts: dict[str, Any] = msgspec.to_builtins(provenance(argv, ROOT, versions))
    facts["command"] = shlex.join(["python", "-m", "benchmarks.ledger", *argv])
    print(msgspec.json.format(msgspec.json.encode(facts)).decode())
    if not found:
        return
    print("| store | calls/s | client us/call | server us/call |\n|---|---|---|---|")
    for name, rounds in found.items():
        columns = zip(*rounds, strict=True)
        print(f"| {name} | {' | '.join(spread(column) for column in columns)} |")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
