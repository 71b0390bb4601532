"""The official `openai` client against the real engine, through the gateway."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest

MODEL = "smollm2-135m-instruct"
CAPITAL: list[Any] = [{"role": "user", "content": "What is the capital of France?"}]
pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def client(stack: Any) -> Any:
    with openai.OpenAI(
        base_url=f"{stack.url}/v1", api_key=stack.key, max_retries=0, timeout=120
    ) as made:
        yield made


def test_chat_answers_from_real_weights(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model=MODEL, messages=CAPITAL, max_tokens=24, temperature=0
    )
    assert "Paris" in (answer.choices[0].message.content or "")
    assert answer.usage is not None
    assert answer.usage.completion_tokens <= 24


def test_a_stream_joins_to_the_plain_answer_and_tells_usage_when_asked(
    client: openai.OpenAI,
) -> None:
    plain = client.chat.completions.create(
        model=MODEL, messages=CAPITAL, max_tokens=16, temperature=0
    )
    events = list(
        client.chat.completions.create(
            model=MODEL, messages=CAPITAL, max_tokens=16, temperature=0,
            stream=True, stream_options={"include_usage": True},
        )
    )  # fmt: skip
    text = "".join(e.choices[0].delta.content or "" for e in events if e.choices)
    assert text == plain.choices[0].message.content
    assert [e.usage is not None for e in events][-1]
    assert events[-1].choices == []


def test_a_stream_tells_no_usage_unasked(client: openai.OpenAI) -> None:
    events = list(
        client.chat.completions.create(model=MODEL, messages=CAPITAL, max_tokens=4, stream=True)
    )
    assert all(event.choices for event in events)
    assert all(event.usage is None for event in events)


def test_a_named_tool_is_called_with_arguments_of_its_schema(client: openai.OpenAI) -> None:
    schema = {
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 20}},
        "required": ["city"],
        "additionalProperties": False,
    }
    answer = client.chat.completions.create(
        model=MODEL, messages=CAPITAL, max_tokens=64, temperature=0,
        tools=[{"type": "function", "function": {"name": "weather", "parameters": schema}}],
        tool_choice={"type": "function", "function": {"name": "weather"}},
    )  # fmt: skip
    calls = answer.choices[0].message.tool_calls
    assert calls
    called: Any = calls[0]
    assert called.function.name == "weather"
    assert set(json.loads(called.function.arguments)) == {"city"}


def test_a_tool_call_streams(client: openai.OpenAI) -> None:
    schema = {
        "type": "object",
        "properties": {"n": {"type": "integer", "minimum": 0, "maximum": 9}},
        "required": ["n"],
    }
    events = client.chat.completions.create(
        model=MODEL, messages=CAPITAL, max_tokens=64, temperature=0, stream=True,
        tools=[{"type": "function", "function": {"name": "pick", "parameters": schema}}],
        tool_choice={"type": "function", "function": {"name": "pick"}},
    )  # fmt: skip
    deltas = [e.choices[0].delta.tool_calls for e in events if e.choices]
    text = "".join(c.function.arguments or "" for d in deltas if d for c in d if c.function)
    assert "n" in json.loads(text)


def test_structured_output_follows_its_schema(client: openai.OpenAI) -> None:
    schema = {
        "type": "object",
        "properties": {"answer": {"type": "string", "enum": ["yes", "no"]}},
        "required": ["answer"],
        "additionalProperties": False,
    }
    answer = client.chat.completions.create(
        model=MODEL, messages=CAPITAL, max_tokens=32,
        response_format={
            "type": "json_schema",
            "json_schema": {"name": "verdict", "schema": schema, "strict": True},
        },
    )  # fmt: skip
    assert json.loads(answer.choices[0].message.content or "")["answer"] in ("yes", "no")


def test_logprobs_come_with_each_token(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model=MODEL, messages=CAPITAL, max_tokens=4, logprobs=True, top_logprobs=2
    )
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.content
    assert all(len(token.top_logprobs) == 2 for token in logprobs.content)


def test_completions_answer_too(client: openai.OpenAI) -> None:
    answer = client.completions.create(
        model=MODEL, prompt="The capital of France is", max_tokens=4, temperature=0
    )
    assert "Paris" in answer.choices[0].text


def test_models_are_listed(client: openai.OpenAI) -> None:
    assert MODEL in [model.id for model in client.models.list()]
    assert client.models.retrieve(MODEL).id == MODEL


def test_errors_map_to_the_clients_classes(client: openai.OpenAI) -> None:
    wrong = client.with_options(api_key="bl-wrong")
    with pytest.raises(openai.AuthenticationError):
        wrong.models.list()
    with pytest.raises(openai.NotFoundError, match="smollm2"):
        client.chat.completions.create(model="smollm2-135m-instuct", messages=CAPITAL)
    with pytest.raises(openai.BadRequestError, match="context"):
        client.chat.completions.create(model=MODEL, messages=CAPITAL, max_tokens=100_000)
    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(model=MODEL, messages=CAPITAL, temperature=-3)
    with pytest.raises(openai.NotFoundError, match="not embeddings"):
        client.embeddings.create(model=MODEL, input="x")
