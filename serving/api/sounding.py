"""A client that is answered with sound; refusals stay JSON."""

from __future__ import annotations

from serving.passing import Passing, Wire


class Sounding(Passing[Wire]):
    """Implements `Client` for one call whose good answer is of `kind`."""

    def __init__(self, client: Wire, kind: bytes) -> None:
        super().__init__(client)
        self._kind = b"content-type: %b\r\n" % kind

    def start(self, head: bytes) -> None:
        """See `Client`."""
        self._client.start(head, self._kind)

    def answer(self, status: int, body: bytes, head: bytes = b"") -> None:
        """See `Client`."""
        if status != 200:
            self._client.answer(status, body, head)
        elif not self._client.is_closed:
            self.start(head)
            self._client.end(body)
