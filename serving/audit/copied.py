"""Fetches what the anchor's address gives back: bounded in time and size, no further than there.

Blocking: callers off the event loop's thread only.
"""

from __future__ import annotations

import asyncio
from typing import IO, Final

import aiohttp

COPY_S_MAX: Final = 120.0
COPY_BYTES_MAX: Final = 1 << 30
"""More than a checkpoint a minute in two years."""


class CopyAway(Exception):  # noqa: N818 - a state
    """The address gave no copy; says why, and nothing of what it answered."""


def fetch(url: str, into: IO[bytes]) -> None:
    """Write the copy, whole, into a file. No redirect is followed: only the operator's own address
    is asked. Raises CopyAway and OSError."""
    try:
        asyncio.run(_fetch(url, into))
    except (aiohttp.ClientError, TimeoutError) as error:
        raise CopyAway(type(error).__name__) from None


async def _fetch(url: str, into: IO[bytes]) -> None:
    timeout = aiohttp.ClientTimeout(total=COPY_S_MAX)
    async with (
        aiohttp.ClientSession(timeout=timeout) as session,
        session.get(url, allow_redirects=False) as reply,
    ):
        if reply.status != 200:
            raise CopyAway(f"it answers with status {reply.status}")
        size = 0
        async for piece in reply.content.iter_chunked(1 << 16):
            size += len(piece)
            if size > COPY_BYTES_MAX:
                raise CopyAway(f"it gives more than {COPY_BYTES_MAX >> 20} MiB")
            into.write(piece)
