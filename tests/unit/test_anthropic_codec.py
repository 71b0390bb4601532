"""Anthropic's dialect: what is asked, what its answers mean, and every cut of its streams."""

from __future__ import annotations

import json
from typing import Any

import pytest
from anthropic.types import Message, RawMessageStreamEvent
from anthropic.types.message_create_params import MessageCreateParams
from pydantic import TypeAdapter

from models.provider import FOLDER, load
from serving.codecs import anthropic, anthropic_stream, coverage
from serving.errors import Kind, UpstreamError
from serving.fakes.anthropic_answer import AnthropicAnswer
from serving.wire.sse import StreamFault

ROW = load(FOLDER)["anthropic"]
OPUS, HAIKU = ROW.models[0], ROW.models[2]
EVENT: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)
PARAMS: TypeAdapter[Any] = TypeAdapter(MessageCreateParams)
USER = {"role": "user", "content": "hi"}
TOOL = {"type": "function", "function": {"name": "f", "description": "d", "strict": True,
                                         "parameters": {"type": "object"}}}  # fmt: skip


def body(make, sold=OPUS, answer_max=0, **fields) -> dict[str, Any]:
    call = make.chat(**fields)
    offering = make.offering(speaks=coverage.spoken(ROW, sold), output_tokens_max=4096)
    made = json.loads(anthropic.body(call, offering, ROW, answer_max))
    PARAMS.validate_python(made)
    return made


def refused(make, **fields) -> UpstreamError:
    with pytest.raises(UpstreamError) as caught:
        body(make, **fields)
    assert caught.value.kind is Kind.BAD_REQUEST
    assert not caught.value.sent
    return caught.value


def test_instructions_stand_apart_and_neighbours_become_one(make):
    made = body(make, messages=[
        {"role": "system", "content": "be short"}, {"role": "developer", "content": "be kind"},
        USER, {"role": "user", "content": [{"type": "text", "text": "there"}]},
    ])  # fmt: skip
    assert made["system"] == "be short\n\nbe kind"
    (message,) = made["messages"]
    assert [block["text"] for block in message["content"]] == ["hi", "there"]


def test_a_round_of_tools_is_told_in_its_words(make):
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}
    made = body(make, tools=[TOOL], messages=[
        USER, {"role": "assistant", "content": "wait", "reasoning_content": "hm",
               "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "42"}, USER,
    ])  # fmt: skip
    assert [m["role"] for m in made["messages"]] == ["user", "assistant", "user"]
    assert made["messages"][1]["content"] == [
        {"type": "text", "text": "wait"},
        {"type": "tool_use", "id": "c1", "name": "f", "input": {"a": 1}},
    ]
    result, text = made["messages"][2]["content"]
    assert result["tool_use_id"] == "c1"
    assert result["content"] == [{"type": "text", "text": "42"}]
    assert text["text"] == "hi"
    assert made["tools"] == [
        {"name": "f", "description": "d", "strict": True, "input_schema": {"type": "object"}}
    ]


@pytest.mark.parametrize(
    ("choice", "said"),
    [("none", {"type": "none"}), ("required", {"type": "any"}), ("auto", None),
     ({"type": "function", "function": {"name": "f"}}, {"type": "tool", "name": "f"})],
    ids=str,
)  # fmt: skip
def test_a_choice_of_tools_is_translated(make, choice, said):
    assert body(make, HAIKU, tools=[TOOL], tool_choice=choice).get("tool_choice") == said


def test_one_tool_at_a_time_can_be_asked_for(make):
    made = body(make, tools=[TOOL], parallel_tool_calls=False)
    assert made["tool_choice"] == {"type": "auto", "disable_parallel_tool_use": True}


@pytest.mark.parametrize(
    ("limits", "answer_max", "most"),
    [({}, 0, 4096), ({}, 100, 100), ({"max_tokens": 7}, 100, 7), ({"max_tokens": 99_999}, 0, 4096)],
    ids=str,
)
def test_an_answer_is_always_bounded(make, limits, answer_max, most):
    assert body(make, answer_max=answer_max, **limits)["max_tokens"] == most


def test_pictures_schema_effort_and_stops_are_said_its_way(make):
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}
    made = body(make, messages=[{"role": "user", "content": [picture]}], response_format=form,
                reasoning_effort="minimal", stop="END", stream=True)  # fmt: skip
    source = {"type": "base64", "media_type": "image/png", "data": "AAAA"}
    assert made["messages"][0]["content"] == [{"type": "image", "source": source}]
    assert made["output_config"]["effort"] == "low"
    assert made["output_config"]["format"]["schema"] == {"type": "object"}
    assert (made["stop_sequences"], made["stream"]) == (["END"], True)


@pytest.mark.parametrize(
    "fields",
    [
        {"messages": [USER, {"role": "assistant", "content": "Once"}]},
        {"messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}]},
        {"messages": [{"role": "critic", "content": "x"}]},
        {"messages": ["hi"]},
        {"response_format": {"type": "json_object"}},
        {"tools": [{"type": "web_search"}]},
        {"tools": [TOOL], "tool_choice": {"type": "allowed"}},
        {"stop": [1]},
    ],
    ids=str,
)
def test_what_it_cannot_say_is_refused_by_name(make, fields):
    name = list(fields)[-1]
    assert name in refused(make, **fields).message


def test_opus_is_no_candidate_for_a_forced_tool_or_a_temperature(make):
    wanted = coverage.needs(make.chat(tools=[TOOL], tool_choice="required").fields, frozenset())
    assert not wanted <= coverage.spoken(ROW, OPUS)
    assert wanted <= coverage.spoken(ROW, HAIKU)
    warm = coverage.needs(make.chat(temperature=0.2).fields, frozenset())
    assert not warm <= coverage.spoken(ROW, HAIKU)


def answer(**changes) -> dict[str, Any]:
    made = AnthropicAnswer({"messages": [USER], "max_tokens": 9}, "claude", 5)
    return made.plain() | changes


@pytest.mark.parametrize(("reason", "finish"), anthropic_stream.FINISH.items())
def test_every_stop_reason_has_its_finish(reason, finish):
    whole = answer(stop_reason=reason)
    Message.model_validate(whole)
    made = json.loads(anthropic_stream.plain(json.dumps(whole).encode()))
    assert made["choices"][0]["finish_reason"] == finish


def test_cached_and_written_tokens_are_part_of_the_prompt():
    used = {"input_tokens": 10, "cache_read_input_tokens": 30, "cache_creation_input_tokens": 5,
            "output_tokens": 9, "output_tokens_details": {"thinking_tokens": 4}}  # fmt: skip
    made = json.loads(anthropic_stream.plain(json.dumps(answer(usage=used)).encode()))["usage"]
    assert (made["prompt_tokens"], made["completion_tokens"]) == (45, 9)
    assert made["prompt_tokens_details"]["cached_tokens"] == 30
    assert made["completion_tokens_details"]["reasoning_tokens"] == 4


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"type":"error","error":{}}', b"\xff"])
def test_what_is_no_answer_is_a_fault(body):
    with pytest.raises(StreamFault):
        anthropic_stream.plain(body)


@pytest.mark.parametrize("kind", ["text", "tools", "reasoning"])
def test_the_fake_s_events_are_the_official_package_s(kind):
    made = AnthropicAnswer({"messages": [USER]}, "claude", 5)
    made.kind = kind
    Message.model_validate(made.plain())
    for event in made.chunks():
        EVENT.validate_python(event)
