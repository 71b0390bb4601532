"""A key that lives in a file and changes there: rotated by hand, or a token somebody renews."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

LOOK_S = 5.0
"""An OAuth token lives about an hour and is renewed minutes before its end."""
_log = logging.getLogger(__name__)


class KeyFile:
    """Reads the file again at most every `LOOK_S` seconds; an unreadable one leaves the last key in
    force, since the provider says soon enough when it is dead. So does one that now holds a key of
    somebody else's account: whose money it is must stay certain."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._key = ""
        self._is_anothers: Callable[[str], bool] = _nobodys
        self._looked_s = float("-inf")
        self._is_lost = False

    @property
    def last(self) -> str:
        """The key in force."""
        return self._key

    def written(self) -> str:
        """What the file holds now, in force or not; nothing where it cannot be read."""
        try:
            return read(self._path)
        except (OSError, ValueError):
            return ""

    def keep_from(self, key: str, is_anothers: Callable[[str], bool]) -> None:
        """From now on no key is taken that `is_anothers`; `key` is in force until the next look."""
        self._key, self._is_anothers = key, is_anothers

    def key(self, now_s: float) -> str:
        """The key. `now_s` is on any clock that only moves forward."""
        if now_s - self._looked_s >= LOOK_S:
            self._looked_s = now_s
            try:
                key = read(self._path)
                if key != self._key and self._is_anothers(key):
                    raise ValueError("it holds the key of another's account")
                self._key = key
                self._is_lost = False
            except (OSError, ValueError) as error:
                if not self._is_lost:
                    _log.warning("key_file_lost", extra={"reason": _said(error)})
                self._is_lost = True
        return self._key


def _nobodys(_: str) -> bool:
    return False


def _said(error: OSError | ValueError) -> str:
    """No part of the file."""
    is_ours = isinstance(error, ValueError) and not isinstance(error, UnicodeError)
    return str(error) if is_ours else type(error).__name__


def read(path: Path) -> str:
    """The key. Raises OSError, or ValueError that echoes nothing."""
    key = path.read_text(encoding="ascii").strip()
    if not key:
        raise ValueError("it is empty")
    if not key.isprintable():
        raise ValueError("it holds characters no header can carry")
    return key
