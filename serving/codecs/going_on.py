"""The engine's end of a rescue: what it is sent, and what leaves in place of what it writes. Pure;
the real engine and the simulated one share it.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from serving.codecs import marks
from serving.codecs.marks import Said, Unsaid

PATHS = frozenset({"/v1/chat/completions", "/v1/completions"})
_NOTHING = Said()


class Begun(msgspec.Struct, frozen=True):
    """What is sent to `/internal/resume`."""

    path: str
    """The route that is gone on with."""
    body: msgspec.Raw
    """Its original body."""
    ids: tuple[int, ...]
    said: Said
    """Characters the client has."""
    finish: str = ""
    """Why the last id is the last one."""
    is_told: bool = False
    """The client has the finish as well."""


class BegunError(ValueError):
    """What was sent cannot be gone on with."""


def begun(body: bytes) -> Begun:
    """Read a body of `/internal/resume`. Raises BegunError."""
    try:
        found = msgspec.json.decode(body, type=Begun)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BegunError(f"the body is not what a resume takes: {error}") from None
    if found.path not in PATHS:
        raise BegunError(f"{found.path} cannot be gone on with")
    if not found.ids or min(found.ids) < 0 or min(found.said) < 0:
        raise BegunError("ids and counts must be given and not negative")
    if found.finish not in ("", *marks.FINISHES):
        raise BegunError(f"no answer ends by itself with {found.finish!r}")
    return found


class Answer:
    """One answer on its way to a gateway that wants its ids."""

    __slots__ = ("_finish", "_ids", "_is_asked", "_said", "_unsaid", "begun")

    def __init__(self, begun: Begun | None = None, *, is_asked: bool = True) -> None:
        self.begun = begun
        self._ids: list[int] = []
        self._finish = ""
        self._is_asked = is_asked
        self._said = _NOTHING
        self._unsaid = None
        if begun is not None:
            self._unsaid = Unsaid(begun.said, is_told=begun.is_told)

    def made(self, ids: Sequence[int], finish: str | None) -> None:
        """The engine made these tokens; their text comes after this."""
        self._ids += ids
        self._finish = finish or ""

    def out(self, events: bytes) -> bytes:
        """What leaves in place of whole events."""
        ahead = b""
        if self._ids and self._is_asked:
            before = self._said
            if self.begun is not None:
                before = Said(*map(max, before, self.begun.said))
            ahead = marks.mark(self._ids, before, self._finish)
            self._ids = []
        self._said = self._said.plus(marks.said(events))
        if self._unsaid is not None:
            events = self._unsaid.take(events)
        return ahead + events
