"""Every directory store: head, rows and history move together, and only one change wins."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from serving.directory import commands
from serving.directory.base import EMPTY, DirectoryAway, DirectoryStore, Head, VersionConflict
from serving.directory.chain import breaks
from serving.directory.commands import By
from serving.directory.sqlite import SqliteDirectory
from serving.directory.values import Directory, build

BY = By("owner", 1_700_000_000_000, "because")
Open = Callable[[], DirectoryStore]


def state(store: DirectoryStore) -> Directory:
    head, rows = store.read()
    return build(head.number, rows)


def new_tenant(store: DirectoryStore, id_: str) -> Head:
    head, rows = store.read()
    row = {"id": id_, "residency": "premises"}
    return store.commit(head, commands.create_tenant(build(head.number, rows), row, BY))


def test_an_empty_store_has_an_empty_head(open_store: Open) -> None:
    store = open_store()
    assert (store.head(), store.read(), store.history()) == (EMPTY, (EMPTY, []), [])


def test_a_change_is_seen_whole_by_everybody(open_store: Open) -> None:
    one, two = open_store(), open_store()
    assert new_tenant(one, "acme").number == 1
    head = new_tenant(two, "beta")
    assert head.number == 2
    for store in (one, two, open_store()):
        assert store.head() == head
        assert set(state(store).tenants) == {"acme", "beta"}
        history = store.history()
        assert breaks(history) == []
        assert (history[-1].number, history[-1].hash) == head
        assert [entry.number for entry in store.history(1)] == [2]
        assert [entry.number for entry in store.history(0, 1)] == [1]


def test_a_change_decided_on_an_old_state_is_refused_and_leaves_nothing(open_store: Open) -> None:
    store = open_store()
    old = store.head()
    new_tenant(store, "acme")
    change = commands.create_tenant(Directory(), {"id": "beta", "residency": "premises"}, BY)
    with pytest.raises(VersionConflict):
        store.commit(old, change)
    assert set(state(store).tenants) == {"acme"}
    assert store.head().number == len(store.history()) == 1


def test_a_change_decided_on_a_history_that_was_lost_is_refused(open_store: Open) -> None:
    store = open_store()
    new_tenant(store, "acme")
    change = commands.throw_switch(Directory(), "all", "", BY)
    with pytest.raises(VersionConflict):
        store.commit(Head(1, b"x" * 32), change)
    assert not state(store).switches


def test_a_row_is_replaced_and_removed(open_store: Open) -> None:
    store = open_store()
    new_tenant(store, "acme")
    changes: list[Callable[[Directory], commands.Change]] = [
        lambda d: commands.change_tenant(d, "acme", {"residency": "anywhere"}, BY),
        lambda d: commands.throw_switch(d, "all", "", BY),
        lambda d: commands.take_back_switch(d, "all", "", BY),
    ]
    for change in changes:
        store.commit(store.head(), change(state(store)))
    assert state(store).tenants["acme"].residency == "anywhere"
    assert not state(store).switches
    assert len(store.history()) == 4


def test_of_many_writers_at_once_each_change_wins_exactly_once(open_store: Open) -> None:
    stores = [open_store() for _ in range(4)]
    failed: list[BaseException] = []

    def write(store: DirectoryStore, name: str) -> None:
        for number in range(5):
            while True:
                try:
                    new_tenant(store, f"{name}{number}")
                    break
                except VersionConflict:
                    continue
                except BaseException as error:
                    failed.append(error)
                    raise

    threads = [
        threading.Thread(target=write, args=(store, f"t{index}-"))
        for index, store in enumerate(stores)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    store = open_store()
    assert len(state(store).tenants) == store.head().number == 20
    assert breaks(store.history()) == []


def test_no_letter_of_a_reason_is_lost(open_store: Open) -> None:
    """SQL's own signs, quotes and every plane of Unicode come back as they were put."""
    store = open_store()
    why = "'; DROP TABLE directory_documents;-- \\ \" %s ? $1 压舱石 \U0001f600"
    change = commands.throw_switch(Directory(), "model", "m'; --", BY._replace(why=why))
    store.commit(EMPTY, change)
    assert state(store).switches["model:m'; --"].why == why
    assert breaks(store.history()) == []


def test_a_file_that_is_no_database_is_away(tmp_path: Path) -> None:
    path = tmp_path / "directory.sqlite"
    path.write_bytes(b"not a database" * 100)
    with pytest.raises(DirectoryAway):
        SqliteDirectory.open(path)


def test_a_newer_schema_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "directory.sqlite"
    SqliteDirectory.open(path).close()
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(DirectoryAway, match="99"):
        SqliteDirectory.open(path)
