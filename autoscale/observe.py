"""Reads every gateway's `/signals` and `/fleet`, and Ray Serve's counts. A source that fails makes
the sample partial."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, NamedTuple

import aiohttp
import msgspec

from autoscale.acts import AskedOf
from autoscale.actuators.serve_rule import coming
from autoscale.bodies import whole
from autoscale.records import Engines, Samples, Signals, Supply
from autoscale.serve_api import ServeApi

TIMEOUT_S = 1.0
BODY_BYTES_MAX = 4 << 20
FAULTS = (aiohttp.ClientError, TimeoutError, ValueError, KeyError, TypeError, AttributeError)
"""What a source that is away or answers nonsense raises."""


class Sources(NamedTuple):
    """Whom to ask."""

    gateways: tuple[str, ...]
    serve: ServeApi | None = None
    missing: tuple[str, ...] = ()
    """Gateways that should be there and are not even known, with the reason."""


async def observe(
    session: aiohttp.ClientSession, sources: Sources, at_ms: int, asked: AskedOf
) -> Samples:
    """Ask all at once; never raises for a source's fault. `asked` is what Serve was told before:
    what it accepted and does not begin is not counted as coming."""
    asking = asyncio.gather(*(_ask(session, url) for url in sources.gateways))
    serve, answers = await asyncio.gather(_counts(session, sources.serve), asking)
    signals = tuple(a[0] for a in answers if not isinstance(a, str))
    fleets = [a[1] for a in answers if not isinstance(a, str)]
    missing = [*sources.missing, *(a for a in answers if isinstance(a, str))]
    engines = None
    if isinstance(serve, str):
        missing.append(serve)
    else:
        engines = serve
    supply = counted_on(merged(fleets), engines, asked, at_ms)
    return Samples(at_ms, signals, tuple(missing), supply, engines)


async def _counts(
    session: aiohttp.ClientSession, serve: ServeApi | None
) -> dict[str, Engines] | str | None:
    """What Serve says, why it could not be read, or None where there is none."""
    if serve is None:
        return None
    try:
        return await serve.read(session)
    except (OSError, *FAULTS) as error:
        return f"{serve.name}: {type(error).__name__}: {error}"[:300]


async def _ask(
    session: aiohttp.ClientSession, url: str
) -> tuple[Signals, Mapping[str, Supply]] | str:
    """What one gateway says, or why it could not be read."""
    try:
        signals = msgspec.json.decode(await _get(session, f"{url}/signals"), type=Signals)
        fleet = supply_of(msgspec.json.decode(await _get(session, f"{url}/fleet")))
    except FAULTS as error:
        return f"{url}: {type(error).__name__}: {error}"[:300]
    return signals, fleet


async def _get(session: aiohttp.ClientSession, url: str) -> bytes:
    async with session.get(url, timeout=aiohttp.ClientTimeout(total=TIMEOUT_S)) as response:
        response.raise_for_status()
        return await whole(response, BODY_BYTES_MAX)


def supply_of(fleet: Any) -> dict[str, Supply]:
    """Replicas by model from a `/fleet` answer. A broken replica (open breaker) is not ready."""
    return {
        name: Supply(
            ready=sum(1 for r in model["replicas"] if r.get("breaker") != "open"),
            is_coming=model.get("expected_in_s") is not None,
        )
        for name, model in fleet["models"].items()
    }


def merged(fleets: list[Mapping[str, Supply]]) -> dict[str, Supply] | None:
    """One supply from several views: the most anybody sees. None when nobody could say."""
    if not fleets:
        return None
    found: dict[str, Supply] = {}
    for name in sorted({name for fleet in fleets for name in fleet}):
        seen = [fleet[name] for fleet in fleets if name in fleet]
        found[name] = Supply(max(s.ready for s in seen), any(s.is_coming for s in seen))
    return found


def by_pool(
    samples: Samples, running: Mapping[str, Mapping[str, int]], hosts: Mapping[str, str]
) -> Samples:
    """The samples with ready replicas by pool, where Serve says on which host each runs, the hosts'
    pools are known, and the gateways see as many."""
    if samples.supply is None:
        return samples
    supply = dict(samples.supply)
    for model, counts in running.items():
        here = supply.get(model)
        pools: dict[str, int] = {}
        for host, count in counts.items():
            pool = hosts.get(host, "")
            pools[pool] = pools.get(pool, 0) + count
        if here is not None and "" not in pools and sum(pools.values()) == here.ready:
            supply[model] = msgspec.structs.replace(here, pools=pools)
    return msgspec.structs.replace(samples, supply=supply)


def counted_on(
    supply: dict[str, Supply] | None,
    engines: Mapping[str, Engines] | None,
    asked: AskedOf,
    at_ms: int,
) -> dict[str, Supply] | None:
    """The supply with what Serve knows better: whether more is on its way. A gateway without any
    engine always expects one; Serve knows whether one was asked for."""
    if supply is None or engines is None:
        return supply
    found = dict(supply)
    for model in engines.keys() & supply.keys():
        is_coming = coming(engines[model], asked.get(model), at_ms) > 0
        found[model] = msgspec.structs.replace(supply[model], is_coming=is_coming)
    return found
