"""The `x-ballast-load` header that every engine answer carries. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from models.capacity import Load

_USUAL = re.compile(rb"w=(\d{1,9}),r=(\d{1,9}),q=(\d{1,15}),kv=([01]\.\d{1,9})(?:,|$)").match


def parse(header: bytes) -> Load | None:
    """The `x-ballast-load` header: `w=1,r=2,q=300,kv=0.25,at=...`; None when it is not that."""
    usual = _USUAL(header)
    if usual is not None:  # a third of the time of what follows
        waiting, running, queued, kv_use = usual.groups()
        share = float(kv_use)
        return Load(int(waiting), int(running), int(queued), share) if share <= 1.0 else None
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


def told(data: Mapping[str, Any]) -> Load:
    """The same as JSON. Raises KeyError, TypeError, ValueError or OverflowError."""
    return checked(int(data["w"]), int(data["r"]), int(data["q"]), float(data["kv"]))


def refused(status: int) -> str:
    """What an engine's refusal to tell its load means."""
    if status == 401:
        return "status 401: it has another deployment secret"
    return f"status {status}"
