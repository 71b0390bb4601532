"""Reads every gateway's `/signals` and `/fleet`. A source that fails makes the sample partial."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import aiohttp
import msgspec

from autoscale.records import Samples, Signals, Supply

TIMEOUT_S = 1.0
BODY_BYTES_MAX = 4 << 20
FAULTS = (aiohttp.ClientError, TimeoutError, ValueError, KeyError, TypeError, AttributeError)
"""What a source that is away or answers nonsense raises."""


async def observe(session: aiohttp.ClientSession, gateways: tuple[str, ...], at_ms: int) -> Samples:
    """Ask all gateways at once; never raises for a gateway's fault."""
    answers = await asyncio.gather(*(_ask(session, url) for url in gateways))
    signals = tuple(a[0] for a in answers if not isinstance(a, str))
    fleets = [a[1] for a in answers if not isinstance(a, str)]
    missing = tuple(a for a in answers if isinstance(a, str))
    return Samples(at_ms, signals, missing, merged(fleets))


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
        body = await response.content.read(BODY_BYTES_MAX)
        if not response.content.at_eof():
            raise ValueError(f"{url} answered more than {BODY_BYTES_MAX} bytes")
        return body


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
