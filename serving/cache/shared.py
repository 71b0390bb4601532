"""The cache of all processes, in Redis or Valkey. A call waits for it at most `WAIT_S`; away, it is
left alone for a while, and everything is as it is without one."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from serving.limits.settings import RedisSettings

WAIT_S = 0.05
"""Two orders above what a network takes, and nothing beside computing an answer."""
AWAY_S = 5.0
WRITES_MAX = 64
"""Under way at once; more are not kept."""
_log = logging.getLogger(__name__)


class Shared:
    """Values by key; what goes wrong is a miss."""

    def __init__(self, settings: RedisSettings, namespace: str, clock: Callable[[], float]) -> None:
        tls: dict[str, Any] = {"ssl_ca_certs": str(settings.ca_file)} if settings.ca_file else {}
        self._client = redis.asyncio.Redis.from_url(
            settings.url, password=settings.password(), retry=Retry(NoBackoff(), 0),
            socket_timeout=WAIT_S, socket_connect_timeout=WAIT_S, max_connections=8, **tls,
        )  # fmt: skip
        self._prefix = f"ballast:{namespace}:cache:".encode()
        self._clock = clock
        self._not_before_s = 0.0
        self._writes: set[asyncio.Task[None]] = set()

    async def get(self, marks: Sequence[bytes]) -> list[bytes | None]:
        """The values; None for what is not there, or when nobody answers."""
        nothing: list[bytes | None] = [None] * len(marks)
        if self._clock() < self._not_before_s:
            return nothing
        try:
            async with asyncio.timeout(WAIT_S):
                found = await self._client.mget([self._prefix + mark for mark in marks])
        except (RedisError, OSError, TimeoutError) as error:
            self._away(error)
            return nothing
        return [one if isinstance(one, bytes) else None for one in found]

    def put(self, values: Sequence[tuple[bytes, bytes]], ttl_s: float) -> None:
        """Keep them, in a task of its own: no call waits for that."""
        if self._clock() < self._not_before_s or len(self._writes) >= WRITES_MAX:
            return
        task = asyncio.create_task(self._put(values, round(ttl_s * 1e3)), name="cache-write")
        self._writes.add(task)
        task.add_done_callback(self._writes.discard)

    async def _put(self, values: Sequence[tuple[bytes, bytes]], ttl_ms: int) -> None:
        try:
            async with asyncio.timeout(1.0):
                pipe = self._client.pipeline(transaction=False)
                for mark, value in values:
                    pipe.set(self._prefix + mark, value, px=ttl_ms)
                await pipe.execute()
        except (RedisError, OSError, TimeoutError) as error:
            self._away(error)

    def _away(self, error: Exception) -> None:
        self._not_before_s = self._clock() + AWAY_S
        _log.warning("cache_away", extra={"reason": type(error).__name__})

    async def close(self) -> None:
        """Hang up."""
        for task in list(self._writes):
            task.cancel()
        await asyncio.gather(*self._writes, return_exceptions=True)
        await self._client.aclose()
