"""A client that is answered with sound; refusals stay JSON."""

from __future__ import annotations

from typing import Protocol

from serving.stages import Client


class Wire(Client, Protocol):
    """A connection that can name what it sends."""

    def start(self, head: bytes, kind: bytes = ...) -> None:
        """Begin an answer; `kind` is its content type's header line."""


class Sounding:
    """Implements `Client` for one call whose good answer is of `kind`."""

    def __init__(self, client: Wire, kind: bytes) -> None:
        self._client = client
        self._kind = b"content-type: %b\r\n" % kind

    @property
    def is_closed(self) -> bool:
        """See `Client`."""
        return self._client.is_closed

    @property
    def is_paused(self) -> bool:
        """See `Client`."""
        return self._client.is_paused

    async def writable(self) -> None:
        """See `Client`."""
        await self._client.writable()

    def start(self, head: bytes) -> None:
        """See `Client`."""
        self._client.start(head, self._kind)

    def write(self, data: bytes) -> None:
        """See `Client`."""
        self._client.write(data)

    def end(self, data: bytes = b"") -> None:
        """See `Client`."""
        self._client.end(data)

    def answer(self, status: int, body: bytes, head: bytes = b"") -> None:
        """See `Client`."""
        if status != 200:
            self._client.answer(status, body, head)
        elif not self._client.is_closed:
            self.start(head)
            self._client.end(body)
