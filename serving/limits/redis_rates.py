"""Rate buckets in Redis or Valkey: one script per ask, whose clock is the server's own.

A bucket is a hash: its level, when that was, and what each process holds of it. It refills to the
limit less what is held, so that slices are within it. What a process holds that was silent for
`DEAD_S` is lost; the bucket refills it.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from typing import Any, Protocol

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError

from serving.limits.base import Ask, Grant, LimitsAway
from serving.limits.settings import RedisSettings

DEAD_S = 5
ASKS_MAX = 500
"""In one round trip: some milliseconds of the server's time."""
SCRIPT = """
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local limit, length = tonumber(ARGV[2]), tonumber(ARGV[3])
local spent, want, known = tonumber(ARGV[4]), tonumber(ARGV[5]), ARGV[6] == '1'
local level, at, own, others = nil, now, 0, 0
local state = redis.call('HGETALL', KEYS[1])
for i = 1, #state, 2 do
  local name, value = state[i], state[i + 1]
  if name == 'level' then level = tonumber(value)
  elseif name == 'at' then at = tonumber(value)
  else
    local held, seen = string.match(value, '^(%S+) (%S+)$')
    if name == ARGV[1] then own = tonumber(held)
    elseif now - tonumber(seen) > tonumber(ARGV[7]) then redis.call('HDEL', KEYS[1], name)
    else others = others + tonumber(held) end
  end
end
if level == nil then level = known and 0 or limit end
level = level + math.max(0, now - at) * limit / length
local free = math.min(level, limit - others - own) + own - spent
local held = math.max(0, math.min(want, free))
level = math.min(free - held, limit - others - held)
redis.call('HSET', KEYS[1], 'level', string.format('%.6f', level), 'at', string.format('%.0f', now))
if held > 0 then
  redis.call('HSET', KEYS[1], ARGV[1], string.format('%.6f %.0f', held, now))
else
  redis.call('HDEL', KEYS[1], ARGV[1])
end
local until_full = math.ceil((limit - level) / limit * length)
redis.call('PEXPIRE', KEYS[1], string.format('%.0f', until_full + 60000))
return {string.format('%.6f', held), string.format('%.6f', level)}
"""
"""Lua, run as one step. KEYS: the bucket. ARGV: process, limit, length in ms, spent, wanted,
whether the bucket is known to exist, ms after which a silent process counts as dead."""
_DIGEST = hashlib.sha1(SCRIPT.encode(), usedforsecurity=False).hexdigest()


class _Pipeline(Protocol):
    def evalsha(self, sha: str, numkeys: int, *arguments: Any) -> Any: ...

    async def execute(self, raise_on_error: bool = True) -> list[Any]: ...


class RedisRates:
    """Implements `base.CounterStore` for rates. Connects when first asked, and again when asked
    after a failure; never waits longer than `timeout_s`."""

    def __init__(self, client: redis.asyncio.Redis, namespace: str, process: str,
                 timeout_s: float) -> None:  # fmt: skip
        self._client = client
        self._prefix = f"ballast:{namespace}:rate:"
        self._process = process
        self._timeout_s = timeout_s

    @classmethod
    def at(cls, settings: RedisSettings, namespace: str, process: str) -> RedisRates:
        """The store that the settings name. `process` is no other's name, not even after a
        restart. Raises SettingsError for a password that cannot be read."""
        return cls(connect(settings), namespace, process, settings.timeout_s)

    async def settle(self, asks: Sequence[Ask]) -> list[Grant]:
        """See `base.CounterStore`."""
        try:
            async with asyncio.timeout(self._timeout_s):
                found: list[Grant] = []
                for start in range(0, len(asks), ASKS_MAX):
                    found += await self._answers(asks[start : start + ASKS_MAX])
                return found
        except (RedisError, OSError, TimeoutError) as error:
            raise LimitsAway(f"Redis: {_said(error)}") from error

    async def close(self) -> None:
        """See `base.CounterStore`."""
        await self._client.aclose()

    async def _answers(self, asks: Sequence[Ask]) -> list[Grant]:
        found = await self._sent(asks)
        if any(isinstance(one, NoScriptError) for one in found):
            # A server that was started anew ran none of them.
            await self._client.script_load(SCRIPT)
            found = await self._sent(asks)
        for one in found:
            if isinstance(one, Exception):
                raise one
        return [Grant(float(held), float(level)) for held, level in found]

    async def _sent(self, asks: Sequence[Ask]) -> list[Any]:
        pipeline: _Pipeline = self._client.pipeline(transaction=False)
        for ask in asks:
            pipeline.evalsha(
                _DIGEST, 1, self._prefix + ask.key, self._process, ask.rule.limit,
                round(ask.rule.length_s * 1000), repr(float(ask.spent)), repr(float(ask.want)),
                int(ask.is_known), DEAD_S * 1000,
            )  # fmt: skip
        return await pipeline.execute(raise_on_error=False)


def connect(settings: RedisSettings) -> redis.asyncio.Redis:
    """A client that connects when first used and tries nothing twice: the next renewal does."""
    more: dict[str, Any] = {"ssl_ca_certs": str(settings.ca_file)} if settings.ca_file else {}
    return redis.asyncio.Redis.from_url(
        settings.url, password=settings.password(), retry=Retry(NoBackoff(), 0),
        socket_timeout=settings.timeout_s, socket_connect_timeout=settings.timeout_s,
        decode_responses=True, max_connections=2,
        **more,
    )  # fmt: skip


def _said(error: Exception) -> str:
    """Why, in few words and without a password."""
    text = str(error) or ("no answer in time" if isinstance(error, TimeoutError) else "")
    return " ".join((text or type(error).__name__).split())[:200]
