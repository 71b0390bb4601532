"""Traces of a running gateway, as a collector on loopback receives them (OTLP over HTTP)."""

from __future__ import annotations

import logging

import pytest
from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from serving.fakes.server import serve

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
TOLD = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
SECRET_WORDS = "the launch code is 7341"
KINDS = {Span.SPAN_KIND_SERVER: "server", Span.SPAN_KIND_CLIENT: "client"}


class Collector:
    """Takes spans as a real one does; `refuses` are the statuses of the next answers."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.resources: list[dict[str, str]] = []
        self.bodies: list[bytes] = []
        self.headers: list[dict[str, str]] = []
        self.refuses: list[int] = []
        self.rejects = 0

    async def start(self, port):
        app = web.Application(client_max_size=64 << 20)
        app.router.add_post("/v1/traces", self._take)
        return await serve(app, "127.0.0.1", port)

    async def _take(self, request: web.Request) -> web.Response:
        assert request.content_type == "application/x-protobuf"
        body = await request.read()  # aiohttp has unpacked it
        self.headers.append({k.lower(): v for k, v in request.headers.items()})
        if self.refuses:
            return web.Response(status=self.refuses.pop(0), headers={"retry-after": "0"})
        self.bodies.append(body)
        told = ExportTraceServiceRequest.FromString(body)
        for rows in told.resource_spans:
            said = {a.key: a.value.string_value for a in rows.resource.attributes}
            self.resources.append(said)
            self.spans += [s for scope in rows.scope_spans for s in scope.spans]
        answer = ExportTraceServiceResponse()
        answer.partial_success.rejected_spans = self.rejects
        return web.Response(body=answer.SerializeToString(), content_type="application/x-protobuf")

    def of(self, trace_id: str) -> list[Span]:
        return [s for s in self.spans if s.trace_id.hex() == trace_id]

    def trace(self, reply, count: int):
        """A condition: all spans of the call with this answer are here."""
        return lambda: len(self.of(reply.headers["x-request-id"])) == count


def attributes(span: Span) -> dict[str, object]:
    return {a.key: getattr(a.value, a.value.WhichOneof("value")) for a in span.attributes}


@pytest.fixture
def traced(run, free_ports):
    """Runs a check with a collector: `traced(check, {"ratio": 0.0}, engines=[...])`."""

    def start(check, given=None, **kwargs):
        (port,) = free_ports(1)
        collector = Collector()

        async def beside(stack):
            served = await collector.start(port)
            try:
                await check(stack, collector)
            finally:
                await served.close()

        endpoint = f"http://127.0.0.1:{port}/v1/traces"
        tracing = {"endpoint": endpoint, "ratio": 1.0, "flush_s": 0.05} | (given or {})
        run(beside, **kwargs, tracing=tracing)

    return start


def test_a_streamed_call_is_told_with_queue_free_try_first_token_and_completion(traced, kit):
    async def check(stack, collector):
        reply = await stack.chat(stream=True, messages=[{"role": "user", "content": SECRET_WORDS}])
        await kit.eventually(collector.trace(reply, 4))
        spans = collector.of(reply.headers["x-request-id"])
        root, tried, first, rest = spans
        names = ["POST", "chat m", "first token", "completion"]
        assert [s.name for s in spans] == names
        assert [s.parent_span_id for s in spans] == [
            b"", root.span_id, tried.span_id, tried.span_id,
        ]  # fmt: skip
        assert [KINDS.get(s.kind, "internal") for s in spans[:3]] == [
            "server",
            "client",
            "internal",
        ]
        start, end = root.start_time_unix_nano, root.end_time_unix_nano
        assert start <= tried.start_time_unix_nano <= first.end_time_unix_nano
        assert first.end_time_unix_nano == rest.start_time_unix_nano
        assert rest.end_time_unix_nano <= end
        (row,) = await stack.rows(1)
        told, asked = attributes(root), attributes(tried)
        assert told["ballast.request_id"] == row.request_id == root.trace_id.hex()
        assert told["ballast.tenant"] == "acme"
        assert told["http.response.status_code"] == 200
        assert asked["gen_ai.operation.name"] == "chat"
        assert asked["gen_ai.request.model"] == "m"
        assert asked["gen_ai.usage.input_tokens"] == row.usage.prompt_tokens
        assert asked["gen_ai.usage.output_tokens"] == row.usage.completion_tokens == 8
        assert asked["server.port"] == int(stack.engines[0].url.rpartition(":")[2])
        assert asked["ballast.reason"] == row.reason
        assert collector.resources[0]["service.name"] == "ballast-gateway"
        assert collector.resources[0]["service.namespace"] == kit.DEPLOYMENT

    traced(check, engines=[kit.engine()])


def test_no_word_of_prompt_or_answer_is_told(traced, kit):
    async def check(stack, collector):
        words = [{"role": "user", "content": SECRET_WORDS}]
        reply = await stack.chat(messages=words)
        refused = await stack.chat(messages=words, model="no-such-model")
        assert refused.status == 404
        await kit.eventually(lambda: len({s.trace_id for s in collector.spans}) == 2)
        told = b"".join(collector.bodies)
        assert reply.text
        for text in (SECRET_WORDS, "7341", reply.text, kit.key_of("main")):
            assert text.encode() not in told

    traced(check, engines=[kit.engine()])


def test_an_engine_is_told_whose_child_it_is(traced, kit):
    recording = kit.Recording()

    async def check(stack, collector):
        reply = await stack.chat(headers=TOLD)
        await kit.eventually(collector.trace(reply, 2))
        root, tried = collector.of(reply.headers["x-request-id"])
        ((_, headers, _),) = recording.requests
        version, trace_id, parent, flags = headers["traceparent"].split("-")
        assert (version, flags) == ("00", "01")
        assert (trace_id, parent) == (root.trace_id.hex(), tried.span_id.hex())
        # A tenant's own trace is pointed at, not joined.
        (link,) = root.links
        assert (link.trace_id.hex(), link.span_id.hex()) == (TRACE, PARENT)

    traced(check, engines=[recording])


def test_a_trusted_forwarders_trace_goes_on_through_us(traced, kit):
    recording = kit.Recording()

    async def check(stack, collector):
        reply = await stack.chat("gateway", headers=TOLD | {"x_ballast_tenant": "acme"})
        assert reply.status == 200, reply.body
        await kit.eventually(lambda: len(collector.of(TRACE)) == 2)
        root, tried = collector.of(TRACE)
        assert root.parent_span_id.hex() == PARENT
        assert not root.links
        assert recording.requests[0][1]["traceparent"] == f"00-{TRACE}-{tried.span_id.hex()}-01"
        unsampled = TOLD["traceparent"][:-1] + "0"
        await stack.chat("gateway", headers={"traceparent": unsampled})
        assert recording.requests[1][1]["traceparent"].endswith("-00")
        await stack.rows(2)
        assert len(collector.of(TRACE)) == 2

    traced(check, engines=[recording])


@pytest.mark.parametrize("told", [[], ["alpha"]], ids=["by-default", "where-it-is-set"])
def test_a_vendor_is_told_of_a_trace_only_where_it_is_set(traced, kit, told):
    async def check(stack, collector):
        reply = await stack.chat(headers=TOLD)
        await kit.eventually(collector.trace(reply, 2))
        await stack.rows(1)
        root, tried = collector.of(reply.headers["x-request-id"])
        asked = attributes(tried)
        assert asked["gen_ai.provider.name"] == "alpha"
        assert asked["gen_ai.request.model"] == "big"
        assert asked["server.address"] == "127.0.0.1"
        assert asked["ballast.is_egress"] is True
        assert (
            asked["ballast.cost_micro"] == stack.attempts(root.trace_id.hex())[0].end.charge.micro
        )
        (seen,) = await stack.seen()
        header = {k.lower(): v for k, v in seen["headers"].items()}.get("traceparent")
        expected = f"00-{root.trace_id.hex()}-{tried.span_id.hex()}-01"
        assert header == (expected if told else None)

    traced(check, {"providers": told}, providers={"alpha": kit.provider()})


def test_each_try_of_a_call_that_failed_over_is_told_with_its_fault(traced, kit):
    async def check(stack, collector):
        await stack.control(stack.providers["alpha"], default="server_error")
        reply = await stack.chat()
        assert reply.status == 200
        await kit.eventually(collector.trace(reply, 3))
        _, failed, answered = collector.of(reply.headers["x-request-id"])
        assert failed.status.code == Status.STATUS_CODE_ERROR
        assert attributes(failed)["error.type"] == "server_error"
        assert attributes(failed)["gen_ai.provider.name"] == "alpha"
        assert answered.status.code == Status.STATUS_CODE_UNSET
        assert attributes(answered)["gen_ai.provider.name"] == "beta"
        assert attributes(answered)["ballast.attempt"] == 2

    traced(check, providers={"alpha": kit.provider(), "beta": kit.provider()})


def test_of_the_calls_that_are_not_drawn_only_those_that_failed_are_told(traced, kit):
    async def check(stack, collector):
        assert (await stack.chat()).status == 200
        await stack.control(stack.providers["alpha"], default="server_error")
        failed = await stack.chat()
        assert failed.status >= 500
        await kit.eventually(lambda: collector.spans)
        assert {s.trace_id.hex() for s in collector.spans} == {failed.headers["x-request-id"]}

    traced(check, {"ratio": 0.0}, providers={"alpha": kit.provider()})


def test_a_collector_that_is_busy_gets_the_spans_later_and_the_rejected_are_counted(traced, kit):
    async def check(stack, collector):
        collector.refuses, collector.rejects = [503], 1
        reply = await stack.chat()
        await kit.eventually(collector.trace(reply, 2))
        text = (await stack.get("/metrics")).body.decode()
        assert 'ballast_traced_calls_total{result="sent"} 1.0' in text
        assert 'ballast_traced_calls_total{result="spans_rejected"} 1.0' in text

    traced(check, engines=[kit.engine()])


def test_a_collector_that_refuses_or_is_away_costs_spans_and_no_call(traced, kit, caplog):
    async def check(stack, collector):
        collector.refuses = [400]
        with caplog.at_level(logging.WARNING):
            assert (await stack.chat()).status == 200

            async def dropped():
                return b'"dropped_collector"} 1.0' in (await stack.get("/metrics")).body

            await kit.eventually(dropped)
        assert [r.message for r in caplog.records].count("traces_not_taken") == 1
        assert collector.spans == []
        # Away: the queue is full after two calls, and all are answered as ever.
        collector.refuses = [503] * 1000
        for _ in range(6):
            assert (await stack.chat()).status == 200

        async def full():
            return b'result="dropped_queue"' in (await stack.get("/metrics")).body

        await kit.eventually(full)
        await stack.rows(7)

    traced(check, {"queue_calls": 2, "batch_calls": 1, "exit_s": 0.05}, engines=[kit.engine()])


def test_what_waits_at_the_exit_is_sent_before_it_ends(traced, kit):
    async def check(stack, collector):
        reply = await stack.chat()
        assert collector.spans == []
        await stack.stop()
        assert len(collector.of(reply.headers["x-request-id"])) == 2
        await stack.restart(stack.tree)

    traced(check, {"flush_s": 60.0}, engines=[kit.engine()])


def test_a_token_reaches_the_collector_and_no_log(traced, kit, tmp_path):
    token = tmp_path / "token"
    token.write_text("Bearer collector-secret\n")

    async def check(stack, collector):
        reply = await stack.chat()
        await kit.eventually(collector.trace(reply, 2))
        assert collector.headers[0]["authorization"] == "Bearer collector-secret"

    traced(check, {"token_file": str(token)}, engines=[kit.engine()])


def test_without_a_collector_nothing_is_kept_counted_or_passed_on(run, kit):
    recording = kit.Recording()

    async def check(stack):
        assert (await stack.chat(headers=TOLD)).status == 200
        assert "traceparent" not in {k.lower() for k in recording.requests[0][1]}
        assert b"ballast_traced_calls" not in (await stack.get("/metrics")).body

    run(check, engines=[recording])
