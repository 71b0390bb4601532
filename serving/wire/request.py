"""A request as it came in, and where a large body goes."""

from __future__ import annotations

from typing import Protocol


class Sink(Protocol):
    """Takes a body that is not kept in memory, as it comes."""

    bytes_max: int
    wait_s: float
    """From the end of the headers to the end of the body."""

    def feed(self, data: bytes) -> None:
        """Take the next part; pauses the transport while it cannot."""

    def end(self, is_whole: bool) -> None:
        """No more comes. Safe to call twice."""


class Request:
    """One whole request. Header names are lower case."""

    __slots__ = ("body", "headers", "method", "path", "sink")

    def __init__(self, method: bytes, path: bytes, headers: dict[bytes, bytes], body: bytes):
        self.method = method
        self.path = path
        self.headers = headers
        self.body = body
        self.sink: Sink | None = None
        """What took the body, which is empty here then."""
