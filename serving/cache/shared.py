"""The cache of all processes, in Redis or Valkey. A call waits for it at most `WAIT_S`; away, it is
left alone for a while, and everything is as it is without one.

Connections are few: reads and writes each have turns at their own. A call that gets no turn in time
goes without, which says nothing against Redis."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from serving.limits.settings import RedisSettings

WAIT_S = 0.05
"""Two orders above what a network takes, and nothing beside computing an answer. Half of it may
pass waiting for a turn, so that Redis always has the other half."""
AWAY_S = 5.0
READS_AT_ONCE, WRITES_AT_ONCE = 6, 2
WRITES_MAX, WRITE_BYTES_MAX, WRITE_S = 64, 32 << 20, 1.0
"""Writes under way or waiting, and their bytes; more are not kept. Each takes a second at most: all
of the bytes in that is a quarter of a gigabit a second."""
_log = logging.getLogger(__name__)


class Shared:
    """Values by key; what goes wrong is a miss."""

    def __init__(
        self, client: redis.asyncio.Redis, namespace: str, clock: Callable[[], float],
        wait_s: float = WAIT_S,
    ) -> None:  # fmt: skip
        self._client = client
        self._prefix = f"ballast:{namespace}:cache:".encode()
        self._clock = clock
        self._wait_s = wait_s
        self._not_before_s = 0.0
        self._reads = asyncio.Semaphore(READS_AT_ONCE)
        self._write_turns = asyncio.Semaphore(WRITES_AT_ONCE)
        self._writes: set[asyncio.Task[None]] = set()
        self._write_bytes = 0

    async def get(self, marks: Sequence[bytes]) -> list[bytes | None]:
        """The values; None for what is not there, or when nobody answers."""
        nothing: list[bytes | None] = [None] * len(marks)
        if self._is_away():
            return nothing
        until_s = asyncio.get_running_loop().time() + self._wait_s
        try:
            async with asyncio.timeout_at(until_s - self._wait_s / 2):
                await self._reads.acquire()
        except TimeoutError:
            return nothing  # others are reading: that says nothing of Redis
        try:
            async with asyncio.timeout_at(until_s):
                found = await self._client.mget([self._prefix + mark for mark in marks])
        except (RedisError, OSError, TimeoutError) as error:
            self._away(error)
            return nothing
        finally:
            self._reads.release()
        return [one if isinstance(one, bytes) else None for one in found]

    def put(self, values: Sequence[tuple[bytes, bytes]], ttl_s: float) -> None:
        """Keep them, in a task of its own: no call waits for that."""
        if self._is_away() or len(self._writes) >= WRITES_MAX:
            return
        room = WRITE_BYTES_MAX - self._write_bytes
        size, fitting = 0, []
        for mark, value in values:
            if size + len(value) <= room:
                size += len(value)
                fitting.append((mark, value))
        if not fitting:
            return
        self._write_bytes += size
        task = asyncio.create_task(self._put(fitting, round(ttl_s * 1e3)), name="cache-write")
        self._writes.add(task)
        task.add_done_callback(partial(self._wrote, size))

    async def _put(self, values: Sequence[tuple[bytes, bytes]], ttl_ms: int) -> None:
        async with self._write_turns:
            if self._is_away():
                return
            try:
                async with asyncio.timeout(WRITE_S):
                    pipe = self._client.pipeline(transaction=False)
                    for mark, value in values:
                        pipe.set(self._prefix + mark, value, px=ttl_ms)
                    await pipe.execute()
            except (RedisError, OSError, TimeoutError) as error:
                self._away(error)

    def _wrote(self, size: int, task: asyncio.Task[None]) -> None:
        self._writes.discard(task)
        self._write_bytes -= size

    def _is_away(self) -> bool:
        return self._clock() < self._not_before_s

    def _away(self, error: Exception) -> None:
        self._not_before_s = self._clock() + AWAY_S
        _log.warning("cache_away", extra={"reason": type(error).__name__})

    async def close(self) -> None:
        """Hang up."""
        for task in list(self._writes):
            task.cancel()
        await asyncio.gather(*self._writes, return_exceptions=True)
        await self._client.aclose()


def client_of(settings: RedisSettings) -> redis.asyncio.Redis:
    """With a connection for each turn."""
    tls: dict[str, Any] = {"ssl_ca_certs": str(settings.ca_file)} if settings.ca_file else {}
    return redis.asyncio.Redis.from_url(
        settings.url, password=settings.password(), retry=Retry(NoBackoff(), 0),
        socket_timeout=WRITE_S, socket_connect_timeout=WAIT_S,
        max_connections=READS_AT_ONCE + WRITES_AT_ONCE, **tls,
    )  # fmt: skip
