"""Reads the body of an answer, all of it and no more than is allowed."""

from __future__ import annotations

import aiohttp


async def whole(response: aiohttp.ClientResponse, bytes_max: int) -> bytes:
    """The body. Raises ValueError when it is longer than `bytes_max`."""
    parts: list[bytes] = []
    size = 0
    async for chunk in response.content.iter_any():
        parts.append(chunk)
        size += len(chunk)
        if size > bytes_max:
            raise ValueError(f"{response.url} answered more than {bytes_max} bytes")
    return b"".join(parts)
