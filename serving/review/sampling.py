"""Which conversations are kept for review. Pure.

One number per request decides, so that all gateways decide alike and a replay decides the same; the
flagged are kept at a rate of their own, which is at least the other.
"""

from __future__ import annotations

from typing import NamedTuple

_BITS = 48


class Rates(NamedTuple):
    """Shares of a tenant's conversations that are kept, 0 to 1."""

    any: float = 0.0
    flagged: float = 0.0
    """Of those in which the guard found something."""


def lot(request_id: str) -> float:
    """A request's number in [0, 1), from the random tail of its UUIDv7 (RFC 9562)."""
    return int(request_id[-_BITS // 4 :], 16) / (1 << _BITS)


def may_keep(rates: Rates, request_id: str) -> bool:
    """Whether what this conversation turns out to be could have it kept."""
    return lot(request_id) < max(rates)


def why(rates: Rates, request_id: str, *, is_flagged: bool) -> str:
    """`random` or `flagged` for one that is kept, else empty."""
    drawn = lot(request_id)
    if is_flagged and drawn < max(rates):
        return "flagged"
    return "random" if drawn < rates.any else ""
