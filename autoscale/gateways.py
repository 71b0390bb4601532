"""Where the gateways' ops listeners are: on one machine one port each, elsewhere every address
behind a name (a headless Service lists its pods)."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from ipaddress import ip_address
from typing import TypeAlias

RESOLVE_S = 1.0
Resolve: TypeAlias = Callable[[str, int], Awaitable[list[str]]]
"""A name's addresses. Raises OSError."""


async def addresses(host: str, port: int) -> list[str]:
    """As the system resolves it."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return sorted({str(row[4][0]) for row in found})


class Gateways:
    """`pods` of them at `host`."""

    def __init__(self, host: str, port: int, pods: int, resolve: Resolve = addresses) -> None:
        self._host = host
        self._port = port
        self._pods = pods
        self._resolve = resolve

    async def urls(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """(addresses, what is missing). Raises nothing."""
        host, port = self._host, self._port
        if host == "localhost" or _is_address(host):
            return tuple(f"http://{_spelled(host)}:{port + i}" for i in range(self._pods)), ()
        try:
            async with asyncio.timeout(RESOLVE_S):
                found = await self._resolve(host, port)
        except (OSError, TimeoutError) as error:
            return (), (f"{host}: {type(error).__name__}: {error}",)
        found = _of_one_kind(found, self._pods)
        urls = tuple(f"http://{_spelled(one)}:{port}" for one in found)
        lacking = f"{host}: {len(urls)} of {self._pods} gateways are known"
        return urls, (lacking,) if len(urls) < self._pods else ()


def _of_one_kind(found: list[str], pods: int) -> list[str]:
    """Where a pod has an address of either kind, those of one: asked twice, a gateway would be
    taken for two, one of which gave no news of its own, and nothing be given back for ever."""
    short = [one for one in found if ":" not in one]
    is_twice = len(short) >= max(1, pods) and len(found) == 2 * len(short)
    return short if is_twice else found


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _spelled(host: str) -> str:
    return f"[{host}]" if ":" in host else host
