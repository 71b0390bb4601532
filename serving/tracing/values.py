"""What is kept of a call for its trace: ids, names, numbers, reasons; no word of it. Pure."""

from __future__ import annotations

import msgspec

from serving.records import Charge, Target, Usage
from serving.tracing.context import Context


class Try(msgspec.Struct, frozen=True, gc=False):
    """One attempt that ended. Times on the loop's clock."""

    attempt: int
    target: Target
    reason: str
    issued_s: float
    first_s: float
    """Ticket to first content; -1 when none came."""
    ended_s: float
    waited_s: float
    """In the queue, just before the ticket."""
    predicted_s: float
    """First token as foreseen; 0 is none."""
    is_egress: bool
    outcome: str
    error: str
    usage: Usage
    charge: Charge


class Ended(msgspec.Struct, frozen=True, gc=False):
    """One request that ended."""

    context: Context
    request_id: str
    received_s: float
    received_ms: int
    """UTC, of the same moment."""
    ended_s: float
    first_s: float
    waited_s: float
    """In the queue after the last ticket, for a call that got none."""
    surface: str
    model: str
    alias: str
    is_stream: bool
    max_tokens: int | None
    n: int
    tenant: str
    project: str
    feature: str
    latency_class: str
    outcome: str
    status: int
    code: str
    reason: str
    batch: str
    usage: Usage
    """As the client was told."""
    tries: tuple[Try, ...]


class Span(msgspec.Struct, frozen=True, gc=False):
    """What a collector is told; times in UTC nanoseconds."""

    name: str
    kind: str
    """`server`, `client` or `internal`."""
    span_id: str
    parent_id: str
    """Empty: the root."""
    start_ns: int
    end_ns: int
    attributes: dict[str, str | bool | int | float]
    error: str = ""
    """Why it failed; empty: it did not."""
