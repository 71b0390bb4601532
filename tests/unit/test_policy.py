"""Policies: what a store says is obeyed, what it no longer says grows old, no change gets lost."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import uvloop

from serving.auth import KeyConflict
from serving.directory import commands
from serving.directory.base import DirectoryAway, VersionConflict, next_entry
from serving.directory.chain import GENESIS
from serving.directory.commands import By, Change
from serving.directory.values import Directory, Document
from serving.errors import CallerError, OwnError
from serving.policy import TRIES_MAX, Policies, stops

BY = By("owner", 1, "because")


class Store:
    """A directory store in memory that can be away and can lose races."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, str], Document] = {}
        self.entries: list[Any] = []
        self.is_away = False
        self.races = 0

    def _check(self) -> None:
        if self.is_away:
            raise DirectoryAway("away")

    def version(self) -> int:
        self._check()
        return len(self.entries)

    def read(self) -> tuple[int, list[Document]]:
        self._check()
        return len(self.entries), list(self.rows.values())

    def commit(self, expected: int, change: Change) -> int:
        self._check()
        if self.races:
            self.races -= 1
            raise VersionConflict
        assert expected == len(self.entries)
        before = self.entries[-1].hash if self.entries else GENESIS
        self.entries.append(next_entry(expected + 1, before, change.event))
        self.rows |= {(d.kind, d.id): d for d in change.documents}
        return expected + 1

    def history(self, after: int = 0, limit: int = 100) -> list[Any]:
        self._check()
        return self.entries[after : after + limit]

    def close(self) -> None:
        pass


def run(check: Any) -> None:
    async def main() -> None:
        store = Store()
        policies = Policies(lambda: store)
        try:
            await check(store, policies)
        finally:
            await policies.close()

    uvloop.run(asyncio.wait_for(main(), 20.0))


def throw(directory: Directory) -> Change:
    return commands.throw_switch(directory, "model", "m", BY)


def test_a_change_is_told_once_and_holds():
    async def check(store: Store, policies: Policies) -> None:
        told: list[int] = []
        policies.on_change = lambda d: told.append(d.version)
        await policies.refresh()
        assert (await policies.change(throw)).switches
        await policies.refresh()
        assert told == [1]
        assert stops(policies.directory).models == {"m"}

    run(check)


def test_a_store_that_is_away_ages_what_is_known_and_refuses_changes():
    async def check(store: Store, policies: Policies) -> None:
        await policies.change(throw)
        read_s = policies.read_s
        store.is_away = True
        await policies.refresh()
        assert policies.read_s == read_s, "the time of the last good reading stands"
        assert policies.directory.switches, "what was known is obeyed still"
        with pytest.raises(DirectoryAway):
            await policies.change(throw)
        store.is_away = False
        await policies.refresh()
        assert policies.read_s >= read_s
        assert not policies.last_error

    run(check)


def test_before_the_first_reading_nothing_is_known_to_be_current():
    async def check(store: Store, policies: Policies) -> None:
        store.is_away = True
        await policies.start()
        assert policies.read_s == float("-inf")

    run(check)


def test_a_lost_race_is_decided_anew_and_gives_up_in_the_end():
    async def check(store: Store, policies: Policies) -> None:
        decided: list[int] = []

        def decide(directory: Directory) -> Change:
            decided.append(directory.version)
            return throw(directory)

        store.races = TRIES_MAX - 1
        await policies.change(decide)
        assert len(decided) == TRIES_MAX
        store.races = TRIES_MAX
        with pytest.raises(OwnError, match="too often"):
            await policies.change(lambda d: commands.throw_switch(d, "all", "", BY))

    run(check)


def test_what_a_rule_refuses_is_never_stored():
    async def check(store: Store, policies: Policies) -> None:
        await policies.change(throw)
        with pytest.raises(CallerError):
            await policies.change(throw)
        assert store.version() == 1

    run(check)


def test_rows_that_contradict_the_settings_leave_the_old_state_and_count_as_unread():
    async def check(store: Store, policies: Policies) -> None:
        await policies.refresh()
        read_s = policies.read_s

        def conflict(_: Directory) -> None:
            raise KeyConflict("twice")

        policies.on_change = conflict
        store.commit(0, throw(Directory()))
        await policies.refresh()
        assert (policies.directory.version, policies.last_error) == (0, "twice")
        assert policies.read_s == read_s

    run(check)


def test_rows_nobody_can_read_count_as_unread():
    async def check(store: Store, policies: Policies) -> None:
        store.commit(0, throw(Directory()))
        store.rows["tenant", "x"] = Document("tenant", "x", b"{}")
        await policies.refresh()
        assert "tenant:x" in policies.last_error

    run(check)


def test_no_switches_are_no_stops():
    assert stops(Directory()) is None
