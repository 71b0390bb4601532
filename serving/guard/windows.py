"""When a stream's text is put to the external service, and how much of it. Pure.

Windows grow: the first is short, since with `closed` the reader waits for it; later ones are long,
since each is a question. Each question repeats the end of what was judged before, so that no
sentence is judged in halves only.
"""

from __future__ import annotations

FIRST_CHARS, CHARS_MAX, CONTEXT_CHARS = 40, 640, 200


class Windows:
    """One answer's text on its way to the judge. Mutable; one per answer."""

    __slots__ = ("_before", "_pending", "_size", "_wanted")

    def __init__(self) -> None:
        self._pending: list[str] = []
        self._size = 0
        self._before = ""
        self._wanted = FIRST_CHARS

    @property
    def pending(self) -> int:
        """Characters that nobody has been asked about."""
        return self._size

    def take(self, text: str) -> None:
        """More of the answer."""
        if text:
            self._pending.append(text)
            self._size += len(text)

    def due(self, is_last: bool) -> str:
        """What to ask about now; empty while it is too little. The next window is twice as long."""
        if not self._size or (self._size < self._wanted and not is_last):
            return ""
        text = self._before + "".join(self._pending)
        self._before = text[-CONTEXT_CHARS:]
        self._pending.clear()
        self._size = 0
        self._wanted = min(2 * self._wanted, CHARS_MAX)
        return text
