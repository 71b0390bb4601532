"""Asks the Redis of the settings whether limits can be shared through it; for the doctor."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from urllib.parse import urlsplit

from ballast.doctor import Finding, Level
from serving.limits.base import Ask, LimitsAway, Rule
from serving.limits.redis_rates import RedisRates
from serving.settings import Settings, SettingsError

TRIAL = Ask("doctor", Rule(600, 60.0, is_window=False), 0.0, 0.0, 1.0, is_known=False)


def examine(settings: Settings) -> Iterator[Finding]:
    """Whether Redis answers and lets us count; what follows when it does not."""
    pods = settings.gateway.pods
    if not settings.redis.url:
        if pods > 1:
            text = f"not shared: each of {pods} gateways counts 1/{pods} of every limit per minute"
            yield Finding("limits", Level.OK, text)
        return
    where = urlsplit(settings.redis.url)
    name = where.hostname or where.path
    try:
        asyncio.run(_tried(settings))
    except SettingsError as error:
        yield Finding("redis", Level.STOP, str(error), "mend the settings it names")
    except LimitsAway as error:
        text = f"{name}: {error}; meanwhile each gateway counts 1/{pods} of every limit per minute"
        remedy = "look at the server, redis.url and the password in redis.password_file or _env"
        yield Finding("redis", Level.WARN, text, remedy)
    else:
        yield Finding("redis", Level.OK, f"{name}: limits per minute are shared")


async def _tried(settings: Settings) -> None:
    """Lend one unit and give it back. Raises SettingsError or LimitsAway."""
    store = RedisRates.at(settings.redis, settings.deployment_id or "doctor", "doctor")
    try:
        await store.settle([TRIAL])
        await store.settle([TRIAL._replace(want=0.0, held=1.0, is_known=True)])
    finally:
        await store.close()
