"""What a visit to a gateway found, and how much load a gateway can be given. Pure."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from benchmarks.gateway import own
from benchmarks.gateway.arrivals import Seen
from benchmarks.gateway.check import Checked
from benchmarks.gateway.open_streams import Open

EVENTS = 66
"""Of one stream as a client without usage sees it: 64 of content, finish reason, [DONE]."""
CHUNKS = 65
"""Writes of the upstream for one paced stream: the last events travel together."""
KIB_BETWEEN = 86
"""Of the large and the small prompt."""
SLOW_CORE_MAX = 0.8
"""Of a core, for streams of an event a second."""
MACHINE_SHARE_MAX = 0.6


class Effort(msgspec.Struct, frozen=True):
    """How long and with how much one gateway is measured in one round."""

    seconds: float = 3.0
    """Of each load; of the staggered streams twice that."""
    rest_s: float = 1.5
    """After the first good answer: what a start leaves to be done is no request's cost."""
    warm_s: float = 1.0
    staggered: int = 64
    """Streams of 20 ms an event that are open together."""
    streams: int = 2_000
    """Slow ones, for memory; half as many for the check."""
    over_s: float = 3.0
    """Their starts are spread over so many seconds."""
    beats: int = 6
    """Content events of each, one a second: more than `over_s`, so that all are open at once."""


class Cost(msgspec.Struct, frozen=True):
    """One load and what it cost, by request."""

    requests: int
    rate: float
    """Requests a second."""
    cpu_ms: float
    user_ms: float
    system_ms: float
    aside_ms: float
    """The part off the main threads: of Ballast its ledger's drain, of routers their pools."""
    core: float
    """Share of one core."""
    seen: Seen


class Many(msgspec.Struct, frozen=True):
    """Slow streams, each checked, and what an event cost."""

    checked: Checked
    cpu_us_event: float


class Visit(msgspec.Struct, frozen=True):
    """One gateway in one round. What is None was not measured."""

    gateway: str
    number: int
    failed: str = ""
    """Why there are no figures."""
    start_s: float | None = None
    """From the start of the process to the first good answer."""
    small: Cost | None = None
    """Plain requests with 4 KiB of prompt."""
    large: Cost | None = None
    """With 90 KiB."""
    stream: Cost | None = None
    """Streams whose 66 events come at once."""
    apart: Cost | None = None
    """Staggered streams, an event each 20 ms."""
    base: Seen | None = None
    """As many streams straight to the upstream at the same time."""
    opened: Open | None = None
    many: Many | None = None


class Warm(NamedTuple):
    """What the warming up found: a closed loop of a few connections."""

    cpu_s: float
    """Of one request, roughly."""
    per_s: float
    """Answers a second."""


def rate_of(wanted: float, core_max: float, warm: Warm) -> float:
    """Requests a second: as wanted, but no more than take `core_max` of a core, and well below what
    the whole machine can do now, or an open loop would measure a queue."""
    return min(wanted, core_max / max(warm.cpu_s, 1e-9), MACHINE_SHARE_MAX * warm.per_s)


def holds_streams(wanted: int, over_s: float, start_s: float, event_s: float) -> int:
    """How many streams of one event a second a gateway is given: as many as take SLOW_CORE_MAX of a
    core while they start, at `start_s` and `event_s` of CPU for a start and an event."""
    each = start_s / over_s + event_s
    return max(1, min(wanted, int(SLOW_CORE_MAX / each))) if each > 0 else wanted


def metrics(found: Visit) -> dict[str, float]:
    """By the names that tables and gates use; those not measured are missing."""
    out: dict[str, float] = {}
    if found.start_s is not None:
        out["start_s"] = found.start_s
    if found.small is not None:
        out["small_ms"] = found.small.cpu_ms
    if found.small is not None and found.gateway in own.SAID:
        out["aside_ms"] = found.small.aside_ms
    if found.small is not None and found.large is not None:
        out["large_ms"] = found.large.cpu_ms
        out["slope_us"] = 1e3 * (found.large.cpu_ms - found.small.cpu_ms) / KIB_BETWEEN
    if found.small is not None and found.stream is not None:
        out["chunk_us"] = 1e3 * (found.stream.cpu_ms - found.small.cpu_ms) / EVENTS
    if found.apart is not None:
        out["apart_us"] = 1e3 * found.apart.cpu_ms / CHUNKS
        out["core_percent"] = 100 * found.apart.core
    if found.apart is not None and found.base is not None:
        out["first_p50_ms"] = found.apart.seen.sent_p50_ms - found.base.sent_p50_ms
        out["first_p99_ms"] = found.apart.seen.sent_p99_ms - found.base.sent_p99_ms
    if found.opened is not None:
        out |= {"idle_mib": found.opened.idle_mib, "open_kib": found.opened.kib_per_stream}
        out |= {"open_streams": found.opened.streams, "open_faults": found.opened.faults}
    if found.many is not None:
        out |= {"many_streams": found.many.checked.streams, "many_us": found.many.cpu_us_event}
        out["many_faults"] = found.many.checked.faults
        out["many_gap_s"] = found.many.checked.gap_max_s
    return {name: round(value, 4) for name, value in out.items()}
