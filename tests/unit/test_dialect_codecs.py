"""Requests of other dialects as chats, and chats' answers in other words, however they are cut."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import anthropic
import pytest
from anthropic.types import Message, RawMessageStreamEvent
from hypothesis import given
from hypothesis import strategies as st
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from serving.codecs import messages, responses
from serving.codecs.messages_out import Messages
from serving.codecs.responses_out import Responses
from serving.errors import CallerError

ASKED = b'{"model":"m","input":"hi"}'
assert anthropic.__version__


def chat_of(**body: Any) -> dict[str, Any]:
    given = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]} | body
    found: dict[str, Any] = json.loads(messages.to_chat(json.dumps(given).encode()))
    return found


def refusal(codec: Any, data: bytes) -> CallerError | None:
    """Why a body is refused; a chat that is not JSON fails."""
    try:
        json.loads(codec.to_chat(data))
    except CallerError as error:
        return error
    return None


def test_a_system_prompt_stop_words_and_switches_find_their_place() -> None:
    chat = chat_of(
        system=[{"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}},
                {"type": "text", "text": "b"}],
        stop_sequences=["END"], top_k=5, thinking={"type": "disabled"}, stream=True,
    )  # fmt: skip
    assert chat["messages"][0] == {"role": "system", "content": "a\nb"}
    assert (chat["stop"], chat["top_k"]) == (["END"], 5)
    assert chat["chat_template_kwargs"] == {"enable_thinking": False}
    assert chat["stream_options"] == {"include_usage": True}


def test_a_picture_becomes_a_data_url_and_earlier_thoughts_are_dropped() -> None:
    source = {"type": "base64", "media_type": "image/png", "data": "QUJD"}
    chat = chat_of(messages=[
        {"role": "user", "content": [{"type": "image", "source": source},
                                     {"type": "text", "text": "what is it?"}]},
        {"role": "assistant", "content": [{"type": "thinking", "thinking": "hm", "signature": ""},
                                          {"type": "text", "text": "a cat"}]},
    ])  # fmt: skip
    first, second = chat["messages"]
    assert first["content"][0]["image_url"]["url"] == "data:image/png;base64,QUJD"
    assert second == {"role": "assistant", "content": "a cat"}


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        ({"type": "auto"}, {"tool_choice": "auto"}),
        ({"type": "any"}, {"tool_choice": "required"}),
        ({"type": "none"}, {"tool_choice": "none"}),
        (
            {"type": "tool", "name": "f", "disable_parallel_tool_use": True},
            {"tool_choice": {"type": "function", "function": {"name": "f"}},
             "parallel_tool_calls": False},
        ),
    ],
)  # fmt: skip
def test_each_choice_of_tools_is_said_in_our_words(
    choice: dict[str, Any], said: dict[str, Any]
) -> None:
    chat = chat_of(tools=[{"name": "f", "input_schema": {"type": "object"}}], tool_choice=choice)
    assert said.items() <= chat.items()


@pytest.mark.parametrize(
    "body",
    [
        {"max_tokens": None},
        {"messages": "hi"},
        {"messages": [{"role": "system", "content": "x"}]},
        {"messages": [{"role": "user", "content": [{"type": "document"}]}]},
        {"container": "x"},
        {"thinking": {"type": "sometimes"}},
        {"tools": [{"type": "bash_20250124", "name": "bash"}]},
        {"tools": [{"name": "f"}], "tool_choice": {"type": "maybe"}},
    ],
)
def test_what_cannot_be_said_as_a_chat_is_refused(body: dict[str, Any]) -> None:
    with pytest.raises(CallerError):
        chat_of(**body)


@pytest.mark.parametrize("codec", [messages, responses])
@given(st.binary(max_size=60))
def test_any_body_is_translated_or_refused(codec: Any, data: bytes) -> None:
    refused = refusal(codec, data)
    assert refused is None or refused.code in ("invalid_json", "invalid_encoding", "invalid_value")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "role", "content", "text", "name", "input"]), inner
        )
    ),
    max_leaves=8,
)


@pytest.mark.parametrize("codec", [messages, responses])
@given(st.dictionaries(
    st.sampled_from(["model", "messages", "input", "system", "tools", "tool_choice", "thinking",
                     "max_tokens", "text", "reasoning", "instructions", "stop_sequences"]),
    JSON,
))  # fmt: skip
def test_any_members_are_translated_or_refused(codec: Any, body: dict[str, Any]) -> None:
    refused = refusal(codec, json.dumps(body).encode())
    assert refused is None or refused.message


def delta(**said: Any) -> dict[str, Any]:
    finish = said.pop("finish", None)
    stop = said.pop("stop", None)
    choice = {"index": 0, "delta": said, "finish_reason": finish, "stop_reason": stop}
    return {"id": "chatcmpl-7", "model": "m", "choices": [choice]}


def call(number: int, **function: Any) -> dict[str, Any]:
    more = {"id": f"call_{number}", "type": "function"} if "name" in function else {}
    return {"tool_calls": [{"index": number, "function": function} | more]}


STREAM: list[Any] = [
    delta(role="assistant", content=""),
    delta(reasoning_content="let "), delta(reasoning_content="me see"),
    delta(content="你"), delta(content="好"),
    delta(**call(0, name="f", arguments="")), delta(**call(0, arguments='{"a"')),
    delta(**call(0, arguments=": 1}")), delta(**call(1, name="g", arguments="{}")),
    delta(finish="tool_calls"),
    {"id": "chatcmpl-7", "model": "m", "choices": [],
     "usage": {"prompt_tokens": 9, "completion_tokens": 7, "total_tokens": 16,
               "prompt_tokens_details": {"cached_tokens": 4}}},
]  # fmt: skip
RAW = [b"data: " + json.dumps(event).encode() + b"\n\n" for event in STREAM] + [b"data: [DONE]\n\n"]


def said(writer: Any, blocks: list[bytes]) -> list[dict[str, Any]]:
    out = b"".join(map(writer.feed, blocks)) + writer.end()
    events = []
    for raw in out.split(b"\n\n")[:-1]:
        name, _, data = raw.partition(b"\n")
        event = json.loads(data.removeprefix(b"data: "))
        assert name == b"event: " + event["type"].encode()
        events.append(event)
    return events


def blocks(cuts: list[int]) -> list[bytes]:
    """The stream's events joined into blocks at these places."""
    places = sorted({0, len(RAW), *(cut % len(RAW) for cut in cuts)})
    return [b"".join(RAW[a:b]) for a, b in pairwise(places)]


@given(st.lists(st.integers(0, 50), max_size=6))
def test_a_message_stream_is_the_same_however_its_events_come(cuts: list[int]) -> None:
    events = said(Messages(), blocks(cuts))
    assert events == said(Messages(), RAW)
    adapter: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)
    for event in events:
        adapter.validate_python(event)
    starts = [e["content_block"]["type"] for e in events if e["type"] == "content_block_start"]
    assert starts == ["thinking", "text", "tool_use", "tool_use"]
    assert [e["index"] for e in events if e["type"] == "content_block_stop"] == [0, 1, 2, 3]
    last = events[-2]
    assert last["delta"]["stop_reason"] == "tool_use"
    assert last["usage"] == {
        "input_tokens": 5, "cache_read_input_tokens": 4, "cache_creation_input_tokens": 0,
        "output_tokens": 7,
    }  # fmt: skip


@given(st.lists(st.integers(0, 50), max_size=6))
def test_a_responses_stream_is_the_same_however_its_events_come(cuts: list[int]) -> None:
    events = said(Responses(ASKED, 1), blocks(cuts))
    assert events == said(Responses(ASKED, 1), RAW)
    adapter: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
    for event in events:
        adapter.validate_python(event)
    final = Response.model_validate(events[-1]["response"])
    assert [item.type for item in final.output] == [
        "reasoning", "message", "function_call", "function_call",
    ]  # fmt: skip
    assert final.output_text == "你好"
    assert final.usage is not None
    assert final.usage.total_tokens == 16


def whole() -> bytes:
    calls = [
        {"id": "call_0", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}},
        {"id": "call_1", "type": "function", "function": {"name": "g", "arguments": "{}"}},
    ]
    message = {"role": "assistant", "content": "你好", "reasoning_content": "let me see",
               "tool_calls": calls}  # fmt: skip
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls"}
    body = {"id": "chatcmpl-7", "model": "m", "choices": [choice], "usage": STREAM[-1]["usage"]}
    return json.dumps(body).encode()


def test_a_plain_message_holds_what_its_stream_said() -> None:
    found = Message.model_validate_json(Messages().plain(200, whole()))
    assert [block.type for block in found.content] == ["thinking", "text", "tool_use", "tool_use"]
    assert found.content[2].input == {"a": 1}  # type: ignore[union-attr]
    assert (found.stop_reason, found.usage.output_tokens) == ("tool_use", 7)


def test_a_plain_response_is_what_its_stream_ended_with() -> None:
    plain = json.loads(Responses(ASKED, 1).plain(200, whole()))
    assert plain == said(Responses(ASKED, 1), RAW)[-1]["response"]


@pytest.mark.parametrize(
    ("finish", "stop", "reason"),
    [
        ("stop", None, ("end_turn", None)), ("stop", "END", ("stop_sequence", "END")),
        ("stop", 151643, ("end_turn", None)), ("length", None, ("max_tokens", None)),
        ("content_filter", None, ("refusal", None)),
    ],
)  # fmt: skip
def test_why_it_stopped_is_said_in_anthropics_words(
    finish: str, stop: Any, reason: tuple[str, str | None]
) -> None:
    events = [delta(content="x"), delta(finish=finish, stop=stop)]
    told = said(Messages(), [b"data: " + json.dumps(e).encode() + b"\n\n" for e in events])[-2]
    assert (told["delta"]["stop_reason"], told["delta"]["stop_sequence"]) == reason


@pytest.mark.parametrize("make", [Messages, lambda: Responses(ASKED, 1)])
def test_nothing_follows_an_error(make: Any) -> None:
    broken = b'data: {"error":{"message":"it broke","code":"x"}}\n\n'
    events = said(make(), [RAW[0], RAW[3], broken, RAW[4], RAW[-1]])
    assert events[-1]["type"] in ("error", "response.failed")
    assert "it broke" in json.dumps(events[-1])


def test_members_that_have_no_hash_are_refused_like_others() -> None:
    message = {"role": "user", "content": [{"type": {}}]}
    said = {"role": "user", "content": "x"}
    bodies: list[tuple[Any, dict[str, Any]]] = [
        (responses, {"model": "m", "input": [message]}),
        (responses, {"model": "m", "input": [{"role": [], "content": "x"}]}),
        (messages, {"model": "m", "max_tokens": 1, "messages": [said],
                    "tools": [{"name": "f", "input_schema": {}}], "tool_choice": {"type": {}}}),
    ]  # fmt: skip
    for codec, body in bodies:
        with pytest.raises(CallerError):
            codec.to_chat(json.dumps(body).encode())


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 422, 429, 500, 503])
def test_errors_keep_their_message(status: int) -> None:
    body = b'{"error":{"message":"because","type":"t","param":null,"code":"c"}}'
    told = json.loads(Messages().plain(status, body))
    assert told["type"] == "error"
    assert told["error"]["message"] == "because"
    assert Responses(ASKED, 1).plain(status, body) == body
