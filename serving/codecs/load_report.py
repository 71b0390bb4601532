"""The `x-ballast-load` header that every engine answer carries. Pure."""

from __future__ import annotations

from models.capacity import Load


def parse(header: bytes) -> Load | None:
    """The `x-ballast-load` header: `w=1,r=2,q=300,kv=0.25,at=...`; None when it is not that."""
    try:
        pairs = dict(part.split(b"=", 1) for part in header.split(b","))
        return checked(int(pairs[b"w"]), int(pairs[b"r"]), int(pairs[b"q"]), float(pairs[b"kv"]))
    except (KeyError, ValueError):
        return None


def checked(waiting: int, running: int, queued_tokens: int, kv_use: float) -> Load:
    """A report whose numbers can be true. Raises ValueError for one that cannot."""
    if min(waiting, running, queued_tokens) < 0 or not 0.0 <= kv_use <= 1.0:
        raise ValueError("a load report with impossible numbers")
    return Load(waiting, running, queued_tokens, kv_use)
