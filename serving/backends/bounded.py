"""Reading a third party's body without letting it decide how much memory that takes."""

from __future__ import annotations

import aiohttp

from serving.errors import Kind, UpstreamError


async def bounded(response: aiohttp.ClientResponse, limit: int) -> bytes:
    """The body up to `limit` bytes; a longer one is an error, not a memory leak."""
    parts: list[bytes] = []
    size = 0
    async for data in response.content.iter_any():
        size += len(data)
        if size > limit:
            raise UpstreamError(Kind.PROTOCOL, f"the provider's answer exceeds {limit} bytes")
        parts.append(data)
    return b"".join(parts)
