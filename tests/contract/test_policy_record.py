"""The settings' policy stands in the history once for each time it changed, in every store."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from serving.audit import standing
from serving.audit.recorder import Recorder, details_of
from serving.audit.standing import Standing
from serving.directory.base import DirectoryAway, DirectoryStore, Head
from serving.directory.chain import breaks
from serving.directory.changes import By, Change, event
from serving.settings import KeySettings, Settings

Open = Callable[[], DirectoryStore]
HMAC, OTHER = "ab" * 32, "cd" * 32


def settings(**more: Any) -> Settings:
    return Settings.model_validate({"tenants": [{"id": "acme", "residency": "mainland"}]} | more)


def standing_of(given: Settings, *keys: KeySettings) -> Standing:
    return Standing(given, keys, ())


def recorder(open_store: Open, look: Standing | Callable[[], Standing]) -> Recorder:
    found = look if callable(look) else lambda: look
    return Recorder(open_store, "gateway:here/0", found, lambda: 1)  # type: ignore[arg-type,return-value]


async def once(open_store: Open, *given: Standing) -> None:
    for one in given:
        made = recorder(open_store, lambda one=one: one)  # type: ignore[misc]
        await made.look()
        await made.close()


def records(store: DirectoryStore) -> list[dict[str, Any]]:
    return [found for entry in store.history() if (found := details_of(entry)) is not None]


def test_a_policy_is_recorded_when_it_is_another_than_the_last(open_store: Open) -> None:
    one, two = standing_of(settings()), standing_of(settings(guard={"producer": "P"}))
    asyncio.run(once(open_store, one, one, two, two, one))
    found = records(open_store())
    assert [r.get("changed") for r in found] == [None, ["guard.producer"], ["guard.producer"]]
    assert found[0]["digest"] == found[2]["digest"] != found[1]["digest"]
    assert found[0]["policy"]["tenants"]["acme"]["residency"] == "mainland"
    assert breaks(open_store().history()) == []


def test_other_changes_between_do_not_hide_the_last_policy(open_store: Open) -> None:
    one = standing_of(settings())
    asyncio.run(once(open_store, one))
    store = open_store()
    for number in range(3):
        told = event("x:y", "settings.policy.not", By("o", number), {"says": "settings.policy"})
        store.commit(store.head(), Change([], told))
    asyncio.run(once(open_store, one))
    assert len(records(store)) == 1


def test_of_gateways_that_start_together_one_records(open_store: Open) -> None:
    one = standing_of(settings())
    open_store().head()  # the schema is made
    barrier = threading.Barrier(6)
    faults: list[BaseException] = []

    def start() -> None:
        made = recorder(open_store, one)
        try:
            barrier.wait(20)
            asyncio.run(both(made))
        except BaseException as fault:
            faults.append(fault)
            raise

    async def both(made: Recorder) -> None:
        await made.look()
        await made.close()

    threads = [threading.Thread(target=start) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert faults == []
    assert len(records(open_store())) == 1


def test_a_key_file_that_changes_is_recorded_and_one_that_was_touched_is_not(
    open_store: Open,
) -> None:
    key = KeySettings(id="web", tenant="acme", hmac=HMAC)
    same, rotated = key.model_copy(), key.model_copy(update={"hmac": OTHER})
    given = settings()
    now = [standing_of(given, key)]

    async def watch() -> None:
        made = recorder(open_store, lambda: now[0])
        for one in (key, same, rotated):
            now[0] = standing_of(given, one)
            await made.look()
        await made.close()

    asyncio.run(watch())
    found = records(open_store())
    assert [r.get("changed") for r in found] == [None, ["keys.web"]]
    text = msgspec.json.encode(found).decode()
    assert HMAC not in text
    assert OTHER not in text


class Away:
    """A store that cannot be reached for the first times."""

    def __init__(self, store: DirectoryStore, times: int) -> None:
        self._store, self.left = store, times

    def head(self) -> Head:
        if self.left:
            self.left -= 1
            raise DirectoryAway("no connection")
        return self._store.head()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


def test_a_history_that_is_away_delays_the_record_only(
    open_store: Open, caplog: pytest.LogCaptureFixture
) -> None:
    away: Any = Away(open_store(), 2)
    away.close = lambda: None

    async def watch() -> None:
        made = recorder(lambda: away, standing_of(settings()))
        for _ in range(4):
            await made.look()
        await made.close()

    asyncio.run(watch())
    assert len(records(open_store())) == 1
    assert [r.message for r in caplog.records].count("policy_not_recorded") == 1


def test_another_pods_other_policy_is_not_recorded_again_and_again(
    open_store: Open, tmp_path: Path
) -> None:
    """Two versions beside each other in a rollout: each is told once, whatever is touched."""
    (tmp_path / "bad.txt").write_text("casino\n")
    guards = [{"terms_dir": str(tmp_path), "producer": name} for name in ("P", "Q")]
    given = [settings(guard=guard) for guard in guards]
    now = [0]

    async def watch() -> None:
        pods = [
            recorder(open_store, lambda one=one: Standing(one, (), (), (("bad.txt", now[0], 7),)))  # type: ignore[misc]
            for one in given
        ]
        for now[0] in range(3):
            for pod in pods:
                await pod.look()
        for pod in pods:
            await pod.close()

    asyncio.run(watch())
    assert len(records(open_store())) == 2


def test_a_term_lists_text_is_told_by_its_digest(open_store: Open, tmp_path: Path) -> None:
    (tmp_path / "bad.txt").write_text("casino\n")
    given = settings(guard={"terms_dir": str(tmp_path)})
    asyncio.run(once(open_store, Standing(given, (), (), (("bad.txt", 1, 7),))))
    (tmp_path / "bad.txt").write_text("roulette\n")
    asyncio.run(once(open_store, Standing(given, (), (), (("bad.txt", 2, 9),))))
    assert [r.get("changed") for r in records(open_store())] == [None, ["term_lists.bad.txt"]]


def test_an_address_is_told_without_what_could_be_a_credential() -> None:
    given = settings(
        audit={"anchor_url": "https://log.example/append?token=hush"},
        providers=[{"id": "alpha", "base_url": "https://u:hush@api.example/v1#hush"}],
    )
    told = standing.policy(standing_of(given), {})
    assert "hush" not in msgspec.json.encode(told).decode()
    assert told["audit"]["anchor_url"] == "https://log.example/append"
    assert told["providers"]["alpha"]["base_url"] == "https://api.example/v1"


def test_a_policy_too_large_to_print_is_told_by_counts_and_digests() -> None:
    rows = [{"id": f"tenant-{n}", "jurisdictions": ["us"] * 100} for n in range(1000)]
    told = standing.policy(standing_of(settings(tenants=rows)), {})
    found = standing.details(told, None)
    assert len(msgspec.json.encode(found)) < standing.BYTES_MAX + 1000
    assert found["policy"]["tenants"]["count"] == 1000
    assert found["policy"]["guard"] == told["guard"]
    assert found["digest"] == standing.digest(told)
