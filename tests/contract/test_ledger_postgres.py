"""What only PostgreSQL can do to a ledger: die, hang, hold others' locks, have a newer schema."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from typer.testing import CliRunner

from ballast.cli import app
from benchmarks.ledger.server import PostgresServer
from serving.ledger import migrate
from serving.ledger.address import Address, address
from serving.ledger.base import LedgerNewer, LedgerUnavailable, Position
from serving.ledger.link import TRIES, Limits, Link
from serving.ledger.postgres import PostgresLedger
from serving.records import Usage
from serving.rows import RequestEnd
from serving.settings import Ledger as Settings

pytestmark = pytest.mark.server
LIFE = "0123456789ab"
PATIENCE_S = 30.0
"""For what only a busy machine makes slow."""
NewDatabase = Callable[[], str]


def request(request_id: str) -> RequestEnd:
    return RequestEnd(
        request_id, 5, 20, "acme", "p", "k", "chat", "m", "interactive", "refused", 429, "", "why",
        "", 0, 1, -1, Usage(),
    )  # fmt: skip


def ids(ledger: PostgresLedger) -> list[str]:
    return sorted(row.request_id for row in ledger.requests(999))


class Clock:
    """Stands still unless moved."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


class Case:
    """A ledger of an empty database, its address, and a clock for its back-off."""

    def __init__(self, server: PostgresServer, url: str, limits: Limits) -> None:
        self.server, self.url = server, url
        self.database = url.rpartition("/")[2].partition("?")[0]
        self.clock = Clock()
        settings = Settings(url=url, connect_s=2)
        where = address(settings)
        self.ledger = PostgresLedger(
            *(
                Link(where, limits, lambda db: migrate.migrate(db, 5.0), clock=self.clock)
                for _ in range(2)
            )
        )

    def run(self, statement: str) -> list[tuple[Any, ...]]:
        return self.server.run(statement, self.database)

    def backends(self) -> list[int]:
        """Of the ledger. Those of `run` are named otherwise: they are listed for a moment after
        they hung up, and so might be the server's own workers."""
        query = "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
        return [pid for (pid,) in self.run(f"{query} AND application_name = 'ballast'")]

    def is_gone(self, pid: int) -> bool:
        """Whether a backend ends, which it does a moment after its client hung up."""
        until_s = time.monotonic() + PATIENCE_S
        while pid in self.backends():
            if time.monotonic() > until_s:
                return False
            time.sleep(0.02)
        return True


@pytest.fixture
def case(postgres: PostgresServer, new_database: NewDatabase) -> Iterator[Case]:
    # What a busy machine needs to make the schema is no fault: only the lock's limit is short.
    case = Case(postgres, new_database(), Limits(PATIENCE_S, lock_s=0.1, call_s=PATIENCE_S))
    yield case
    case.ledger.close()


def test_a_connection_that_died_meanwhile_is_replaced_without_a_word(case: Case) -> None:
    case.ledger.apply([request("a")])
    case.run(f"SELECT pg_terminate_backend(pid) FROM unnest(ARRAY{case.backends()}) AS pid")
    case.ledger.apply([request("b")])
    assert ids(case.ledger) == ["a", "b"]


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT], ids=["shutdown", "crash"])
def test_a_server_that_went_and_came_back_has_all_that_was_committed(
    case: Case, how: signal.Signals
) -> None:
    case.ledger.apply([request("a")], Position(LIFE, 1, 10))
    case.server.stop(how)
    try:
        for _ in range(3):
            with pytest.raises(LedgerUnavailable, match="unavailable"):
                case.ledger.apply([request("b")], Position(LIFE, 1, 20))
    finally:
        case.server.start()
    case.clock.now_s += 60
    assert case.ledger.position(LIFE) == Position(LIFE, 1, 10)
    case.ledger.apply([request("b")], Position(LIFE, 1, 20))
    assert ids(case.ledger) == ["a", "b"]


def test_a_hanging_connection_is_cut_and_the_work_done_on_another(
    postgres: PostgresServer, new_database: NewDatabase
) -> None:
    url = new_database()
    made = Case(postgres, url, Limits(PATIENCE_S, PATIENCE_S, PATIENCE_S))
    made.ledger.apply([request("a")])  # the schema takes longer than the limit below
    (before,) = made.backends()
    made.ledger.close()
    assert made.is_gone(before)
    case = Case(postgres, url, Limits(statement_s=2.0, lock_s=2.0, call_s=1.0))
    case.ledger.apply([request("c")])
    (pid,) = case.backends()
    os.kill(pid, signal.SIGSTOP)
    try:
        case.ledger.apply([request("b")])
    finally:
        os.kill(pid, signal.SIGCONT)
    assert ids(case.ledger) == ["a", "b", "c"]
    case.ledger.close()


def test_a_server_that_takes_connections_and_says_nothing_is_given_up(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / ".s.PGSQL.5432"))
        silent.listen()
        settings = Settings(url=f"postgresql://u@/d?host={tmp_path}", connect_s=2)
        ledger = PostgresLedger.at(address(settings), settings)
        for _ in range(50):  # the later ones do not even try
            with pytest.raises(LedgerUnavailable, match="timeout"):
                ledger.apply([request("a")])


def test_another_sessions_lock_is_waited_for_and_then_left_for_later(case: Case) -> None:
    case.ledger.apply([request("a")])
    with psycopg.connect(case.url) as other:
        other.execute("LOCK TABLE requests IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(LedgerUnavailable, match="lock timeout"):
            case.ledger.apply([request("b")], Position(LIFE, 1, 20))
    assert case.ledger.position(LIFE) is None
    case.ledger.apply([request("b")])
    assert ids(case.ledger) == ["a", "b"]


def refuse_often(case: Case, sqlstate: str, times: int) -> None:
    """Let the next transactions that write a request fail with an SQLSTATE."""
    case.run("CREATE SEQUENCE refusals")
    case.run(f"""
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF nextval('refusals') <= {times} THEN
                RAISE EXCEPTION 'as told' USING ERRCODE = '{sqlstate}', DETAIL = 'private';
            END IF;
            RETURN NEW;
        END $$""")
    case.run(
        "CREATE TRIGGER refuse BEFORE INSERT ON requests FOR EACH ROW EXECUTE FUNCTION refuse()"
    )


@pytest.mark.parametrize("sqlstate", ["40001", "40P01"], ids=["serialization", "deadlock"])
def test_a_conflict_is_tried_again_at_once(case: Case, sqlstate: str) -> None:
    case.ledger.law()
    refuse_often(case, sqlstate, TRIES - 1)
    case.ledger.apply([request("a")], Position(LIFE, 1, 1))
    assert ids(case.ledger) == ["a"]
    assert case.ledger.position(LIFE) == Position(LIFE, 1, 1)


@pytest.mark.parametrize("sqlstate", ["57P01", "25006"], ids=["shutdown", "no longer primary"])
def test_a_server_that_turns_away_in_the_middle_is_asked_anew(case: Case, sqlstate: str) -> None:
    case.ledger.apply([request("before")])
    refuse_often(case, sqlstate, 1)
    (old,) = case.backends()
    case.ledger.apply([request("a")], Position(LIFE, 1, 1))
    assert case.is_gone(old)
    assert ids(case.ledger) == ["a", "before"]


@pytest.mark.parametrize("sqlstate", ["40001", "57014", "53100"], ids=["conflict", "slow", "full"])
def test_what_keeps_failing_stores_nothing_and_repeats_no_row(case: Case, sqlstate: str) -> None:
    case.ledger.law()
    refuse_often(case, sqlstate, TRIES)
    is_conflict = sqlstate == "40001"
    for _ in range(1 if is_conflict else TRIES):
        with pytest.raises(LedgerUnavailable, match=sqlstate) as caught:
            case.ledger.apply([request("a")], Position(LIFE, 1, 1))
        assert "private" not in str(caught.value)
    assert ids(case.ledger) == []
    assert case.ledger.position(LIFE) is None


def test_a_primary_that_became_read_only_is_left_for_the_new_one(case: Case) -> None:
    case.ledger.apply([request("a")])
    case.run(f"ALTER DATABASE {case.database} SET default_transaction_read_only = on")
    case.run(f"SELECT pg_terminate_backend(pid) FROM unnest(ARRAY{case.backends()}) AS pid")
    with pytest.raises(LedgerUnavailable):
        case.ledger.apply([request("b")])
    with psycopg.connect(case.url, autocommit=True) as db:
        db.execute("SET default_transaction_read_only = off")
        db.execute(f"ALTER DATABASE {case.database} RESET default_transaction_read_only".encode())
    case.clock.now_s += 60
    case.ledger.apply([request("b")])
    assert ids(case.ledger) == ["a", "b"]


def test_gateways_that_start_together_make_the_schema_once(
    postgres: PostgresServer, new_database: NewDatabase
) -> None:
    cases = [
        Case(postgres, url, Limits(PATIENCE_S, PATIENCE_S, PATIENCE_S))
        for url in [new_database()] * 8
    ]
    together = threading.Barrier(len(cases))
    failed: list[BaseException] = []

    def start(number: int, ledger: PostgresLedger) -> None:
        together.wait()
        try:
            ledger.apply([request(f"r{number}")])
        except LedgerUnavailable as error:
            failed.append(error)

    threads = [
        threading.Thread(target=start, args=(n, case.ledger)) for n, case in enumerate(cases)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert ids(cases[0].ledger) == [f"r{n}" for n in range(8)]
    versions = cases[0].run("SELECT version FROM schema_versions")
    assert versions == [(step.version,) for step in migrate.STEPS]
    for case in cases:
        case.ledger.close()


def test_each_step_lets_go_of_its_locks_before_the_next(case: Case) -> None:
    case.ledger.apply([request("a")])
    assert case.run("SELECT count(DISTINCT xmin::text) FROM schema_versions") == [
        (len(migrate.STEPS),)
    ]


@pytest.mark.parametrize("step", [one for one in migrate.STEPS if one.version > 10],
                         ids=lambda step: str(step.version))  # fmt: skip
def test_an_index_on_a_table_that_is_full_is_a_step_of_its_own(step: migrate.Step) -> None:
    text = re.sub(r"--.*", "", step.statements.decode())
    made = set(re.findall(r"CREATE TABLE (\w+)", text))
    full = set(re.findall(r"CREATE (?:UNIQUE )?INDEX (?:IF NOT EXISTS )?\w+ ON (\w+)", text)) - made
    assert not full or text.count(";") == 1


def test_a_newer_schema_is_refused_unless_it_only_added(case: Case) -> None:
    case.ledger.apply([request("a")])
    case.run(f"INSERT INTO schema_versions VALUES (98, {migrate.VERSION})")
    case.ledger.close()
    case.ledger.apply([request("b")])
    case.run("INSERT INTO schema_versions VALUES (99, 99)")
    case.ledger.close()
    with pytest.raises(LedgerNewer, match="schema version 99"):
        case.ledger.apply([request("c")])


def test_a_database_that_cannot_hold_every_letter_is_refused(postgres: PostgresServer) -> None:
    url = postgres.create("ascii", "ENCODING 'SQL_ASCII' TEMPLATE template0")
    settings = Settings(url=url)
    with pytest.raises(LedgerUnavailable, match="UTF8"):
        PostgresLedger.at(address(settings), settings).law()


def test_the_documented_grants_are_enough_and_no_more(case: Case, postgres: PostgresServer) -> None:
    for role in ("ballast_gateway", "ballast_reader"):
        with contextlib.suppress(psycopg.errors.DuplicateObject):
            case.run(f"CREATE ROLE {role} LOGIN")
    grants = Path(migrate.__file__).with_name("postgres_schema") / "grants.sql"

    def at(role: str) -> PostgresLedger:
        settings = Settings(url=postgres.url(case.database, role))
        return PostgresLedger.at(address(settings), settings)

    case.run("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    with pytest.raises(
        LedgerUnavailable, match=r"ballast_gateway may not .*serving\.ledger\.migrate"
    ):
        at("ballast_gateway").law()
    case.ledger.law()
    with psycopg.connect(case.url) as owner:
        owner.execute(grants.read_bytes())
    gateway, reader = at("ballast_gateway"), at("ballast_reader")
    gateway.apply([request("a")], Position(LIFE, 1, 1))
    gateway.forget(LIFE)
    assert gateway.law() == []
    assert ids(reader) == ["a"]
    with pytest.raises(LedgerUnavailable, match="permission denied"):
        reader.apply([request("b")])
    for statement in ("DELETE FROM requests", "DROP TABLE requests", "CREATE TABLE mine (a int)"):
        with (
            psycopg.connect(postgres.url(case.database, "ballast_gateway")) as db,
            pytest.raises(psycopg.errors.InsufficientPrivilege),
        ):
            db.execute(statement.encode())
    gateway.close()
    reader.close()


def test_the_password_is_read_anew_for_each_connection_and_never_repeated(
    case: Case, postgres: PostgresServer, tmp_path: Path
) -> None:
    case.ledger.law()
    with contextlib.suppress(psycopg.errors.DuplicateObject):
        case.run("CREATE ROLE locked LOGIN SUPERUSER")
    case.run("ALTER ROLE locked PASSWORD 'old-secret'")
    file = tmp_path / "password"
    file.write_text("old-secret\n")
    settings = Settings(url=postgres.url(case.database, "locked"), password_file=file)
    ledger = PostgresLedger.at(address(settings), settings)
    ledger.apply([request("a")])
    case.run("ALTER ROLE locked PASSWORD 'new-secret'")
    ledger.close()
    with pytest.raises(LedgerUnavailable, match="password authentication failed") as caught:
        ledger.apply([request("b")])
    seen = f"{caught.value!r} {caught.value.__cause__!r} {settings!r} {address(settings)!r}"
    assert "old-secret" not in seen
    file.write_text("new-secret")
    ledger = PostgresLedger.at(address(settings), settings)
    ledger.apply([request("b")])
    assert ids(ledger) == ["a", "b"]
    ledger.close()


def test_rows_go_to_no_other_machine_in_the_clear() -> None:
    """A server that declines encryption, at an address that is not known to be this machine."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        heard: list[bytes] = []

        def decline() -> None:
            line, _ = listener.accept()
            with line:
                heard.append(line.recv(8))
                line.sendall(b"N")
                heard.append(line.recv(1024))

        thread = threading.Thread(target=decline)
        thread.start()
        port = listener.getsockname()[1]
        settings = Settings(url=f"postgresql://u@db.example:{port}/d?hostaddr=127.0.0.1")
        ledger = PostgresLedger.at(address(settings), settings)
        with pytest.raises(LedgerUnavailable, match="SSL"):
            ledger.apply([request("a")])
        thread.join()
        assert heard[1] == b""


def test_the_owner_brings_the_schema_up_to_date_by_a_command(
    new_database: NewDatabase, tmp_path: Path
) -> None:
    config = tmp_path / "settings.yaml"
    url = new_database()
    config.write_text(f"ledger: {{url: '{url}'}}\n")
    command = [sys.executable, "-m", "serving.ledger.migrate", "--config", str(config)]
    said = [subprocess.run(command, capture_output=True, text=True, check=True) for _ in range(2)]
    assert said[0].stdout == f"schema version 0 -> {migrate.VERSION}\n"
    assert said[1].stdout == f"schema version {migrate.VERSION} -> {migrate.VERSION}\n"
    config.write_text("ledger: {}\n")
    assert subprocess.run(command, capture_output=True).returncode == 3


def test_the_command_line_asks_it_as_it_asks_a_file(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setenv("BALLAST_LEDGER__URL", case.url)
    runner = CliRunner()
    early = runner.invoke(app, ["cost"])
    assert early.exit_code == 1
    assert "schema version 0" in " ".join(early.output.split())
    case.ledger.apply([request("a" * 32)])
    asked = runner.invoke(app, ["cost", "--json", "--since", "1970-01-01", "--until", "1970-01-02"])
    assert asked.exit_code == 0, asked.output
    assert json.loads(asked.output)["rows"] == []
    told = runner.invoke(app, ["explain", "a" * 32])
    assert told.exit_code == 0, told.output


def test_an_address_that_does_not_exist_costs_one_try_and_then_nothing() -> None:
    tries: list[int] = []

    class Gone(Address):
        def connect(self) -> psycopg.Connection[Any]:
            tries.append(1)
            raise psycopg.OperationalError("no such host")

    clock = Clock()
    link = Link(
        Gone("nowhere:5432/d", {}, lambda: None), Limits(1, 1, 1), lambda db: None, clock=clock
    )
    waits = []
    for _ in range(8):
        for _ in range(3):
            with pytest.raises(LedgerUnavailable, match=r"nowhere:5432/d.*no such host"):
                link.run(lambda cursor: None)
        waits.append(clock.now_s)
        tried = len(tries)
        while len(tries) == tried:
            clock.now_s += 0.25
            with pytest.raises(LedgerUnavailable):
                link.run(lambda cursor: None)
    pauses = [later - earlier for earlier, later in itertools.pairwise(waits)]
    assert pauses == [0.5, 1.0, 2.0, 4.0, 5.0, 5.0, 5.0]
