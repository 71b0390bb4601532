"""The `x-ballast-load` header that every engine answer carries. Pure."""

from __future__ import annotations

from models.capacity import Load


def parse(header: bytes) -> Load | None:
    """The `x-ballast-load` header: `w=1,r=2,q=300,kv=0.25,at=...`; None when it is not that."""
    try:
        pairs = dict(part.split(b"=", 1) for part in header.split(b","))
        return Load(int(pairs[b"w"]), int(pairs[b"r"]), int(pairs[b"q"]), float(pairs[b"kv"]))
    except (KeyError, ValueError):
        return None
