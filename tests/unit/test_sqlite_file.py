"""A SQLite file of ours: all or nothing, private, and faults in its owner's words."""

from __future__ import annotations

import contextlib
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import msgspec
import pytest

from serving.quality.sqlite import SqliteQuality
from serving.quality.values import Run
from serving.sqlite_file import Layout, SqliteFile


class Away(Exception):  # noqa: N818 - a state
    """The store's own."""


SCHEMA = "CREATE TABLE IF NOT EXISTS things (name TEXT PRIMARY KEY) STRICT;"
LAYOUT = Layout("the store of things", Away, 2, SCHEMA, 0.05)


@pytest.fixture
def file(tmp_path: Path) -> Iterator[SqliteFile]:
    with contextlib.closing(SqliteFile.open(tmp_path / "f", LAYOUT)) as opened:
        yield opened


def names(file: SqliteFile) -> list[str]:
    with file.statement() as db:
        return [name for (name,) in db.execute("SELECT name FROM things")]


@pytest.mark.parametrize("fault", [ValueError, KeyboardInterrupt])
def test_what_is_raised_within_a_transaction_undoes_it(
    file: SqliteFile, fault: type[BaseException]
) -> None:
    def interrupted() -> None:
        with file.transaction() as db:
            db.execute("INSERT INTO things VALUES ('a')")
            raise fault

    with pytest.raises(fault):
        interrupted()
    assert names(file) == []
    with file.transaction() as db:
        db.execute("INSERT INTO things VALUES ('b')")
    assert names(file) == ["b"]


def test_several_may_open_a_new_file_at_once(tmp_path: Path) -> None:
    patient = LAYOUT._replace(busy_s=20.0)
    for number in range(20):
        path, together = tmp_path / f"new{number}", Barrier(3)

        def opened(path: Path = path, together: Barrier = together) -> None:
            together.wait()
            SqliteFile.open(path, patient).close()

        with ThreadPoolExecutor(3) as pool:
            for one in [pool.submit(opened) for _ in range(3)]:
                one.result()


def test_a_statement_that_fails_undoes_those_before_it(file: SqliteFile) -> None:
    with pytest.raises(Away, match="the store of things cannot be used now"):  # noqa: SIM117
        with file.transaction() as db:
            db.executemany("INSERT INTO things VALUES (?)", [("a",), ("a",)])
    assert names(file) == []


def test_a_file_that_another_process_writes_for_too_long_is_away(
    file: SqliteFile, tmp_path: Path
) -> None:
    with (
        contextlib.closing(SqliteFile.open(tmp_path / "f", LAYOUT)) as other,
        other.transaction() as held,
    ):
        held.execute("INSERT INTO things VALUES ('theirs')")
        with pytest.raises(Away, match="locked"), file.transaction():
            pass
    assert names(file) == ["theirs"]


def test_a_file_of_a_later_ballast_is_left_alone(tmp_path: Path) -> None:
    SqliteFile.open(tmp_path / "f", LAYOUT._replace(version=3)).close()
    with pytest.raises(Away, match="schema version 3, this Ballast knows 2"):
        SqliteFile.open(tmp_path / "f", LAYOUT)


def test_what_is_no_database_or_no_file_is_away(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"not a database, though long enough to be one" * 50)
    with pytest.raises(Away, match="not a database"):
        SqliteFile.open(tmp_path / "f", LAYOUT)
    (tmp_path / "d").mkdir()
    with pytest.raises(Away):
        SqliteFile.open(tmp_path / "d", LAYOUT)
    with pytest.raises(Away, match="cannot open"):
        SqliteFile.open(tmp_path / "f" / "below", LAYOUT)


def test_nobody_else_may_read_it(file: SqliteFile, tmp_path: Path) -> None:
    assert stat.S_IMODE((tmp_path / "f").stat().st_mode) == 0o600


def test_half_a_round_of_canaries_is_never_kept(tmp_path: Path) -> None:
    good = Run(1, "m", "t", "capital", is_answered=True)
    with contextlib.closing(SqliteQuality.open(tmp_path / "q")) as store:
        with pytest.raises(OverflowError):
            store.add([good, msgspec.structs.replace(good, at_ms=2**70)])
        assert store.runs("m", "t") == []
        store.add([good])
        assert store.runs("m", "t") == [good]
