"""`python -m benchmarks.ledger.chaining`: what the audit's hash chain costs the drain.

The ledgers' own `apply`, in the drainer's transactions, committed to the disk; once as it is, once
with the chain's one function replaced by nothing, taking turns within each round. Rows are request,
attempt begin and end, and an egress intent for each call that left. The ratio is of the same
round's two rates.
"""

from __future__ import annotations

import argparse
import contextlib
import shlex
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import msgspec
import psycopg

from benchmarks.gateway.contenders import ROOT
from benchmarks.gateway.machine import provenance
from benchmarks.ledger.__main__ import BATCH, ledgers, spread
from benchmarks.ledger.server import PostgresServer
from benchmarks.ledger.traffic import batches
from serving.ledger import chained
from serving.ledger.base import Position
from serving.rows import Record

SHARES = {"one call of ten leaves": 10, "all calls leave": 1}


class Pair(NamedTuple):
    """One round: rows a second."""

    chained: float
    unchained: float

    @property
    def ratio(self) -> float:
        return self.chained / self.unchained


@contextlib.contextmanager
def chain(is_kept: bool) -> Iterator[None]:
    """As it is, or without."""
    if is_kept:
        yield
        return
    with mock.patch.object(chained, "append", return_value=None):
        yield


def rate(name: str, server: PostgresServer, folder: Path, traffic: list[list[Record]]) -> float:
    """Rows a second into an empty ledger; the first batch only warms up."""
    with ledgers(name, server, folder) as ledger:
        ledger.apply(traffic[0], Position("life", 1, 0))
        begun_s = time.perf_counter()
        for number, batch in enumerate(traffic[1:], 1):
            ledger.apply(batch, Position("life", 1, number))
        took_s = time.perf_counter() - begun_s
    return sum(map(len, traffic[1:])) / took_s


def measured(server: PostgresServer, folder: Path, given: argparse.Namespace) -> list[str]:
    """The table's lines."""
    lines = []
    for name in ("SQLite", "PostgreSQL"):
        for share, each in SHARES.items():
            pairs = []
            for number in range(given.rounds):
                found = {}
                for is_kept in (True, False) if number % 2 else (False, True):
                    traffic = batches(given.calls, given.calls_per_batch, each)
                    with chain(is_kept):
                        found[is_kept] = rate(name, server, folder, traffic)
                pairs.append(Pair(found[True], found[False]))
            cells = (
                spread([p.chained for p in pairs], 0), spread([p.unchained for p in pairs], 0),
                spread([p.ratio for p in pairs], 2),
            )  # fmt: skip
            lines.append(f"| {name} | {share} | {' | '.join(cells)} |")
    return lines


def main(argv: Sequence[str]) -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="benchmarks.ledger.chaining", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--calls", type=int, default=10_000, help="of each round")
    parser.add_argument("--calls-per-batch", type=int, default=BATCH, help="of a transaction")
    given = parser.parse_args(argv)
    server = PostgresServer()
    try:
        server.make()
        with tempfile.TemporaryDirectory() as folder:
            lines = measured(server, Path(folder), given)
        version = str(server.run("SHOW server_version")[0][0])
    finally:
        server.close()
    versions = {"postgresql": version, "psycopg": psycopg.__version__}
    facts = msgspec.to_builtins(provenance(argv, ROOT, versions))
    facts["command"] = shlex.join(["python", "-m", "benchmarks.ledger.chaining", *argv])
    print(msgspec.json.format(msgspec.json.encode(facts)).decode())
    print(
        "| store | traffic | rows/s, chained | rows/s, unchained | ratio |\n|---|---|---|---|---|"
    )
    print("\n".join(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
