"""The desk serves tenants in turns; who lists many batches has their lines counted once."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

from serving.batch.desk import OF_TENANT_MAX, Desk
from serving.batch.tallies import Tallies
from serving.batch.values import Counts


class Counted:
    """A store that counts how often it is asked."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []

    def counts_of(self, batch_ids: Any) -> dict[str, Counts]:
        self.asked.append(list(batch_ids))
        return {batch_id: Counts(done=len(self.asked)) for batch_id in batch_ids if batch_id != "z"}

    def close(self) -> None:
        """Nothing to release."""


def test_a_tenant_with_many_questions_stands_in_its_own_way_only() -> None:
    async def check() -> None:
        desk, told, go = Desk(Counted), [], threading.Event()  # type: ignore[arg-type]
        many = [
            asyncio.ensure_future(desk.ask(lambda _: (go.wait(), told.append("acme")), "acme"))
            for _ in range(20)
        ]
        await asyncio.sleep(0)
        few = asyncio.ensure_future(desk.ask(lambda _: told.append("beta"), "beta"))
        own = asyncio.ensure_future(desk.ask(lambda _: told.append("own")))
        await asyncio.sleep(0)
        go.set()
        await asyncio.gather(*many, few, own)
        assert told.index("beta") == OF_TENANT_MAX
        assert told.index("own") == OF_TENANT_MAX + 1
        assert len(told) == 22
        assert not desk._gates
        await desk.close()

    asyncio.run(check())


def test_a_listing_counts_each_open_batch_once_in_a_while() -> None:
    async def check() -> None:
        store = Counted()
        desk = Desk(lambda: store)  # type: ignore[arg-type,return-value]
        tallies = Tallies(desk)
        assert await tallies.of("acme", ["a", "z"]) == {"a": Counts(done=1), "z": Counts()}
        assert await tallies.of("acme", ["a", "b"]) == {"a": Counts(done=1), "b": Counts(done=2)}
        assert await tallies.of("acme", []) == {}
        assert store.asked == [["a", "z"], ["b"]]
        await desk.close()

    asyncio.run(check())
