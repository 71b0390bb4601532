"""The journal's folders and files: names, locks, and putting a damaged file aside.

`<state>/journal/<process index>/<sequence>-<life>.log`; a *life* is one opening of the folder, so a
name is never used twice, whatever happened to the folder meanwhile.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from serving.errors import OwnError

CORRUPT_FILES_MAX = 4
"""Damaged segments kept for inspection in each folder; the oldest goes first."""

_NAME = re.compile(r"(\d{10})-([0-9a-f]{12})\.log")


class JournalLocked(OwnError):  # noqa: N818 - a state, as in JournalFull
    """Another process owns this folder."""

    def __init__(self, folder: Path) -> None:
        super().__init__("internal_error", f"journal folder {folder} is in use by another process")


class Segment(NamedTuple):
    """One file of a journal folder."""

    sequence: int
    life: str
    path: Path


def segments(folder: Path) -> list[Segment]:
    """The folder's segments, of all lives, in the order of writing."""
    found = (_NAME.fullmatch(name) for name in os.listdir(folder))
    return sorted(Segment(int(m[1]), m[2], folder / m[0]) for m in found if m)


def lock(folder: Path) -> int:
    """Lock an existing folder; closing the returned descriptor frees it. Raises JournalLocked."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        raise JournalLocked(folder) from None
    return fd


def take(folder: Path) -> int:
    """Make the folder if missing, durably, and lock it. Raises JournalLocked."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for parent in (folder.parent, folder.parent.parent):
        fd = os.open(parent, os.O_RDONLY | os.O_DIRECTORY)
        os.fsync(fd)
        os.close(fd)
    with lock_all(folder.parent):
        return lock(folder)


@contextlib.contextmanager
def lock_all(root: Path) -> Iterator[None]:
    """Wait for the right to take or recover folders below `root`; held for moments at start-up."""
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def put_aside(segment: Segment) -> None:
    """Keep a damaged segment out of the way as `.corrupt`, with at most the newest few others."""
    segment.path.rename(segment.path.with_suffix(".corrupt"))
    for path in sorted(segment.path.parent.glob("*.corrupt"))[:-CORRUPT_FILES_MAX]:
        path.unlink()
