"""Spans as the bytes that a collector takes (OTLP 1.x over HTTP, binary protobuf).

The messages are OpenTelemetry's own; its SDK is left out (0133): it wants to time spans as they
run, reads its settings from the environment, and sends from a thread of its own.
"""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1 import trace_pb2

from serving.tracing.spans import Hosts, spans_of
from serving.tracing.values import Ended, Span

_KINDS = {
    "server": trace_pb2.Span.SPAN_KIND_SERVER,
    "client": trace_pb2.Span.SPAN_KIND_CLIENT,
    "internal": trace_pb2.Span.SPAN_KIND_INTERNAL,
}
_IS_REMOTE = (
    trace_pb2.SPAN_FLAGS_CONTEXT_HAS_IS_REMOTE_MASK | trace_pb2.SPAN_FLAGS_CONTEXT_IS_REMOTE_MASK
)
_SAMPLED = 1
SCOPE = "ballast"
HEADERS = {"content-type": "application/x-protobuf", "content-encoding": "gzip"}


class Message:
    """One request to a collector, filled call by call so that nobody waits long for it."""

    def __init__(self, resource: Mapping[str, str], hosts: Hosts) -> None:
        self._hosts = hosts
        self._request = ExportTraceServiceRequest()
        rows = self._request.resource_spans.add()
        for name, value in resource.items():
            rows.resource.attributes.add(key=name).value.string_value = value
        self._scope = rows.scope_spans.add()
        self._scope.scope.name = SCOPE

    def add(self, ended: Ended) -> None:
        """Tell of this call too. Raises ValueError or TypeError for what no message can hold; it
        then holds the spans before."""
        trace_id = bytes.fromhex(ended.context.trace_id)
        for span in spans_of(ended, self._hosts):
            self._add(trace_id, span, ended)

    def _add(self, trace_id: bytes, span: Span, ended: Ended) -> None:
        row = self._scope.spans.add(
            trace_id=trace_id, span_id=bytes.fromhex(span.span_id),
            parent_span_id=bytes.fromhex(span.parent_id), name=span.name,
            kind=_KINDS[span.kind], start_time_unix_nano=span.start_ns,
            end_time_unix_nano=span.end_ns, flags=_SAMPLED,
        )  # fmt: skip
        for name, value in span.attributes.items():
            _put(row.attributes.add(key=name).value, value)
        if span.error:
            row.status.code = trace_pb2.Status.STATUS_CODE_ERROR
            row.status.message = span.error
        if span.kind == "server":
            row.flags |= _IS_REMOTE if span.parent_id else 0
            link = ended.context.link
            if link is not None:
                row.links.add(
                    trace_id=bytes.fromhex(link.trace_id), span_id=bytes.fromhex(link.span_id),
                    flags=_IS_REMOTE | (_SAMPLED if link.is_sampled else 0),
                )  # fmt: skip

    def body(self) -> bytes:
        """Whole and packed."""
        return gzip.compress(self._request.SerializeToString(), compresslevel=1, mtime=0)


def _put(field: Any, value: str | bool | int | float) -> None:
    if isinstance(value, bool):  # before int, which it also is
        field.bool_value = value
    elif isinstance(value, int):
        field.int_value = value
    elif isinstance(value, float):
        field.double_value = value
    else:
        field.string_value = value


def rejected(body: bytes) -> int:
    """How many spans the collector left out of those it took. Raises DecodeError."""
    return int(ExportTraceServiceResponse.FromString(body).partial_success.rejected_spans)
