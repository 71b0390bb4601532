"""The deployment secret that gateway and engines share."""

from __future__ import annotations

import logging
from pathlib import Path

_log = logging.getLogger(__name__)


class Secret:
    """The deployment secret, read again when its file changes."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._stamp = 0.0
        self.value = b""
        self.refresh()

    def refresh(self) -> None:
        """Read the file if it is newer than what is held."""
        if self._path is None:
            return
        try:
            stamp = self._path.stat().st_mtime
            if stamp != self._stamp:
                value = self._path.read_bytes().split(b"\n")[0].strip()
                if not value or not value.isascii():
                    raise ValueError("its first line is empty or not ASCII")
                self.value, self._stamp = value, stamp
        except (OSError, ValueError) as error:
            _log.warning("secret_unreadable", extra={"reason": str(error)})

    def __call__(self) -> bytes:
        return self.value
