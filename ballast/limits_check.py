"""Asks the Redis of the settings whether limits can be shared through it; for the doctor."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from urllib.parse import urlsplit

from ballast.doctor import Finding, Level
from ballast.messages import Said
from ballast.problem import worded
from serving.limits.base import Ask, LimitsAway, Rule
from serving.limits.redis_rates import RedisRates
from serving.settings import Settings, SettingsError

TRIAL = Ask("doctor", Rule(600, 60.0, is_window=False), 0.0, 0.0, 1.0, is_known=False)


def examine(settings: Settings) -> Iterator[Finding]:
    """Whether Redis answers and lets us count; what follows when it does not."""
    pods = settings.gateway.pods
    if not settings.redis.url:
        if pods > 1:
            text = Said("outlook.not_shared", pods=pods)
            yield Finding("limits", Level.OK, text)
        return
    where = urlsplit(settings.redis.url)
    name = where.hostname or where.path
    try:
        asyncio.run(_tried(settings))
    except SettingsError as error:
        yield Finding("redis", Level.STOP, worded(error), Said("cli.mend_settings"))
    except LimitsAway as error:
        text = Said("outlook.redis_away", name=name, error=error, pods=pods)
        yield Finding("redis", Level.WARN, text, Said("outlook.look_at_redis"))
    else:
        yield Finding("redis", Level.OK, Said("outlook.redis_good", name=name))


async def _tried(settings: Settings) -> None:
    """Lend one unit and give it back. Raises SettingsError or LimitsAway."""
    store = RedisRates.at(settings.redis, settings.deployment_id or "doctor", "doctor")
    try:
        await store.settle([TRIAL])
        await store.settle([TRIAL._replace(want=0.0, held=1.0, is_known=True)])
    finally:
        await store.close()
