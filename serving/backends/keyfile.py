"""A key that lives in a file and changes there: rotated by hand, or a token somebody renews."""

from __future__ import annotations

import logging
from pathlib import Path

LOOK_S = 5.0
"""An OAuth token lives about an hour and is renewed minutes before its end."""
_log = logging.getLogger(__name__)


class KeyFile:
    """Reads the file again at most every `LOOK_S` seconds; an unreadable one leaves the last key in
    force, since the provider says soon enough when it is dead."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._key = ""
        self._looked_s = float("-inf")
        self._is_lost = False

    def key(self, now_s: float) -> str:
        """The key. `now_s` is on any clock that only moves forward."""
        if now_s - self._looked_s >= LOOK_S:
            self._looked_s = now_s
            try:
                self._key = read(self._path)
                self._is_lost = False
            except (OSError, ValueError) as error:
                if not self._is_lost:
                    _log.warning("key_file_lost", extra={"reason": type(error).__name__})
                self._is_lost = True
        return self._key


def read(path: Path) -> str:
    """The key. Raises OSError, or ValueError that echoes nothing."""
    key = path.read_text(encoding="ascii").strip()
    if not key:
        raise ValueError("it is empty")
    if not key.isprintable():
        raise ValueError("it holds characters no header can carry")
    return key
