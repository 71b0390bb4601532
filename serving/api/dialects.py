"""Surfaces of other dialects, translated at the edge: what goes in becomes a chat, and what the
client gets is written from the chat's answer. Behind here nobody knows of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol

from serving.codecs import messages, responses
from serving.codecs.messages_out import Messages
from serving.codecs.responses_out import Responses
from serving.logs import utc_ms
from serving.passing import Passing
from serving.stages import Client


class Writer(Protocol):
    """Writes one answer in its dialect."""

    def feed(self, data: bytes) -> bytes:
        """Events in place of whole events of a chat's stream."""

    def end(self) -> bytes:
        """What ends the stream."""

    def plain(self, status: int, data: bytes) -> bytes:
        """A plain answer or an error."""


class Dialect(NamedTuple):
    """A surface that is a chat in other words."""

    to_chat: Callable[[bytes], bytes]
    """Raises CallerError."""
    writer: Callable[[bytes], Writer]
    """For the answer to a request's body, which `to_chat` has taken."""
    refusal: Callable[[int, bytes], bytes]
    """An error in place of one in OpenAI's form."""


def _as_it_is(_: int, data: bytes) -> bytes:
    return data


DIALECTS: Mapping[bytes, Dialect] = {
    messages.PATH: Dialect(
        messages.to_chat, lambda _: Messages(), lambda status, data: Messages().plain(status, data)
    ),
    responses.PATH: Dialect(
        responses.to_chat, lambda asked: Responses(asked, utc_ms() // 1000), _as_it_is
    ),
}


class Translated(Passing[Client]):
    """A client that is told everything in its own dialect."""

    def __init__(self, client: Client, writer: Writer) -> None:
        super().__init__(client)
        self._writer = writer

    def write(self, data: bytes) -> None:
        """See `Client`. What is held back until more is known leaves with that."""
        out = self._writer.feed(data)
        if out:
            self._client.write(out)

    def end(self, data: bytes = b"") -> None:
        """See `Client`."""
        self._client.end(self._writer.feed(data) + self._writer.end())

    def answer(self, status: int, body: bytes, head: bytes = b"") -> None:
        """See `Client`."""
        self._client.answer(status, self._writer.plain(status, body), head)
