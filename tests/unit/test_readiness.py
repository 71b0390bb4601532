"""The smoke probe: what is asked, and which answers will do."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import msgspec
import pytest

from serving.brief import brief
from serving.engine.in_process import post
from serving.engine.phases import News
from serving.engine.probe_spec import Probe
from serving.engine.readiness import NotReadyError, fault, question
from serving.engine.serve_rest import AppStatus
from serving.engine.spec import SpecError, engine_spec
from serving.engine.starting import prove

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
GENERATE = frozenset({"generate"})


def chat(content: str | None, **message: Any) -> bytes:
    choice = {"message": {"role": "assistant", "content": content, **message}}
    return json.dumps({"choices": [choice]}).encode()


def judged(probe: Probe, body: bytes, status: int = 200, tasks: str = "generate") -> str:
    return fault(probe, question(probe, "m", frozenset({tasks})), status, body)


@pytest.mark.parametrize(
    ("expect", "good", "bad"),
    [
        ("non_empty", "hi", " \n"),
        ("contains:Paris", "It is Paris.", "L'Etoile"),
        ("matches:(?i)par[iy]s", "PARIS", "Rome"),
        ("equals:Paris is it.", " Paris is it.\n", "Paris is it"),
        ("json", '{"a": 1}', "{'a': 1}"),
    ],
)
def test_a_text_must_be_what_is_expected(expect: str, good: str, bad: str) -> None:
    probe = Probe(prompt="?", expect=expect)
    assert judged(probe, chat(good)) == ""
    reason = judged(probe, chat(bad))
    assert reason
    assert bad.strip()[:10] in reason


def test_thoughts_count_as_an_answer() -> None:
    probe = Probe(expect="contains:Paris")
    assert judged(probe, chat(None, reasoning="The capital is Paris")) == ""
    assert judged(probe, chat(None)) != ""


@pytest.mark.parametrize(
    ("expect", "vector", "words"),
    [
        ("non_empty", [0.1, -0.2], ""),
        ("dimension:3", [0.1, 0.2, 0.3], ""),
        ("dimension", [0.1], ""),
        ("dimension:1024", [0.1, 0.2], "of 2 numbers"),
        ("non_empty", [0.0, 0.0], "nothing but zeros"),
        ("non_empty", [], "nothing but zeros"),
        ("contains:x", [0.1], "not to be expected of an embedding"),
    ],
)
def test_a_vector_must_be_one(expect: str, vector: list[float], words: str) -> None:
    body = json.dumps({"data": [{"embedding": vector}]}).encode()
    reason = judged(Probe(expect=expect), body, tasks="embed")
    assert (words in reason) if words else reason == ""


def test_a_number_that_is_none_is_no_vector() -> None:
    body = b'{"data": [{"embedding": [1e999, 1]}]}'
    assert judged(Probe(), body, tasks="embed") != ""


@pytest.mark.parametrize(("scores", "is_good"), [((0.9, 0.1), True), ((0.1, 0.9), False)])
def test_the_better_document_must_score_higher(scores: tuple[float, ...], is_good: bool) -> None:
    probe = Probe(prompt="capital?", expect="ordered", documents=("Paris", "cheese"))
    rows = [{"index": i, "relevance_score": s} for i, s in enumerate(scores)]
    body = json.dumps({"results": rows[::-1]}).encode()
    assert (judged(probe, body, tasks="score") == "") is is_good


@pytest.mark.parametrize(
    ("body", "status"),
    [(b"{}", 200), (b"not json", 200), (b'{"choices":[]}', 200), (b'{"choices":[{}]}', 200),
     (b'{"error":{"message":"oh"}}', 500)],
)  # fmt: skip
def test_any_other_answer_is_a_fault_and_no_crash(body: bytes, status: int) -> None:
    assert judged(Probe(), body, status) != ""


def test_the_question_follows_the_kind() -> None:
    def path(kind: Any, task: str) -> str:
        return question(Probe(kind=kind), "m", frozenset({task})).path

    assert path("auto", "generate") == "/v1/chat/completions"
    assert path("auto", "embed") == "/v1/embeddings"
    assert path("auto", "classify") == "/v1/rerank"
    assert path("completion", "generate") == "/v1/completions"
    asked = question(Probe(template={"enable_thinking": False}), "m", GENERATE).body
    assert asked["chat_template_kwargs"] == {"enable_thinking": False}
    assert (asked["temperature"], asked["seed"]) == (0, 0)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"expect": "maybe"}, "none of the known"),
        ({"expect": "matches:("}, "unterminated"),
        ({"expect": "ordered"}, "two documents"),
        ({"expects": "x"}, "unknown field"),
        ({"deadline_s": 0}, "deadline_s"),
    ],
)
def test_a_bad_probe_refuses_the_spec(fields: dict[str, Any], words: str) -> None:
    spec = {"model_name": "m", "model_path": "/m", "secret_path": "/s", "probe": fields}
    with pytest.raises(SpecError, match=words):
        engine_spec(spec)


def test_a_spec_with_a_probe_survives_its_way_through_serve() -> None:
    fields = {"model_name": "m", "model_path": "/m", "secret_path": "/s",
              "probe": {"prompt": "q", "expect": "contains:Paris"},
              "adapters": [{"name": "a", "source": "/a"}]}  # fmt: skip
    spec = engine_spec(fields)
    assert engine_spec(json.loads(json.dumps(msgspec.to_builtins(spec)))) == spec


async def answer_paris(
    scope: Message, receive: Callable[[], Awaitable[Message]], send: Any
) -> None:
    """An app that reads its request as vLLM's does, and answers in pieces."""
    message = await receive()
    asked = json.loads(message["body"])
    assert asked["model"] == "m"
    body = chat("Paris, of course")
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body[:9], "more_body": True})
    await send({"type": "http.response.body", "body": body[9:]})


def test_an_engine_is_asked_inside_its_own_process() -> None:
    answer = asyncio.run(post(answer_paris, "/v1/chat/completions", {"model": "m"}))
    assert (answer.status, b"Paris" in answer.body) == (200, True)
    asyncio.run(prove(answer_paris, Probe(expect="contains:Paris"), "m", GENERATE))


def test_an_engine_that_answers_nonsense_is_not_ready() -> None:
    probe = Probe(prompt="What is the capital of Italy?", expect="contains:Rome")
    with pytest.raises(NotReadyError, match=r"capital of Italy.*Paris, of course.*contains:Rome"):
        asyncio.run(prove(answer_paris, probe, "m", GENERATE))


def test_an_engine_that_does_not_answer_is_not_ready() -> None:
    async def silent(scope: Message, receive: Any, send: Any) -> None:
        await receive()
        await receive()

    with pytest.raises(NotReadyError, match="no answer within"):
        asyncio.run(prove(silent, Probe(deadline_s=0.05), "m", GENERATE))


TRACEBACK = """\
A replica failed to start with exception. Retrying 2 more time(s). Error:
\x1b[36mray::ServeReplica:m:EngineReplica.initialize_and_get_metadata()\x1b[39m
Traceback (most recent call last):
  File "replica.py", line 10, in start
serving.engine.readiness.NotReadyError: m is not ready: smoke probe '?': 'x' is not 'json'
"""


def test_the_reason_is_the_last_line_of_a_traceback() -> None:
    assert brief(TRACEBACK) == "NotReadyError: m is not ready: smoke probe '?': 'x' is not 'json'"
    assert brief("") == ""


def status(state: str, message: str = "", *addresses: str, replicas: str = "") -> AppStatus:
    return AppStatus("m", state, message, tuple(replicas.split()), addresses)


def test_every_failed_start_is_told_with_its_reason() -> None:
    news = News()
    assert news.events(status("DEPLOYING", replicas="STARTING")) == [("loading", {"model": "m"})]
    failed = status("DEPLOYING", TRACEBACK, replicas="STARTING")
    (told,) = news.events(failed)
    assert told == ("start_failed", {"model": "m", "reason": brief(TRACEBACK)})
    assert news.events(failed) == []
    again = status("DEPLOYING", TRACEBACK.replace("2 more", "1 more"), replicas="STARTING")
    assert [event for event, _ in news.events(again)] == ["start_failed"]
    (last,) = news.events(status("DEPLOY_FAILED", TRACEBACK.replace("A replica", "It")))
    assert last == ("failed", {"model": "m", "reason": brief(TRACEBACK)})
    assert news.named("failed") == {"m"}


def test_a_second_replica_that_fails_is_told_while_the_first_serves() -> None:
    news = News()
    news.events(status("RUNNING", "", "http://1"))
    (told,) = news.events(status("RUNNING", TRACEBACK, "http://1"))
    assert told[0] == "start_failed"
    assert news.named("ready") == {"m"}
