"""Many calls at the shared cache at once: turns, bounds, and what is no reason to leave it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from redis.exceptions import ConnectionError as GoneError

from serving.cache import shared
from serving.cache.shared import Shared, client_of
from serving.limits.settings import RedisSettings


class Slow:
    """Answers when told to; counts how many wait for it."""

    def __init__(self) -> None:
        self.may_answer = asyncio.Event()
        self.is_gone = False
        self.reading = self.reading_most = self.written = 0
        self.batch: list[bytes] = []

    async def mget(self, keys: list[bytes]) -> list[bytes]:
        if self.is_gone:
            raise GoneError("refused")
        self.reading += 1
        self.reading_most = max(self.reading_most, self.reading)
        await self.may_answer.wait()
        self.reading -= 1
        return [b"v"] * len(keys)

    def pipeline(self, transaction: bool) -> Slow:
        return self

    def set(self, key: bytes, value: bytes, px: int) -> None:
        self.batch.append(value)

    async def execute(self) -> None:
        await self.may_answer.wait()
        self.written += len(self.batch)
        self.batch.clear()

    async def aclose(self) -> None:
        pass


def run(check: Any, wait_s: float = 60.0) -> None:
    async def main() -> None:
        slow = Slow()
        one = Shared(slow, "here", lambda: 0.0, wait_s)  # type: ignore[arg-type]
        await check(one, slow)
        await one.close()

    asyncio.run(main())


def test_reads_beyond_the_turns_wait_and_are_answered() -> None:
    async def check(one: Shared, slow: Slow) -> None:
        asked = asyncio.gather(*(one.get([b"a"]) for _ in range(40)))
        await asyncio.sleep(0)
        slow.may_answer.set()
        assert await asked == [[b"v"]] * 40
        assert slow.reading_most == shared.READS_AT_ONCE

    run(check)


def test_a_read_that_gets_no_turn_goes_without_and_shuts_nobody_out() -> None:
    async def check(one: Shared, slow: Slow) -> None:
        one._wait_s = 60.0
        busy = [asyncio.create_task(one.get([b"a"])) for _ in range(shared.READS_AT_ONCE)]
        await asyncio.sleep(0)
        one._wait_s = 0.002
        assert await one.get([b"b", b"c"]) == [None, None]
        one._wait_s = 60.0
        slow.may_answer.set()
        assert await asyncio.gather(*busy) == [[b"v"]] * shared.READS_AT_ONCE
        assert await one.get([b"b"]) == [b"v"]

    run(check)


@pytest.mark.parametrize("is_gone", [True, False], ids=["gone", "silent"])
def test_what_does_not_answer_a_read_is_left_alone(is_gone: bool) -> None:
    async def check(one: Shared, slow: Slow) -> None:
        slow.is_gone = is_gone
        assert await one.get([b"a"]) == [None]
        slow.is_gone = False
        slow.may_answer.set()
        assert await one.get([b"a"]) == [None]
        one.put([(b"a", b"v")], 1.0)
        assert not one._writes

    run(check, wait_s=0.002)


def test_writes_that_wait_are_bounded_in_number_and_bytes() -> None:
    async def check(one: Shared, slow: Slow) -> None:
        third = b"x" * (shared.WRITE_BYTES_MAX // 3)
        for _ in range(9):
            one.put([(b"a", third), (b"b", b"small")], 1.0)
        assert one._write_bytes <= shared.WRITE_BYTES_MAX
        one.put([(b"c", third)], 1.0)
        assert len(one._writes) == 9
        for _ in range(2 * shared.WRITES_MAX):
            one.put([(b"d", b"small")], 1.0)
        assert len(one._writes) == shared.WRITES_MAX
        slow.may_answer.set()
        await asyncio.gather(*one._writes)
        await asyncio.sleep(0)
        assert (one._write_bytes, slow.written) == (0, shared.WRITES_MAX + 2)
        one.put([(b"e", third)], 1.0)
        assert len(one._writes) == 1

    run(check)


@pytest.mark.server
def test_a_burst_beyond_its_connections_does_not_shut_redis_for_everybody(redis_server) -> None:
    async def main() -> None:
        client = client_of(RedisSettings(url=redis_server.url))
        one = Shared(client, "burst", lambda: 0.0, wait_s=20.0)
        one.put([(b"a", b"v")], 60.0)
        await asyncio.gather(*one._writes)
        assert await asyncio.gather(*(one.get([b"a"]) for _ in range(60))) == [[b"v"]] * 60
        assert await one.get([b"a"]) == [b"v"]
        await one.close()

    asyncio.run(main())
