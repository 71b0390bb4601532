"""The gate before vLLM's app: secret, routes, drain, load report."""

from __future__ import annotations

import asyncio
import json
from collections.abc import MutableMapping
from typing import Any

import pytest

from serving.codecs import marks
from serving.engine.gate import ALLOWED, RESUME, Gate, read_secrets
from serving.engine.load import LoadReport
from serving.engine.resume import current

Headers = list[tuple[bytes, bytes]]
GOOD: Headers = [(b"x-ballast-secret", b"current")]
PREFIX = "/m/model"


class FakeStatus:
    def __init__(self, draining: bool = False) -> None:
        self._draining = draining

    def load(self) -> LoadReport:
        return LoadReport(waiting=1, running=2, queued_tokens=300, kv_use=0.25, at_ms=1234)

    def is_draining(self) -> bool:
        return self._draining

    def facts(self) -> dict[str, Any]:
        return {"limit": 32, "started": 99, "model": "model"}

    async def adapters(
        self, method: str, name: str, body: bytes
    ) -> tuple[int, dict[str, Any], str]:
        if method == "POST":
            return 422, {"message": f"{len(body)} bytes"}, "adapter_refused"
        return 200, {"asked": [method, name]}, ""


async def engine_app(scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        await send({"type": "lifespan.startup.complete"})
        return
    await send({"type": "http.response.start", "status": 200, "headers": [(b"a", b"b")]})
    await send({"type": "http.response.body", "body": b"from the engine"})


class Answer:
    def __init__(self, messages: list[dict[str, Any]]) -> None:
        self.status: int = messages[0]["status"]
        self.headers = dict(messages[0]["headers"])
        self.body = b"".join(m.get("body", b"") for m in messages[1:])

    @property
    def error(self) -> dict[str, Any]:
        error: dict[str, Any] = json.loads(self.body)["error"]
        assert set(error) == {"message", "type", "param", "code"}
        return error


def ask(method: str, path: str, headers: Headers = GOOD, draining: bool = False) -> Answer:
    scope = {"type": "http", "method": method, "path": PREFIX + path, "root_path": PREFIX}
    return Answer(run({**scope, "headers": headers}, draining))


def run(
    scope: dict[str, Any],
    draining: bool = False,
    chunks: tuple[bytes, ...] = (b"",),
    app: Any = None,
) -> list[dict[str, Any]]:
    sent: list[dict[str, Any]] = []

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(dict(message))

    incoming = list(chunks)

    async def receive() -> MutableMapping[str, Any]:
        body = incoming.pop(0)
        return {"type": "http.request", "body": body, "more_body": bool(incoming)}

    gate = Gate(app or engine_app, (b"current", b"previous"), FakeStatus(draining))
    asyncio.run(gate(scope, receive, send))
    return sent


@pytest.mark.parametrize("secret", [b"current", b"previous"])
def test_lets_both_secrets_of_a_rotation_in(secret: bytes) -> None:
    answer = ask("POST", "/v1/chat/completions", [(b"x-ballast-secret", secret)])
    assert (answer.status, answer.body) == (200, b"from the engine")


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [(b"x-ballast-secret", b"")],
        [(b"x-ballast-secret", b"curren")],
        [(b"authorization", b"current")],
    ],
    ids=["none", "empty", "prefix", "elsewhere"],
)
@pytest.mark.parametrize(
    "route",
    [("POST", "/v1/completions"), ("GET", "/metrics"), ("GET", "/x"),
     ("POST", "/internal/adapters"), ("DELETE", "/internal/adapters/a")],
)  # fmt: skip
def test_refuses_everything_without_the_secret(route: tuple[str, str], headers: Headers) -> None:
    answer = ask(*route, headers)
    assert (answer.status, answer.error["code"]) == (401, "invalid_secret")


def test_liveness_needs_no_secret_and_says_nothing_else() -> None:
    answer = ask("GET", "/livez", [])
    assert (answer.status, json.loads(answer.body)) == (200, {"status": "alive"})


@pytest.mark.parametrize("route", sorted(ALLOWED - {RESUME}))
def test_passes_the_listed_routes(route: tuple[str, str]) -> None:
    assert ask(*route).body == b"from the engine"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/load_lora_adapter"),
        ("POST", "/v1/unload_lora_adapter"),
        ("POST", "/internal/adapter"),
        ("POST", "/scale_elastic_ep"),
        ("POST", "/v1/responses"),
        ("GET", "/internal/resume"),
        ("GET", "/load"),
        ("GET", "/docs"),
        ("GET", "/v1/chat/completions"),
        ("POST", "/v1/chat/completions/"),
        ("POST", "//v1/chat/completions"),
        ("POST", "/v1/chat/completions/render"),
        ("GET", "/metrics/"),
    ],
)
def test_every_other_route_does_not_exist(method: str, path: str) -> None:
    answer = ask(method, path)
    assert (answer.status, answer.error["code"]) == (404, "not_found")


def test_reports_its_load_on_every_answer() -> None:
    expected = b"w=1,r=2,q=300,kv=0.2500,at=1234"
    for answer in (ask("GET", "/v1/models"), ask("GET", "/nothing"), ask("GET", "/x", [])):
        assert answer.headers[b"x-ballast-load"] == expected


def test_reports_its_load_as_json() -> None:
    answer = ask("GET", "/internal/load")
    load = {"w": 1, "r": 2, "q": 300, "kv": 0.25, "at": 1234}
    facts = {"limit": 32, "started": 99, "model": "model", "draining": False}
    assert json.loads(answer.body) == load | facts


def test_adapters_are_changed_behind_the_secret_only() -> None:
    answer = ask("DELETE", "/internal/adapters/mine")
    assert (answer.status, json.loads(answer.body)) == (200, {"asked": ["DELETE", "mine"]})
    assert json.loads(ask("GET", "/internal/adapters").body) == {"asked": ["GET", ""]}


def test_a_refused_adapter_is_an_error_in_openai_shape() -> None:
    scope = {"type": "http", "method": "POST", "path": PREFIX + "/internal/adapters",
             "root_path": PREFIX, "headers": GOOD}  # fmt: skip
    answer = Answer(run(scope, chunks=(b"ab", b"cd")))
    assert (answer.status, answer.error["code"]) == (422, "adapter_refused")
    assert answer.error["message"] == "4 bytes"


def test_an_endless_body_is_not_read_to_its_end() -> None:
    scope = {"type": "http", "method": "POST", "path": PREFIX + "/internal/adapters",
             "root_path": PREFIX, "headers": GOOD}  # fmt: skip
    answer = Answer(run(scope, chunks=(b"x" * 40_000,) * 9))
    assert int(answer.error["message"].split()[0]) == 80_000


def test_a_draining_replica_refuses_work_but_answers_polls() -> None:
    refused = ask("POST", "/v1/chat/completions", draining=True)
    assert (refused.status, refused.error["code"]) == (503, "draining")
    assert json.loads(ask("GET", "/internal/load", draining=True).body)["draining"] is True


def test_passes_the_lifespan_through_and_closes_websockets() -> None:
    assert run({"type": "lifespan"}) == [{"type": "lifespan.startup.complete"}]
    closed = run({"type": "websocket", "path": PREFIX + "/v1/realtime", "headers": GOOD})
    assert closed == [{"type": "websocket.close", "code": 1008}]


def test_reads_the_first_two_secrets_of_a_file() -> None:
    assert read_secrets("\n new \r\nold\nolder\n") == (b"new", b"old")


@pytest.mark.parametrize("secrets", [(), (b"",), (b"a", b"")])
def test_refuses_to_stand_open(secrets: tuple[bytes, ...]) -> None:
    with pytest.raises(ValueError, match="serve anyone"):
        Gate(engine_app, secrets, FakeStatus())


def event(text: str) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
    return b"data: " + json.dumps({"id": "a", "choices": [choice]}).encode() + b"\n\n"


async def speaking_app(scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
    """Says two words, and which ids they are, as vLLM behind `vllm_resume` does."""
    asked = await receive()
    answer = current()
    head = [(b"content-type", b"text/event-stream; charset=utf-8")]
    await send({"type": "http.response.start", "status": 200, "headers": head})
    for token, word in enumerate(("one ", asked["body"].decode())):
        if answer is not None and (answer.begun is None or token not in answer.begun.ids):
            answer.made([token], None)
        await send({"type": "http.response.body", "body": event(word), "more_body": True})
    await send({"type": "http.response.body", "body": b"data: [DONE]\n\n"})


def speak(path: str, body: bytes, headers: Headers, draining: bool = False) -> Answer:
    scope = {"type": "http", "method": "POST", "path": PREFIX + path, "root_path": PREFIX}
    return Answer(run({**scope, "headers": headers}, draining, (body,), speaking_app))


def test_a_gateway_that_asks_is_told_the_ids_between_the_events_and_others_are_not() -> None:
    plain = speak("/v1/chat/completions", b"two", GOOD)
    assert plain.body == event("one ") + event("two") + b"data: [DONE]\n\n"
    asked = speak("/v1/chat/completions", b"two", [*GOOD, (b"x-ballast-ids", b"1")])
    found = marks.Marks()
    assert found.take(asked.body) == plain.body
    assert found.trail() == marks.Trail((0, 1), marks.Said(0, 7))


def test_goes_on_with_what_the_client_does_not_have() -> None:
    begun = {"path": "/v1/chat/completions", "body": "two", "ids": [0], "said": [0, 5]}
    answer = speak("/internal/resume", json.dumps(begun).encode(), GOOD)
    found = marks.Marks(marks.Trail((0,), marks.Said(0, 5)))
    rest = found.take(answer.body)
    assert marks.spoken(rest) == ("", 'two"')
    assert found.trail() == marks.Trail((0, 1), marks.Said(0, 9))


def test_a_resume_without_sense_or_secret_or_in_a_drain_is_refused() -> None:
    assert speak("/internal/resume", b"{}", GOOD).error["code"] == "invalid_resume"
    assert speak("/internal/resume", b"{}", []).error["code"] == "invalid_secret"
    assert speak("/internal/resume", b"{}", GOOD, draining=True).error["code"] == "draining"
