"""Whether JSON came where it was asked for, for the comparison of a split's sides. An answer is put
together while it passes, so that its end costs no more than the JSON itself; none of it is kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from serving.codecs.reading import Hearing
from serving.unreadable import UNREADABLE

if TYPE_CHECKING:
    from serving.records import Call

KEPT_BYTES_MAX = 1 << 20
"""Of one answer while it passes; what is larger is `unread`."""
_ASKS = (b'"json_object"', b'"json_schema"')


class Kept:
    """What a client was sent of one answer, up to a size."""

    __slots__ = ("_heard", "_size")

    def __init__(self) -> None:
        self.clear()

    @classmethod
    def where_asked(cls, call: Call) -> Kept | None:
        """For a call of a split whose `response_format` asks for JSON; None for any other: nobody
        reads the verdict, and reading costs some microseconds a token."""
        wanted = call.fields.get("response_format")
        if wanted is None or not call.route.startswith("split:"):
            return None
        return cls() if any(one in bytes(wanted) for one in _ASKS) else None

    def took(self, data: bytes) -> None:
        """A piece came: whole events, or the one body."""
        self._size += len(data)
        if self._size <= KEPT_BYTES_MAX:
            self._heard.took(data)

    def clear(self) -> None:
        """Another target begins anew."""
        self._heard, self._size = Hearing(), 0

    def verdict(self) -> str:
        """`valid` if every choice is JSON whole, `invalid`, or `unread` of none or a large one."""
        if not self._size or self._size > KEPT_BYTES_MAX:
            return "unread"
        texts = [c.get("content") for c in self._heard.choices() if not c.get("calls")]
        if not texts:
            return "unread"
        return "valid" if all(isinstance(t, str) and _is_json(t) for t in texts) else "invalid"


def _is_json(text: str) -> bool:
    try:
        msgspec.json.decode(text.encode("utf-8", "surrogatepass"))
    except UNREADABLE:
        return False
    return True
