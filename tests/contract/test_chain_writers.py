"""Many processes that chain at once, killed at any moment: every chain whole, no entry lost."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from serving.audit.verify import differing
from serving.directory.chain import breaks
from serving.ledger.address import address
from serving.ledger.base import Ledger, LedgerUnavailable, Position
from serving.ledger.postgres import PostgresLedger
from serving.ledger.sqlite import SqliteLedger
from serving.rows import EgressIntent
from serving.settings import Ledger as LedgerSettings

WRITERS, BATCHES, ROWS = 4, 60, 5
ROUNDS_MAX = 10
UNTIL_S = 60.0
_fork = multiprocessing.get_context("fork")


class Place(NamedTuple):
    """A ledger, to be opened by any process."""

    kind: str
    where: str

    def open(self) -> Ledger:
        if self.kind == "sqlite":
            return SqliteLedger.open(Path(self.where), busy_s=30.0)
        settings = LedgerSettings(url=self.where)
        return PostgresLedger.at(address(settings), settings)


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.server)])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    if request.param == "sqlite":
        yield Place("sqlite", str(tmp_path / "ledger.sqlite"))
    else:
        yield Place("postgres", request.getfixturevalue("new_database")())


def intent(life: str, number: int) -> EgressIntent:
    """The same for the same life and number, as a journal tells it again."""
    return EgressIntent(
        f"{life}{number:030x}", 1, 1000 + number, "acme", 2, "key:anywhere", "us", "alpha", "big"
    )


def drain(place: Place, life: str) -> None:
    """What a drainer does with its life's journal, from where the last commit stopped."""
    until_s = time.monotonic() + UNTIL_S
    with closing(place.open()) as ledger:
        found = ledger.position(life)
        batch = found.offset_bytes if found else 0
        while batch < BATCHES:
            rows = [intent(life, batch * ROWS + n) for n in range(ROWS)]
            try:
                ledger.apply(rows, Position(life, 0, batch + 1))
            except LedgerUnavailable:
                assert time.monotonic() < until_s
                continue  # the next tick: nothing of it was stored
            batch += 1


def start(place: Place, life: str) -> Any:
    process = _fork.Process(target=drain, args=(place, life))
    process.start()
    return process


def whole(place: Place, lives: list[str]) -> None:
    """Every chain holds every row of its life, once, in order, as the listing has it."""
    with closing(place.open()) as ledger:
        for life in lives:
            page = ledger.chained(life, 0, 10_000)
            assert breaks([one.entry for one in page]) == []
            assert differing(page, life) == []
            assert [one.row for one in page] == [intent(life, n) for n in range(BATCHES * ROWS)]
        assert {head.writer for head in ledger.heads()} == set(lives)
        assert ledger.unchained() == (0, 0)


def test_processes_that_chain_at_once_leave_every_chain_whole(place: Place) -> None:
    place.open().close()
    lives = [f"{number:02x}" for number in range(WRITERS)]
    processes = [start(place, life) for life in lives]
    for process in processes:
        process.join(UNTIL_S)
    assert [process.exitcode for process in processes] == [0] * WRITERS
    whole(place, lives)


def killed(place: Place, lives: list[str], rng: random.Random) -> int:
    """Let these chain, and kill some of them; how many were. On a busy machine they may all have
    ended before this process had its turn."""
    kills = 0
    alive = {life: start(place, life) for life in lives}
    with ExitStack() as ending:
        ending.callback(lambda: [process.kill() for process in alive.values()])
        while any(process.is_alive() for process in alive.values()):
            time.sleep(0.01)
            running = sorted(life for life, process in alive.items() if process.is_alive())
            if kills < 12 and running and rng.random() < 0.5:
                life = rng.choice(running)
                os.kill(alive[life].pid, signal.SIGKILL)
                alive[life].join()
                alive[life] = start(place, life)
                kills += 1
        for life, process in alive.items():
            process.join()
            assert process.exitcode == 0, life
    return kills


@pytest.mark.parametrize("seed", [1, 2])
def test_processes_killed_in_the_middle_of_chaining_lose_and_double_nothing(
    place: Place, seed: int
) -> None:
    rng, kills = random.Random(seed), 0
    place.open().close()
    lives: list[str] = []
    for _ in range(ROUNDS_MAX):
        now = [f"{len(lives) + number:02x}" for number in range(WRITERS)]
        lives += now
        kills += killed(place, now, rng)
        if kills > 2:
            break
    assert kills > 2, "they ended before anybody was killed"
    whole(place, lives)
