"""Whether JSON came where it was asked for. Reads an answer once it is whole, keeps none of it."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from serving.codecs.reading import spoken
from serving.unreadable import UNREADABLE

KEPT_BYTES_MAX = 1 << 20
"""Of one answer while it passes; what is larger is `unread`."""
_ASKS = (b'"json_object"', b'"json_schema"')


class Kept:
    """What a client was sent of one answer, up to a size."""

    __slots__ = ("_parts", "_size")

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0

    @classmethod
    def where_asked(cls, fields: Mapping[str, msgspec.Raw]) -> Kept | None:
        """For a call whose `response_format` asks for JSON; None for any other."""
        wanted = fields.get("response_format")
        return cls() if wanted is not None and any(one in bytes(wanted) for one in _ASKS) else None

    def took(self, data: bytes) -> None:
        """A piece came."""
        self._size += len(data)
        if self._size <= KEPT_BYTES_MAX:
            self._parts.append(data)

    def clear(self) -> None:
        """Another target begins anew."""
        self._parts, self._size = [], 0

    def verdict(self) -> str:
        """`valid` if every choice is JSON whole, `invalid`, or `unread` of none or a large one."""
        if not self._parts or self._size > KEPT_BYTES_MAX:
            return "unread"
        choices = spoken(b"".join(self._parts))
        texts = [choice.get("content") for choice in choices if not choice.get("calls")]
        if not texts:
            return "unread"
        return "valid" if all(isinstance(t, str) and _is_json(t) for t in texts) else "invalid"


def _is_json(text: str) -> bool:
    try:
        msgspec.json.decode(text.encode("utf-8", "surrogatepass"))
    except UNREADABLE:
        return False
    return True
