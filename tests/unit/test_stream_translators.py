"""Streams of every dialect: whatever the cuts, the same events; the same answer as a whole one."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.chat import ChatCompletionChunk

from serving.codecs.dialects import DIALECTS
from serving.fakes.anthropic_answer import AnthropicAnswer
from serving.fakes.gemini_answer import GeminiAnswer
from serving.fakes.minimax_answer import MinimaxAnswer
from serving.fakes.provider_answer import Answer
from serving.wire.sse import Cutter, StreamFault

KINDS = ("text", "tools", "reasoning")
USER = {"messages": [{"role": "user", "content": "hi"}]}


def spoken(dialect: str, kind: str) -> tuple[Answer, bytes]:
    """The fake's answer and its stream as bytes, in that dialect's line ends and end marks."""
    made: Answer
    if dialect == "anthropic":
        made = AnthropicAnswer(USER, "m", 6)
        made.kind = kind  # type: ignore[assignment]
        events = [{"type": "ping"}, *made.chunks(), {"type": "message_stop"}]
        lines = [
            f"event: {e['type']}\ndata: {json.dumps(e, ensure_ascii=False)}\n\n" for e in events
        ]
    elif dialect == "gemini":
        made = GeminiAnswer({"contents": [{"parts": [{"text": "hi"}]}]}, "m", 6)
        made.kind = kind  # type: ignore[assignment]
        lines = [f"data: {json.dumps(e, ensure_ascii=False)}\r\n\r\n" for e in made.chunks()]
    else:
        made = MinimaxAnswer("chat", USER, "m", 6) if dialect == "minimax" else _listed(USER)
        made.kind = kind  # type: ignore[assignment]
        events = [*made.chunks(), made.usage_chunk()]
        lines = [": wait\n\n", *(f"data: {json.dumps(e)}\n\n" for e in events), "data: [DONE]\n\n"]
    return made, "".join(lines).encode()


class _Listed(Answer):
    """Mistral's: thinking in parts of the content."""

    def chunks(self) -> list[dict[str, Any]]:
        events = super().chunks()
        for event in events:
            delta = event["choices"][0]["delta"]
            if "reasoning_content" in delta:
                inner = [{"type": "text", "text": delta.pop("reasoning_content")}]
                delta["content"] = [{"type": "thinking", "thinking": inner}]
            elif delta.get("content"):
                delta["content"] = [{"type": "text", "text": delta["content"]}]
        return events


def _listed(body: dict[str, Any]) -> Answer:
    return _Listed("chat", body, "m", 6)


def translated(make, dialect: str, pieces: list[bytes]) -> bytes:
    translator = DIALECTS[dialect].translator(make.call(stream=True))
    return b"".join(map(translator.feed, pieces)) + translator.end()


DIALECT_NAMES = sorted(name for name, dialect in DIALECTS.items() if dialect.translator)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dialect", DIALECT_NAMES)
@given(cuts=st.lists(st.integers(0, 6000), max_size=40))
def test_any_cut_of_the_bytes_gives_the_same_events(make, dialect, kind, cuts):
    _, stream = spoken(dialect, kind)
    at = sorted({0, len(stream), *(cut % (len(stream) + 1) for cut in cuts)})
    pieces = [stream[a:b] for a, b in itertools.pairwise(at)]
    assert translated(make, dialect, pieces) == translated(make, dialect, [stream])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dialect", DIALECT_NAMES)
def test_byte_by_byte_is_the_same_too(make, dialect, kind):
    _, stream = spoken(dialect, kind)
    pieces = [bytes([byte]) for byte in stream]
    assert translated(make, dialect, pieces) == translated(make, dialect, [stream])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dialect", DIALECT_NAMES)
def test_a_stream_says_what_the_whole_answer_says(make, dialect, kind):
    made, stream = spoken(dialect, kind)
    said = translated(make, dialect, [stream])
    heard: dict[str, Any] = {"content": "", "reasoning_content": "", "arguments": "", "finish": ""}
    for line in said.decode().split("\n\n"):
        if line.startswith("data: {"):
            event = json.loads(line.removeprefix("data: "))
            ChatCompletionChunk.model_validate(event)
            for choice in event["choices"]:
                for name in ("content", "reasoning_content"):
                    heard[name] += choice["delta"].get(name) or ""
                for call in choice["delta"].get("tool_calls") or ():
                    heard["arguments"] += call["function"].get("arguments") or ""
                heard["finish"] = choice["finish_reason"] or heard["finish"]
    assert heard["content"] == ("" if kind == "tools" else "".join(made.words))
    assert heard["reasoning_content"] == ("".join(made.thoughts) if kind == "reasoning" else "")
    assert heard["finish"] == ("tool_calls" if kind == "tools" else "stop")
    if kind == "tools":
        assert json.loads(heard["arguments"]) == {"city": "上海", "days": 3}
    assert said.endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize("dialect", DIALECT_NAMES)
def test_the_cutter_takes_usage_and_end_from_a_translated_stream(make, dialect):
    made, stream = spoken(dialect, "reasoning")
    cutter = Cutter(keep_usage=False)
    cutter.feed(translated(make, dialect, [stream]))
    assert cutter.has_done
    assert cutter.finish == "stop"
    assert cutter.usage.completion_tokens == made.usage()["completion_tokens"]
    assert cutter.usage.prompt_tokens == made.prompt_tokens


@pytest.mark.parametrize("dialect", DIALECT_NAMES)
def test_a_stream_cut_short_has_no_end_marker(make, dialect):
    _, stream = spoken(dialect, "text")
    said = translated(make, dialect, [stream[: len(stream) // 2]])
    assert b"[DONE]" not in said
    assert b'"finish_reason":"stop"' not in said


@pytest.mark.parametrize("dialect", DIALECT_NAMES)
@given(junk=st.binary(max_size=200))
def test_no_bytes_whatever_raise_anything_but_a_fault(make, dialect, junk):
    for raw in (junk, b"data: {" + junk + b"}\n\n", b'data: {"choices":[' + junk + b"]}\n\n"):
        try:
            translated(make, dialect, [raw])
        except StreamFault:
            continue


ODD = [
    {"type": 5}, {"type": "content_block_delta"}, {"type": "content_block_start", "index": "x"},
    {"type": "message_delta", "delta": 5, "usage": []}, {"type": "message_start", "message": None},
    {"candidates": 5}, {"candidates": [{"content": {"parts": [{"functionCall": {}}, 5]}}]},
    {"candidates": [{"index": -1, "finishReason": "STOP"}], "usageMetadata": 7},
    {"choices": [{"delta": None}]}, {"choices": [5], "base_resp": 5}, {"choices": None},
    {"choices": [{"delta": {"content": [5, {"type": "thinking", "thinking": "x"}]}}]},
]  # fmt: skip


@pytest.mark.parametrize("dialect", DIALECT_NAMES)
@pytest.mark.parametrize("event", ODD, ids=str)
def test_events_of_odd_shape_are_survived(make, dialect, event):
    data = json.dumps(event).encode()
    translated(make, dialect, [b"data: " + data + b"\n\n"])
    try:
        DIALECTS[dialect].plain(data)
    except StreamFault:
        return
