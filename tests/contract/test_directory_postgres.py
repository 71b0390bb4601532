"""What only PostgreSQL can do to a directory: go away in a commit, hang, hold the lock, forbid."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from benchmarks.ledger.server import PostgresServer
from serving.directory import commands
from serving.directory.base import EMPTY, DirectoryAway, VersionConflict
from serving.directory.chain import breaks
from serving.directory.commands import By, Change
from serving.directory.postgres import LIMITS, LOCK, PostgresDirectory
from serving.directory.values import Directory, build
from serving.ledger import migrate
from serving.ledger.address import Address, address
from serving.ledger.link import Limits, Link
from serving.settings import Ledger as Settings

pytestmark = pytest.mark.server
BY = By("owner", 1_700_000_000_000, "because")
SWITCH: Change = commands.throw_switch(Directory(), "all", "", BY)


def directory(where: Address, limits: Limits = LIMITS) -> PostgresDirectory:
    """One that tries a lost server again at once."""
    ticks = iter(range(0, 10**6, 60))
    return PostgresDirectory(
        Link(where, limits, lambda db: migrate.migrate(db, 5.0), clock=lambda: float(next(ticks)))
    )


@pytest.fixture
def url(new_database: Callable[[], str]) -> str:
    return new_database()


@pytest.fixture
def store(url: str) -> Iterator[PostgresDirectory]:
    store = directory(address(Settings(url=url)))
    yield store
    store.close()


def database(url: str) -> str:
    return url.rpartition("/")[2].partition("?")[0]


class Cut(psycopg.Connection[Any]):
    """A connection that breaks once its first commit of a change is done, before it says so."""

    cuts = 0

    @contextlib.contextmanager
    def transaction(self, *args: Any, **more: Any) -> Iterator[psycopg.Transaction]:
        with super().transaction(*args, **more) as one:
            yield one
            wrote = self.execute("SELECT pg_current_xact_id_if_assigned()").fetchone()
        if wrote and wrote[0] and Cut.cuts:
            Cut.cuts -= 1
            self.close()
            raise psycopg.OperationalError("the server closed the connection unexpectedly")


class Cutting(Address):
    def connect(self) -> psycopg.Connection[Any]:
        return Cut.connect(**self.parts, autocommit=True, prepare_threshold=None)


def test_a_commit_whose_answer_was_lost_is_known_to_be_done(url: str) -> None:
    store = directory(Cutting(*address(Settings(url=url))))
    store.head()
    Cut.cuts = 1
    head = store.commit(EMPTY, SWITCH)
    assert Cut.cuts == 0
    assert store.head() == head
    assert len(store.history()) == 1
    store.close()


def test_equal_changes_made_in_one_millisecond_are_two(store: PostgresDirectory) -> None:
    store.commit(EMPTY, SWITCH)
    with pytest.raises(VersionConflict):
        store.commit(EMPTY, SWITCH)


def test_a_server_that_went_and_came_back_has_all_and_goes_on(
    store: PostgresDirectory, postgres: PostgresServer
) -> None:
    head = store.commit(EMPTY, SWITCH)
    postgres.stop(signal.SIGQUIT)
    try:
        for ask in (store.head, store.read, store.history):
            with pytest.raises(DirectoryAway, match="the directory is away"):
                ask()
    finally:
        postgres.start()
    assert store.head() == head
    back = commands.take_back_switch(build(1, store.read()[1]), "all", "", BY)
    assert store.commit(head, back).number == 2
    assert breaks(store.history()) == []


def test_a_hanging_connection_is_cut_and_asked_anew(url: str, postgres: PostgresServer) -> None:
    made = directory(address(Settings(url=url)), Limits(2.0, 1.0, 20.0))
    made.head()  # every step of the schema, which takes longer than a look at it
    made.close()
    store = directory(address(Settings(url=url)), Limits(2.0, 1.0, 0.3))
    store.head()
    query = "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
    ((pid,),) = postgres.run(f"{query} AND pid <> pg_backend_pid()", database(url))
    os.kill(pid, signal.SIGSTOP)
    try:
        assert store.head() == EMPTY
    finally:
        os.kill(pid, signal.SIGCONT)
    store.close()


def test_another_s_lock_is_waited_for_a_while_and_nothing_is_stored(url: str) -> None:
    store = directory(address(Settings(url=url)), Limits(2.0, 0.1, 2.0))
    store.head()
    with psycopg.connect(url) as other:
        other.execute("SELECT pg_advisory_lock(%s)", [LOCK])
        with pytest.raises(DirectoryAway, match="lock timeout"):
            store.commit(EMPTY, SWITCH)
        assert store.head() == EMPTY, "reading needs no lock"
    assert store.commit(EMPTY, SWITCH).number == 1
    store.close()


def test_the_documented_grants_let_a_gateway_change_rows_but_never_the_history(
    url: str, store: PostgresDirectory, postgres: PostgresServer
) -> None:
    for role in ("ballast_gateway", "ballast_reader"):
        with contextlib.suppress(psycopg.errors.DuplicateObject):
            postgres.run(f"CREATE ROLE {role} LOGIN")
    store.head()
    grants = Path(migrate.__file__).with_name("postgres_schema") / "grants.sql"
    with psycopg.connect(url) as owner:
        owner.execute(grants.read_bytes())
    theirs = postgres.url(database(url), "ballast_gateway")
    gateway = directory(address(Settings(url=theirs)))
    head = gateway.commit(EMPTY, SWITCH)
    assert gateway.read()[0] == head
    gateway.close()
    for statement in ("DELETE FROM directory_history", "UPDATE directory_history SET number = 9"):
        with psycopg.connect(theirs) as db, pytest.raises(psycopg.errors.InsufficientPrivilege):
            db.execute(statement.encode())
    reader = postgres.url(database(url), "ballast_reader")
    with psycopg.connect(reader) as db:
        assert db.execute("SELECT count(*) FROM directory_history").fetchone() == (1,)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            db.execute("SELECT * FROM directory_documents")
