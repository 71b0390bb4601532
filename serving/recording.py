"""A client that also keeps what it was sent, up to a size."""

from __future__ import annotations

from serving.idempotency import Answer
from serving.passing import Passing
from serving.stages import Client


class Recorder(Passing[Client]):
    """Passes everything on at once; what is kept is the answer as the client has it."""

    def __init__(self, client: Client, bytes_max: int) -> None:
        super().__init__(client)
        self._bytes_max = bytes_max
        self._head = b""
        self._parts: list[bytes] = []
        self._size = 0
        self.answered: Answer | None = None
        """The whole answer; None while it is not whole, or when it was larger than that."""

    @property
    def is_cut(self) -> bool:
        """Whether more was sent than is kept."""
        return self._size > self._bytes_max

    @property
    def sent(self) -> bytes:
        """What is kept of the body, also of an answer that broke off: its beginning."""
        if self.answered is not None:
            return self.answered.body[: self._bytes_max]
        return b"".join(self._parts)

    def start(self, head: bytes) -> None:
        """See `Client`."""
        self._head = head
        self._client.start(head)

    def write(self, data: bytes) -> None:
        """See `Client`."""
        self._keep(data)
        self._client.write(data)

    def _keep(self, data: bytes) -> None:
        self._size += len(data)
        if self._size <= self._bytes_max:
            self._parts.append(data)

    def end(self, data: bytes = b"") -> None:
        """See `Client`."""
        self._keep(data)
        if not self.is_cut:
            self.answered = Answer(200, self._head, b"".join(self._parts), is_stream=True)
        self._client.end(data)

    def answer(self, status: int, body: bytes, head: bytes = b"") -> None:
        """See `Client`."""
        self._size = len(body)
        self.answered = Answer(status, head, body, is_stream=False)
        self._client.answer(status, body, head)
