"""Which trace a call belongs to, and whether it is told (W3C Trace Context, level 1). Pure.

The trace's id is the call's own id, so a person finds a trace by the `x-request-id` of an answer.
Span ids follow from call and try: nothing need be kept to tell an engine whose child it is, and
every process that knows a row knows its span.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from hashlib import blake2b
from typing import TYPE_CHECKING, NamedTuple
from zlib import crc32

import msgspec

if TYPE_CHECKING:
    from serving.records import Caller

HEADER = "traceparent"
_BYTES_MAX = 256
_SHAPE = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.DOTALL)
_ZEROS = "0" * 16


class Remote(NamedTuple):
    """What a caller said of its own trace."""

    trace_id: str
    """32 hex digits."""
    span_id: str
    """16 hex digits."""
    is_sampled: bool


class Context(msgspec.Struct, frozen=True, gc=False):
    """The trace of one call."""

    trace_id: str
    is_sampled: bool
    parent_id: str = ""
    """Span of the caller that ours hangs below; empty: ours is the root."""
    link: Remote | None = None
    """A caller's trace that ours only points at."""


class Sampling(NamedTuple):
    """How calls get their context."""

    ratio: float

    def context(self, request_id: str, headers: Mapping[bytes, bytes], caller: Caller) -> Context:
        """A trusted forwarder's trace goes on, with its decision to sample. Anybody else's is
        linked: it must choose neither our ids nor what we keep."""
        said = remote(headers.get(b"traceparent"))
        if said is not None and caller.policy.is_forwarder:
            return Context(said.trace_id, said.is_sampled, said.span_id)
        # Of the id, so that every process says the same. A UUIDv7's own bits are not uniform.
        is_sampled = crc32(request_id.encode()) < self.ratio * 2**32
        return Context(request_id, is_sampled, "", said)


def remote(header: bytes | None) -> Remote | None:
    """What a `traceparent` says; None where it is none, as the standard wants it read."""
    if header is None or len(header) > _BYTES_MAX:
        return None
    found = _SHAPE.fullmatch(header)
    if found is None:
        return None
    version, more = found[1], found[5]
    trace_id, span_id = found[2].decode(), found[3].decode()
    if version == b"ff" or (version == b"00" and more is not None):
        return None
    if span_id == _ZEROS or trace_id == _ZEROS * 2:
        return None
    return Remote(trace_id, span_id, bool(int(found[4], 16) & 1))


def span_id(request_id: str, attempt: int, part: str = "") -> str:
    """Of a call's span (attempt 0), of one of its tries, or of a part of either."""
    return blake2b(f"{request_id}/{attempt}/{part}".encode(), digest_size=8).hexdigest()


def traceparent(context: Context, request_id: str, attempt: int) -> str:
    """What a target of this try is told."""
    flags = "01" if context.is_sampled else "00"
    return f"00-{context.trace_id}-{span_id(request_id, attempt)}-{flags}"
