"""How requests ended, as their clients saw it and as the rows say it: each by its code, so that a
report tells it in its reader's language. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.drills.values import (
    CLOSED,
    HUNG,
    LEFT,
    REFUSED,
    TOLD_CUT,
    UNCLEAR,
    UNREACHED,
    WHOLE,
)
from models.worded import Worded
from serving.records import Outcome

_SEEN: Mapping[str, Worded] = {
    WHOLE: Worded("end.whole", "whole"),
    REFUSED: Worded("end.refused", "refused"),
    TOLD_CUT: Worded("end.told_cut", "told_cut"),
    CLOSED: Worded("end.closed", "closed"),
    UNREACHED: Worded("end.unreached", "unreached"),
    HUNG: Worded("end.hung", "hung"),
    LEFT: Worded("end.left", "left"),
    UNCLEAR: Worded("end.unclear", "unclear"),
}
_BOOKED: Mapping[str, Worded] = {
    Outcome.OK: Worded("booked.ok", "ok"),
    Outcome.REFUSED: Worded("booked.refused", "refused"),
    Outcome.FULL: Worded("booked.full", "full"),
    Outcome.CALLER_ERROR: Worded("booked.caller_error", "caller_error"),
    Outcome.UPSTREAM_ERROR: Worded("booked.upstream_error", "upstream_error"),
    Outcome.TIMEOUT: Worded("booked.timeout", "timeout"),
    Outcome.DISCONNECTED: Worded("booked.disconnected", "disconnected"),
    Outcome.CUT: Worded("booked.cut", "cut"),
    Outcome.INTERNAL: Worded("booked.internal", "internal"),
    Outcome.GATEWAY_LOST: Worded("booked.gateway_lost", "gateway_lost"),
}


def as_seen(end: str) -> str:
    """Of one client; a name that is not known stays as it is."""
    return _SEEN.get(end, end)


def as_booked(outcome: str) -> str:
    """Of one row, likewise."""
    return _BOOKED.get(outcome, outcome)
