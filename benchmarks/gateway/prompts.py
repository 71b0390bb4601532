"""Prompts of an exact size, in the languages that people here write. Pure."""

from __future__ import annotations

from benchmarks.gateway.script import Pace, mark
from benchmarks.guard.samples import CHINESE, ENGLISH

KIB = 1024


def prompt(size: int, pace: Pace | None = None) -> str:
    """A text of `size` bytes of UTF-8, which asks the upstream for this pace; it is cut where a
    character ends and filled up with full stops."""
    head = mark(pace) if pace else ""
    text = ENGLISH + CHINESE
    times = size // len(text.encode()) + 1
    cut = (head + text * times).encode()[:size].decode(errors="ignore")
    return cut + "." * (size - len(cut.encode()))
