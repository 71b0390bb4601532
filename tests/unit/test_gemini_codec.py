"""Google's dialect: what is asked, what its answers mean, blocks included."""

from __future__ import annotations

import json
from typing import Any

import pytest
from openai.types.chat import ChatCompletion

from models.provider import FOLDER, load
from serving.codecs import coverage, gemini, gemini_stream
from serving.codecs.failures import classify
from serving.errors import Kind, UpstreamError
from serving.fakes.gemini_answer import SIGNATURE, GeminiAnswer
from serving.wire.sse import StreamFault

ROW = load(FOLDER)["gemini"]
USER = {"role": "user", "content": "hi"}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}


def body(make, answer_max=0, **fields) -> dict[str, Any]:
    call = make.chat(**fields)
    offering = make.offering(speaks=coverage.spoken(ROW, ROW.models[0]))
    return json.loads(gemini.body(call, offering, ROW, answer_max))


def test_a_chat_becomes_turns_and_instructions(make):
    made = body(make, messages=[{"role": "system", "content": "short"}, USER,
                                {"role": "assistant", "content": "yes"}, USER])  # fmt: skip
    assert made["systemInstruction"] == {"parts": [{"text": "short"}]}
    assert [turn["role"] for turn in made["contents"]] == ["user", "model", "user"]


def test_the_configuration_takes_its_names(make):
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}
    made = body(make, temperature=0.5, top_p=0.9, seed=3, n=2, stop=["a"], max_tokens=8,
                response_format=form, reasoning_effort="xhigh")["generationConfig"]  # fmt: skip
    assert made == {
        "temperature": 0.5, "topP": 0.9, "seed": 3, "candidateCount": 2, "stopSequences": ["a"],
        "maxOutputTokens": 8, "responseMimeType": "application/json",
        "responseJsonSchema": {"type": "object"},
        "thinkingConfig": {"thinkingLevel": "high", "includeThoughts": True},
    }  # fmt: skip


def test_a_bound_of_ours_holds_where_the_caller_set_none(make):
    assert body(make, answer_max=50)["generationConfig"]["maxOutputTokens"] == 50
    assert body(make, answer_max=50, max_tokens=5)["generationConfig"]["maxOutputTokens"] == 5


def test_a_tool_s_result_names_its_function_and_the_signature_returns(make):
    signed = {**CALL, "extra_content": {"google": {"thought_signature": SIGNATURE}}}
    made = body(make, tools=[TOOL], messages=[
        USER, {"role": "assistant", "content": None, "tool_calls": [signed]},
        {"role": "tool", "tool_call_id": "c1", "content": "42"},
        {"role": "tool", "tool_call_id": "c1", "content": '{"x": 1}'},
    ])  # fmt: skip
    (part,) = made["contents"][1]["parts"]
    assert part == {"functionCall": {"name": "f", "args": {"a": 1}}, "thoughtSignature": SIGNATURE}
    told = [part["functionResponse"]["response"] for part in made["contents"][2]["parts"]]
    assert told == [{"result": "42"}, {"x": 1}]


@pytest.mark.parametrize(
    ("choice", "said"),
    [("auto", None), ("none", {"mode": "NONE"}), ("required", {"mode": "ANY"}),
     ({"type": "function", "function": {"name": "f"}},
      {"mode": "ANY", "allowedFunctionNames": ["f"]})],
    ids=str,
)  # fmt: skip
def test_a_choice_of_tools_becomes_a_mode(make, choice, said):
    config = body(make, tools=[TOOL], tool_choice=choice).get("toolConfig", {})
    assert config.get("functionCallingConfig") == said


def test_a_result_without_its_call_is_refused(make):
    with pytest.raises(UpstreamError, match="follow the call") as caught:
        body(make, messages=[USER, {"role": "tool", "tool_call_id": "x", "content": "1"}])
    assert caught.value.kind is Kind.BAD_REQUEST


def test_the_path_names_model_and_stream(make):
    assert gemini.path(make.chat()) == "/models/{model}:generateContent"
    streamed = make.chat(stream=True)
    assert gemini.path(streamed) == "/models/{model}:streamGenerateContent?alt=sse"


def answer(**changes) -> bytes:
    made = GeminiAnswer({"contents": [{"parts": [{"text": "hi"}]}]}, "gemini", 5)
    return json.dumps(made.plain() | changes).encode()


@pytest.mark.parametrize(
    ("reason", "finish"),
    [("STOP", "stop"), ("MAX_TOKENS", "length"), ("OTHER", "stop"),
     *((reason, "content_filter") for reason in sorted(gemini_stream.BLOCKED))],
)  # fmt: skip
def test_every_finish_reason_has_its_word(reason, finish):
    candidate = {"content": {"parts": [{"text": "x"}]}, "finishReason": reason}
    made = json.loads(gemini_stream.plain(answer(candidates=[candidate])))
    ChatCompletion.model_validate(made)
    assert made["choices"][0]["finish_reason"] == finish


def test_thoughts_are_billed_as_output():
    used = {"promptTokenCount": 10, "cachedContentTokenCount": 4, "candidatesTokenCount": 7,
            "thoughtsTokenCount": 3, "toolUsePromptTokenCount": 2}  # fmt: skip
    made = json.loads(gemini_stream.plain(answer(usageMetadata=used)))["usage"]
    assert (made["prompt_tokens"], made["completion_tokens"]) == (12, 10)
    assert made["prompt_tokens_details"]["cached_tokens"] == 4
    assert made["completion_tokens_details"]["reasoning_tokens"] == 3


def test_a_blocked_prompt_is_a_refusal_of_content_whole_and_streamed(make):
    blocked = json.dumps({"promptFeedback": {"blockReason": "SAFETY"}}).encode()
    with pytest.raises(StreamFault) as caught:
        gemini_stream.plain(blocked)
    assert classify(ROW.error_rules, 200, caught.value.body, {}).kind is Kind.CONTENT_FILTER
    said = gemini_stream.Translator(make.call()).feed(b"data: " + blocked + b"\r\n\r\n")
    error = said.removeprefix(b"data: ").strip()
    assert classify(ROW.error_rules, 200, error, {}).kind is Kind.CONTENT_FILTER


def test_googles_errors_tell_their_status_and_how_long_to_stay_away():
    details = [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34s"}]
    error = {"code": 429, "message": "quota", "status": "RESOURCE_EXHAUSTED", "details": details}
    for told in ({"error": error}, [{"error": error}]):
        found = classify(ROW.error_rules, 429, json.dumps(told).encode(), {})
        assert (found.kind, found.retry_after_s) == (Kind.RATE_LIMIT, 34.0)
    bad_key = {
        "error": {"code": 400, "message": "API key not valid.", "status": "INVALID_ARGUMENT"}
    }
    assert classify(ROW.error_rules, 400, json.dumps(bad_key).encode(), {}).kind is Kind.KEY_DEAD
