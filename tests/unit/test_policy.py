"""Policies: what a store says is obeyed, what it no longer says grows old, no change gets lost."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import uvloop

from serving.auth import KeyConflict
from serving.directory import commands
from serving.directory.base import EMPTY, DirectoryAway, Head, VersionConflict, next_entry
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

    def head(self) -> Head:
        self._check()
        return Head(self.entries[-1].number, self.entries[-1].hash) if self.entries else EMPTY

    def read(self) -> tuple[Head, list[Document]]:
        return self.head(), list(self.rows.values())

    def commit(self, expected: Head, change: Change) -> Head:
        self._check()
        if self.races:
            self.races -= 1
            raise VersionConflict
        assert expected == self.head()
        self.entries.append(next_entry(expected, change.event))
        self.rows |= {(d.kind, d.id): d for d in change.documents}
        return self.head()

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
        assert store.head().number == 1

    run(check)


def test_rows_that_contradict_the_settings_count_as_unread_until_they_no_longer_do():
    async def check(store: Store, policies: Policies) -> None:
        await policies.refresh()
        read_s = policies.read_s
        is_wrong = True

        def told(_: Directory) -> None:
            if is_wrong:
                raise KeyConflict("twice")

        policies.on_change = told
        store.commit(EMPTY, throw(Directory()))
        for _ in range(2):  # also when nothing else has changed
            await policies.refresh()
            assert (policies.read_s, policies.last_error) == (read_s, "twice")
        is_wrong = False
        await policies.refresh()
        assert policies.read_s >= read_s
        assert not policies.last_error

    run(check)


def test_what_contradicts_the_settings_can_still_be_mended_and_a_switch_be_thrown():
    async def check(store: Store, policies: Policies) -> None:
        def conflict(_: Directory) -> None:
            raise KeyConflict("twice")

        policies.on_change = conflict
        store.commit(EMPTY, throw(Directory()))
        changed = await policies.change(lambda d: commands.throw_switch(d, "all", "", BY))
        assert set(changed.switches) == {"model:m", "all:"}
        assert policies.last_error == "twice"

    run(check)


def test_another_history_of_the_same_length_is_noticed():
    """A fail-over can lose a change and make another in its place."""

    async def check(store: Store, policies: Policies) -> None:
        await policies.change(throw)
        other = Store()
        other.commit(EMPTY, commands.throw_switch(Directory(), "all", "", BY))
        store.rows, store.entries = other.rows, other.entries
        await policies.refresh()
        assert set(policies.directory.switches) == {"all:"}

    run(check)


def test_rows_nobody_can_read_count_as_unread():
    async def check(store: Store, policies: Policies) -> None:
        store.commit(EMPTY, throw(Directory()))
        store.rows["tenant", "x"] = Document("tenant", "x", b"{}")
        await policies.refresh()
        assert "tenant:x" in policies.last_error

    run(check)


def test_a_newer_kind_that_may_be_passed_over_does_not_age_what_is_known():
    async def check(store: Store, policies: Policies) -> None:
        store.commit(EMPTY, throw(Directory()))
        store.rows["tenant", "m"] = Document("moon", "m", b'{"_older": "ignore"}')  # type: ignore[arg-type]
        await policies.refresh()
        assert policies.last_error == ""
        assert policies.directory.newer == {"moon:m"}
        await policies.change(lambda directory: commands.throw_switch(directory, "all", "", BY))
        assert store.rows["tenant", "m"].data == b'{"_older": "ignore"}'

    run(check)


def test_no_switches_are_no_stops():
    assert stops(Directory()) is None
