"""Traces: whose child a call is, which calls are told, and what their spans say."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from pydantic import ValidationError

from models.capacity import PROFILES
from serving.records import (
    Caller,
    Charge,
    DataLabel,
    Offering,
    Policy,
    Price,
    Replica,
    Surface,
    Usage,
)
from serving.settings import Settings, SettingsError
from serving.tracing.context import Context, Remote, Sampling, remote, span_id, traceparent
from serving.tracing.exporter import Exporter, Terms
from serving.tracing.settings import TracingSettings
from serving.tracing.spans import spans_of
from serving.tracing.start import exporter
from serving.tracing.values import Ended, Try

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
CALL = "0198f2a45e007c3d8a1b2c3d4e5f6071"
TOLD = f"00-{TRACE}-{SPAN}-01".encode()
FORWARDER = Caller("gw", "acme", "", Policy(is_forwarder=True))
TENANT = Caller("main", "acme", "", Policy())


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (TOLD, Remote(TRACE, SPAN, True)),
        (TOLD[:-2] + b"00", Remote(TRACE, SPAN, False)),
        (TOLD[:-2] + b"ff", Remote(TRACE, SPAN, True)),
        (b"01" + TOLD[2:] + b"-later", Remote(TRACE, SPAN, True)),
        (None, None),
        (b"", None),
        (b"ff" + TOLD[2:], None),
        (TOLD + b"-more", None),
        (TOLD.upper(), None),
        (TOLD.replace(TRACE.encode(), b"0" * 32), None),
        (TOLD.replace(SPAN.encode(), b"0" * 16), None),
        (TOLD + b"\n", None),
        (b"01" + TOLD[2:] + b"-" + b"x" * 300, None),
    ],
    ids=["sampled", "not-sampled", "other-flags", "later-version", "none", "empty", "version-ff",
         "more-in-00", "upper-case", "zero-trace", "zero-span", "line-feed", "too-long"],
)  # fmt: skip
def test_a_traceparent_is_read_as_the_standard_wants_it(header, expected):
    assert remote(header) == expected


def test_a_trusted_forwarders_trace_goes_on_with_its_decision():
    for header, is_sampled in ((TOLD, True), (TOLD[:-2] + b"00", False)):
        for ratio in (0.0, 1.0):
            context = Sampling(ratio).context(CALL, {b"traceparent": header}, FORWARDER)
            assert context == Context(TRACE, is_sampled, SPAN)


def test_anybody_elses_trace_is_linked_and_decides_nothing():
    context = Sampling(0.0).context(CALL, {b"traceparent": TOLD}, TENANT)
    assert context == Context(CALL, False, "", Remote(TRACE, SPAN, True))
    assert Sampling(1.0).context(CALL, {}, TENANT) == Context(CALL, True)


def test_a_share_of_calls_is_told_and_every_process_says_the_same():
    ids = [f"0198f2a45e007c3d8a1b2c{n:010x}" for n in range(20_000)]
    told = [Sampling(0.1).context(one, {}, TENANT).is_sampled for one in ids]
    assert 0.09 < sum(told) / len(told) < 0.11
    assert told == [Sampling(0.1).context(one, {}, TENANT).is_sampled for one in ids]
    assert not any(Sampling(0.0).context(one, {}, TENANT).is_sampled for one in ids)


def test_an_engine_is_told_of_its_own_try():
    said = traceparent(Context(CALL, True), CALL, 2)
    assert said == f"00-{CALL}-{span_id(CALL, 2)}-01"
    assert remote(said.encode()) == Remote(CALL, span_id(CALL, 2), True)
    assert traceparent(Context(CALL, False), CALL, 2).endswith("-00")
    assert len({span_id(CALL, 0), span_id(CALL, 1), span_id(CALL, 1, "queue")}) == 3


OWN = Replica(
    "m@1", "m", "10.0.0.1", 30000, "/m", DataLabel("cn", "us", True), PROFILES["instant"], 8
)
SOLD = Offering(
    "azure/big", "azure", "m", "big", DataLabel("us", "azure"),
    Price("USD", 1, 2, 1, "test", "2026-01-01"), frozenset({Surface.CHAT}), 1000, 1.0,
)  # fmt: skip


def a_try(attempt, target, **changes):
    values = {
        "attempt": attempt, "target": target, "reason": "least_loaded", "issued_s": 10.5,
        "first_s": 0.2, "ended_s": 11.0, "waited_s": 0.0, "predicted_s": 0.1, "is_egress": False,
        "outcome": "ok", "error": "", "usage": Usage(7, 5, 3, 2), "charge": Charge(),
    }  # fmt: skip
    return Try(**values | changes)


def a_call(*tries, **changes):
    values = {
        "context": Context(CALL, True), "request_id": CALL, "received_s": 10.0,
        "received_ms": 1_700_000_000_000, "ended_s": 12.0, "first_s": 0.7, "waited_s": 0.0,
        "surface": "chat", "model": "m", "alias": "m-alias", "is_stream": True, "max_tokens": 64,
        "n": 1, "tenant": "acme", "project": "p", "feature": "", "latency_class": "interactive",
        "outcome": "ok", "status": 200, "code": "", "reason": "least_loaded", "batch": "",
        "usage": Usage(7, 5), "tries": tries,
    }  # fmt: skip
    return Ended(**values | changes)


def at(seconds):
    """Nanoseconds UTC of a moment of the loop's clock in `a_call`."""
    return 1_700_000_000_000_000_000 + round((seconds - 10.0) * 1e9)


def test_the_spans_of_a_call_show_queue_try_first_token_and_completion():
    spans = spans_of(a_call(a_try(1, OWN, waited_s=0.4)), {})
    assert [(s.name, s.kind, s.start_ns, s.end_ns) for s in spans] == [
        ("POST", "server", at(10.0), at(12.0)),
        ("queue", "internal", at(10.1), at(10.5)),
        ("chat m", "client", at(10.5), at(11.0)),
        ("first token", "internal", at(10.5), at(10.7)),
        ("completion", "internal", at(10.7), at(11.0)),
    ]
    root, queue, tried, first, rest = (s.span_id for s in spans)
    assert [s.parent_id for s in spans] == ["", root, root, tried, tried]
    assert len({root, queue, tried, first, rest}) == 5
    assert not any(s.error for s in spans)


def test_a_try_says_by_the_conventions_what_was_asked_and_used():
    spans = spans_of(a_call(a_try(1, OWN)), {})
    told = spans[1].attributes
    assert told == {
        "gen_ai.operation.name": "chat", "gen_ai.provider.name": "vllm",
        "gen_ai.request.model": "m", "gen_ai.request.stream": True,
        "gen_ai.request.max_tokens": 64, "gen_ai.usage.input_tokens": 7,
        "gen_ai.usage.output_tokens": 5, "gen_ai.usage.cache_read.input_tokens": 3,
        "gen_ai.usage.reasoning.output_tokens": 2, "gen_ai.response.time_to_first_chunk": 0.2,
        "server.address": "10.0.0.1", "server.port": 30000, "ballast.attempt": 1,
        "ballast.target": "m@1", "ballast.tier": "own", "ballast.reason": "least_loaded",
        "ballast.is_egress": False, "ballast.jurisdiction": "cn", "ballast.outcome": "ok",
        "ballast.predicted_first_token_s": 0.1, "ballast.usage_is_estimated": False,
    }  # fmt: skip


def test_every_name_of_the_conventions_is_one_they_know():
    from opentelemetry.semconv._incubating.attributes import gen_ai_attributes as known
    from opentelemetry.semconv.attributes import (
        error_attributes,
        http_attributes,
        server_attributes,
    )

    modules = (known, error_attributes, http_attributes, server_attributes)
    names = {v for m in modules for v in vars(m).values() if isinstance(v, str)}
    failed = a_try(1, OWN, outcome="upstream_error", error="server")
    for span in spans_of(a_call(failed, a_try(2, SOLD), n=2, status=502), {"azure": ("h", 443)}):
        assert {n for n in span.attributes if not n.startswith("ballast.")} <= names
    deprecated = {"gen_ai.system", "gen_ai.usage.prompt_tokens", "gen_ai.usage.completion_tokens"}
    assert not deprecated & set(spans_of(a_call(a_try(1, OWN)), {})[1].attributes)
    assert {o.value for o in known.GenAiOperationNameValues} >= {
        "chat", "text_completion", "embeddings",
    }  # fmt: skip


def test_a_second_try_stands_beside_the_first_with_its_own_money_and_address():
    first = a_try(1, OWN, first_s=-1.0, outcome="upstream_error", error="connect", usage=Usage())
    charged = {"charge": Charge("USD", 42), "is_egress": True, "reason": "failed_over"}
    spans = spans_of(
        a_call(first, a_try(2, SOLD, issued_s=11.1, ended_s=12.0, **charged)),
        {"azure": ("example.openai.azure.com", 443)},
    )
    assert [s.name for s in spans] == ["POST", "chat m", "chat big", "first token", "completion"]
    assert spans[1].error == spans[1].attributes["error.type"] == "connect"
    told = spans[2].attributes
    assert told["gen_ai.provider.name"] == "azure.ai.openai"
    assert told["server.address"] == "example.openai.azure.com"
    assert (told["ballast.cost_micro"], told["ballast.currency"]) == (42, "USD")
    assert told["ballast.is_egress"] is True
    assert spans[2].error == spans[0].error == ""


def test_usage_stands_on_tries_only_so_that_no_sum_counts_it_twice():
    spans = spans_of(a_call(a_try(1, OWN)), {})
    holders = [s.name for s in spans if any("usage" in name for name in s.attributes)]
    assert holders == ["chat m"]
    assert spans[0].attributes["ballast.told.output_tokens"] == 5


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"outcome": "refused", "status": 429, "code": "rate_limited"}, ""),
        ({"outcome": "disconnected", "status": 499, "code": "disconnected"}, ""),
        ({"outcome": "refused", "status": 503, "code": "no_capacity"}, "no_capacity"),
        ({"outcome": "cut", "status": 200, "code": "stream_cut"}, "stream_cut"),
        ({"outcome": "internal", "status": 500, "code": ""}, "internal"),
    ],
    ids=["own-limit", "left", "full", "cut-after-200", "internal"],
)
def test_a_request_is_an_error_when_it_failed_by_no_fault_of_its_caller(changes, error):
    span = spans_of(a_call(**changes), {})[0]
    assert span.error == span.attributes.get("error.type", "") == error


def test_a_call_that_only_waited_shows_its_wait():
    spans = spans_of(a_call(waited_s=1.5, first_s=-1.0, status=503, outcome="refused"), {})
    assert [(s.name, s.start_ns, s.end_ns) for s in spans[1:]] == [("queue", at(10.5), at(12.0))]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"endpoint": "collector:4318"}, "say http://host:port"),
        ({"endpoint": "http://u:p@collector:4318/v1/traces"}, "token_file"),
        ({"endpoint": "https://c/v1/traces?key=1"}, "token_file"),
        ({"endpoint": "http://c:4318/v1/traces", "token_file": "/x"}, "https"),
        ({"ratio": 1.5}, "less than or equal to 1"),
        ({"queue_calls": 0}, "greater than or equal to 1"),
        ({"prompt": True}, "Extra inputs"),
    ],
    ids=["no-scheme", "user", "query", "token-in-the-open", "ratio", "no-queue", "unknown"],
)
def test_settings_that_leak_or_contradict_are_refused(given, words):
    with pytest.raises(ValidationError, match=words):
        TracingSettings.model_validate(given)


@pytest.fixture
def listener():
    @asynccontextmanager
    async def listen(bodies):
        async def take(request):
            bodies.append(await request.read())
            return web.Response()

        app = web.Application()
        app.router.add_post("/v1/traces", take)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1/traces"
        await runner.cleanup()

    return listen


WITHOUT_PACKAGE = """
import sys
sys.modules["opentelemetry"] = None
from serving.settings import Settings, SettingsError
from serving.tracing.start import exporter
assert exporter(Settings(), "here", {}) is None
try:
    exporter(Settings(tracing={"endpoint": "http://c:4318/v1/traces"}), "here", {})
except SettingsError as error:
    print(error)
"""


def test_without_its_package_a_collector_is_refused_by_name_and_nothing_else_is():
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_PACKAGE], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("tracing.endpoint: ")
    assert "install the extra `traces`" in done.stdout


def test_a_vendor_that_is_not_switched_on_cannot_be_told():
    given = {"endpoint": "http://c:4318/v1/traces", "providers": ["nobody"]}
    with pytest.raises(SettingsError, match=r"tracing\.providers: not among providers: nobody"):
        exporter(Settings(tracing=given), "here", {})


def test_a_token_that_cannot_be_read_is_named_without_what_it_holds(tmp_path):
    given = {"endpoint": "https://c/v1/traces", "token_file": str(tmp_path / "none")}
    with pytest.raises(SettingsError, match=r"tracing\.token_file: cannot read .*none: FileNot"):
        exporter(Settings(tracing=given), "here", {})


@pytest.mark.parametrize("held", ["", "Bearer one\nX: two", "Bearer a\x00b"])
def test_a_token_that_no_header_can_carry_refuses_to_start_unprinted(tmp_path, held):
    file = tmp_path / "token"
    file.write_text(held)
    given = {"endpoint": "https://c/v1/traces", "token_file": str(file)}
    with pytest.raises(SettingsError, match="on one line") as refused:
        exporter(Settings(tracing=given), "here", {})
    assert "Bearer" not in str(refused.value)


def test_a_call_that_no_message_can_hold_costs_its_own_spans_only(listener):
    async def check():
        bodies = []
        async with listener(bodies) as url:
            given = TracingSettings(endpoint=url, flush_s=60)
            exporter = Exporter(Terms(given, {}, {}))
            exporter.start()
            for alias in ("m", "\ud800", "m"):
                exporter.put(a_call(a_try(1, OWN), alias=alias))
            await exporter.close()
        assert exporter.counted.values == {("dropped_unreadable",): 1, ("sent",): 2}
        told = ExportTraceServiceRequest.FromString(bodies[0])
        names = [s.name for s in told.resource_spans[0].scope_spans[0].spans]
        assert names.count("chat m") == 2

    asyncio.run(check())
