"""Keeps one pool's orders on disk, so that a restart asks again under the same tokens."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import msgspec

from autoscale.machines import Book

_log = logging.getLogger(__name__)


class BookFile:
    """One file. A lost one costs nothing but time: machines are found again by their tags."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._kept: Book | None = None

    def read(self) -> Book:
        """The orders of an earlier life, or none."""
        try:
            self._kept = msgspec.json.decode(self._path.read_bytes(), type=Book)
        except FileNotFoundError:
            self._kept = Book()
        except (OSError, msgspec.MsgspecError) as error:
            _log.warning("machine_book_unreadable", extra={"reason": str(error)})
            self._kept = Book()
        return self._kept

    def write(self, book: Book) -> None:
        """Keep it, if it changed. Raises OSError: what cannot be kept must not be ordered."""
        if book == self._kept:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        new = self._path.with_suffix(".new")
        with new.open("wb") as file:
            file.write(msgspec.json.encode(book))
            file.flush()
            os.fsync(file.fileno())
        new.replace(self._path)
        self._kept = book
