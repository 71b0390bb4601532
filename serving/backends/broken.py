"""What a connection to a third party that broke says: whether it may have worked for us."""

from __future__ import annotations

import aiohttp

from serving.errors import Kind, UpstreamError


def transport_fault(error: BaseException) -> UpstreamError:
    """The error of a call whose connection failed."""
    connect = isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError)
    if isinstance(error, TimeoutError):
        return UpstreamError(Kind.TIMEOUT, "the provider did not answer in time", sent=not connect)
    kind = Kind.CONNECT if connect else Kind.CUT
    message = f"the connection to the provider failed ({type(error).__name__})"
    return UpstreamError(kind, message, sent=not connect)
