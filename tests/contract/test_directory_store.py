"""Every directory store: versions, rows and history move together, and only one change wins."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

import pytest

from serving.directory import commands
from serving.directory.base import DirectoryAway, DirectoryStore, VersionConflict
from serving.directory.chain import breaks
from serving.directory.commands import By
from serving.directory.sqlite import SqliteDirectory
from serving.directory.values import Directory, build

BY = By("owner", 1_700_000_000_000, "because")


@pytest.fixture
def open_store(tmp_path: Path):
    """Opens the same store as often as asked."""
    opened: list[DirectoryStore] = []

    def open_one() -> DirectoryStore:
        opened.append(SqliteDirectory.open(tmp_path / "directory.sqlite"))
        return opened[-1]

    yield open_one
    for store in opened:
        store.close()


def state(store: DirectoryStore) -> Directory:
    return build(*store.read())


def new_tenant(store: DirectoryStore, id_: str) -> int:
    change = commands.create_tenant(state(store), {"id": id_, "residency": "premises"}, BY)
    return store.commit(state(store).version, change)


def test_an_empty_store_is_at_version_zero(open_store):
    store = open_store()
    assert (store.version(), store.read(), store.history()) == (0, (0, []), [])


def test_a_change_is_seen_whole_by_everybody(open_store):
    one, two = open_store(), open_store()
    assert new_tenant(one, "acme") == 1
    assert new_tenant(two, "beta") == 2
    for store in (one, two, open_store()):
        assert store.version() == 2
        assert set(state(store).tenants) == {"acme", "beta"}
        assert breaks(store.history()) == []
        assert [entry.number for entry in store.history(1)] == [2]
        assert [entry.number for entry in store.history(0, 1)] == [1]


def test_a_change_decided_on_an_old_state_is_refused_and_leaves_nothing(open_store):
    store = open_store()
    old = state(store)
    new_tenant(store, "acme")
    change = commands.create_tenant(old, {"id": "beta", "residency": "premises"}, BY)
    with pytest.raises(VersionConflict):
        store.commit(old.version, change)
    assert set(state(store).tenants) == {"acme"}
    assert store.version() == len(store.history()) == 1


def test_a_row_is_replaced_and_removed(open_store):
    store = open_store()
    new_tenant(store, "acme")
    found = state(store)
    store.commit(1, commands.change_tenant(found, "acme", {"residency": "anywhere"}, BY))
    assert state(store).tenants["acme"].residency == "anywhere"
    store.commit(2, commands.throw_switch(state(store), "all", "", BY))
    store.commit(3, commands.take_back_switch(state(store), "all", "", BY))
    assert not state(store).switches
    assert len(store.history()) == 4


def test_of_many_writers_at_once_each_change_wins_exactly_once(open_store):
    stores = [open_store() for _ in range(4)]
    lost: list[int] = []

    def write(store: DirectoryStore, name: str) -> None:
        for number in range(5):
            while True:
                try:
                    new_tenant(store, f"{name}{number}")
                    break
                except VersionConflict:
                    lost.append(1)

    threads = [
        threading.Thread(target=write, args=(store, f"t{index}-"))
        for index, store in enumerate(stores)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    store = open_store()
    assert len(state(store).tenants) == store.version() == 20
    assert breaks(store.history()) == []


def test_a_file_that_is_no_database_is_away(tmp_path):
    path = tmp_path / "directory.sqlite"
    path.write_bytes(b"not a database" * 100)
    with pytest.raises(DirectoryAway):
        SqliteDirectory.open(path)


def test_a_newer_schema_is_left_alone(tmp_path):
    path = tmp_path / "directory.sqlite"
    SqliteDirectory.open(path).close()
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(DirectoryAway, match="99"):
        SqliteDirectory.open(path)
