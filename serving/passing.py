"""What stands between the pipeline and a connection: passes on all that it does not change."""

from __future__ import annotations

from typing import Generic, Protocol, TypeVar

from serving.stages import Client

_Client = TypeVar("_Client", bound=Client)


class Wire(Client, Protocol):
    """A connection that can name what it sends."""

    def start(self, head: bytes, kind: bytes = ...) -> None:
        """Begin an answer; `kind` is its content type's header line."""


class Passing(Generic[_Client]):
    """Implements `Client` but for whole answers; whoever changes more than those says so."""

    def __init__(self, client: _Client) -> None:
        self._client = client

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
        self._client.start(head)

    def write(self, data: bytes) -> None:
        """See `Client`."""
        self._client.write(data)

    def end(self, data: bytes = b"") -> None:
        """See `Client`."""
        self._client.end(data)
