"""The official clients of Anthropic and OpenAI's Responses against a real gateway."""

from __future__ import annotations

import json
from typing import Any

import anthropic
import openai
import pytest
from anthropic import AsyncAnthropic
from openai import AsyncOpenAI

HELLO: list[Any] = [{"role": "user", "content": "hello"}]
WEATHER = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


def claude(stack, kit, key: str = "main") -> AsyncAnthropic:
    return AsyncAnthropic(base_url=stack.url, api_key=kit.key_of(key), max_retries=0)


def gpt(stack, kit) -> AsyncOpenAI:
    return AsyncOpenAI(base_url=f"{stack.url}/v1", api_key=kit.key_of("main"), max_retries=0)


def test_a_message_is_answered_and_counted_as_the_chat_it_is(run, kit):
    async def check(stack) -> None:
        async with claude(stack, kit) as client:
            answer = await client.messages.create(model="m", max_tokens=8, messages=HELLO)
        (block,) = answer.content
        assert block.type == "text"
        assert block.text == kit.text_of(kit.MESSAGES, 8)
        assert (answer.role, answer.stop_reason, answer.model) == ("assistant", "max_tokens", "m")
        row = (await stack.rows(1))[0]
        assert answer.usage.output_tokens == row.usage.completion_tokens == 8
        assert answer.usage.input_tokens == row.usage.prompt_tokens
        assert (row.surface, row.status) == ("chat", 200)

    run(check, engines=[kit.engine()])


def test_a_large_message_of_an_x_api_key_is_answered(run, kit):
    """Over 32 KiB the wire asks whose room a body takes before it is whole."""

    async def check(stack) -> None:
        body = {"model": "m", "max_tokens": 8,
                "messages": [{"role": "user", "content": "x" * 40_960}]}  # fmt: skip
        key = kit.key_of("main")
        reply = await stack.post("/v1/messages", body, None, x_api_key=key)
        assert (reply.status, reply.json["type"]) == (200, "message"), reply.body
        refused = await stack.post("/v1/messages", body, None, x_api_key="no key of ours")
        assert refused.status == 401

    run(check, engines=[kit.engine()])


def test_a_messages_stream_joins_to_the_plain_answer(run, kit):
    async def check(stack) -> None:
        async with claude(stack, kit) as client:
            asked = {"model": "m", "max_tokens": 30, "messages": HELLO, "system": "be brief"}
            async with client.messages.stream(**asked) as stream:
                texts = [text async for text in stream.text_stream]
                final = await stream.get_final_message()
            plain = await client.messages.create(**asked)
        assert len(texts) > 5
        assert "".join(texts) == final.content[0].text == plain.content[0].text
        assert final.stop_reason == plain.stop_reason == "max_tokens"
        assert final.usage.output_tokens == plain.usage.output_tokens == 30
        assert final.id.startswith("msg_")

    run(check, engines=[kit.engine()])


@pytest.mark.parametrize("is_stream", [False, True])
def test_a_tool_of_anthropics_form_is_called_and_its_result_taken(run, kit, is_stream):
    async def check(stack) -> None:
        tool: Any = {"name": "weather", "description": "of a city", "input_schema": WEATHER}
        asked: Any = {"model": "m", "max_tokens": 60, "messages": HELLO, "tools": [tool],
                      "tool_choice": {"type": "any"}}  # fmt: skip
        async with claude(stack, kit) as client:
            if is_stream:
                async with client.messages.stream(**asked) as stream:
                    answer = await stream.get_final_message()
            else:
                answer = await client.messages.create(**asked)
            (call,) = [block for block in answer.content if block.type == "tool_use"]
            assert answer.stop_reason == "tool_use"
            assert call.input == {"city": "上海", "days": 3}
            result = {"type": "tool_result", "tool_use_id": call.id, "content": "rain"}
            asked["messages"] = [
                *HELLO, {"role": "assistant", "content": answer.content},
                {"role": "user", "content": [result]},
            ]  # fmt: skip
            await client.messages.create(**asked | {"tool_choice": {"type": "auto"}})
        sent = (await stack.seen("alpha"))[-1]["body"]
        assert sent["tools"][0]["function"]["parameters"] == WEATHER
        _, said, told = sent["messages"]
        assert json.loads(said["tool_calls"][0]["function"]["arguments"]) == call.input
        assert told == {"role": "tool", "tool_call_id": call.id, "content": "rain"}

    run(check, providers={"alpha": kit.provider()})


def test_refusals_come_in_anthropics_form(run, kit):
    async def check(stack) -> None:
        async with claude(stack, kit) as client:
            with pytest.raises(anthropic.NotFoundError) as unknown:
                await client.messages.create(model="none", max_tokens=8, messages=HELLO)
            assert unknown.value.body["error"]["type"] == "not_found_error"
            tool: Any = {"type": "web_search_20250305", "name": "web_search"}
            with pytest.raises(anthropic.BadRequestError, match=r"tools.*Anthropic only"):
                await client.messages.create(model="m", max_tokens=8, messages=HELLO, tools=[tool])
        async with claude(stack, kit, "nobody") as client:
            with pytest.raises(anthropic.AuthenticationError):
                await client.messages.create(model="m", max_tokens=8, messages=HELLO)

    run(check, engines=[kit.engine()])


def test_a_stream_that_breaks_says_so_in_the_clients_own_words(run, kit):
    async def check(stack) -> None:
        await stack.control(
            stack.providers["alpha"], script=["eof_without_finish", "eof_without_finish"]
        )
        async with claude(stack, kit) as client:
            with pytest.raises(anthropic.APIError):  # noqa: PT012 - the stream breaks midway
                async with client.messages.stream(
                    model="m", max_tokens=60, messages=HELLO
                ) as stream:
                    async for _ in stream:
                        pass
        async with gpt(stack, kit) as client:
            events = [
                e async for e in await client.responses.create(model="m", input="hi", stream=True)
            ]
        assert events[-1].type == "response.failed"
        assert events[-1].response.error is not None

    run(check, providers={"alpha": kit.provider()})


def test_a_response_is_answered_without_memory(run, kit):
    async def check(stack) -> None:
        async with gpt(stack, kit) as client:
            answer = await client.responses.create(
                model="m", input="hello", max_output_tokens=8, instructions="be brief"
            )
        assert (answer.status, answer.object) == ("incomplete", "response")
        assert answer.incomplete_details is not None
        assert answer.incomplete_details.reason == "max_output_tokens"
        messages = [{"role": "system", "content": "be brief"}, *HELLO]
        assert answer.output_text == kit.text_of(messages, 8)
        row = (await stack.rows(1))[0]
        assert answer.usage is not None
        assert answer.usage.output_tokens == row.usage.completion_tokens == 8

    run(check, engines=[kit.engine()])


def test_a_responses_stream_is_in_order_and_joins_to_the_plain_answer(run, kit):
    async def check(stack) -> None:
        async with gpt(stack, kit) as client:
            asked: Any = {"model": "m", "input": "hello"}
            plain = await client.responses.create(**asked)
            async with client.responses.stream(**asked) as stream:
                events = [event async for event in stream]
                final = await stream.get_final_response()
        kinds = [event.type for event in events]
        assert kinds[:4] == [
            "response.created", "response.in_progress", "response.output_item.added",
            "response.content_part.added",
        ]  # fmt: skip
        assert kinds[-1] == "response.completed"
        assert [e.sequence_number for e in events] == list(range(len(events)))
        assert final.output_text == plain.output_text
        assert final.usage == plain.usage

    run(check, engines=[kit.engine(output_tokens=20)])


@pytest.mark.parametrize("is_stream", [False, True])
def test_a_function_is_called_through_responses(run, kit, is_stream):
    async def check(stack) -> None:
        tool: Any = {"type": "function", "name": "weather", "parameters": WEATHER, "strict": False}
        asked: Any = {"model": "m", "input": HELLO, "tools": [tool]}
        async with gpt(stack, kit) as client:
            if is_stream:
                async with client.responses.stream(**asked) as stream:
                    answer = await stream.get_final_response()
            else:
                answer = await client.responses.create(**asked)
            (call,) = [item for item in answer.output if item.type == "function_call"]
            assert json.loads(call.arguments) == {"city": "上海", "days": 3}
            output = {"type": "function_call_output", "call_id": call.call_id, "output": "rain"}
            again = [*HELLO, call.model_dump(exclude_none=True), output]
            await client.responses.create(**asked | {"input": again})
        sent = (await stack.seen("alpha"))[-1]["body"]["messages"]
        assert [m["role"] for m in sent] == ["user", "assistant", "tool"]
        assert sent[1]["tool_calls"][0]["id"] == sent[2]["tool_call_id"] == call.call_id

    run(check, providers={"alpha": kit.provider()})


def test_thoughts_are_told_apart_in_both_dialects(run, kit):
    async def check(stack) -> None:
        async with claude(stack, kit) as client:
            answer = await client.messages.create(model="m", max_tokens=30, messages=HELLO)
            assert [block.type for block in answer.content] == ["thinking", "text"]
            async with client.messages.stream(model="m", max_tokens=30, messages=HELLO) as stream:
                final = await stream.get_final_message()
            assert final.content[0].thinking == answer.content[0].thinking
            assert final.content[1].text == answer.content[1].text
        async with gpt(stack, kit) as client:
            asked: Any = {"model": "m", "input": "hi"}
            answer = await client.responses.create(**asked)
            assert [item.type for item in answer.output] == ["reasoning", "message"]
            events = [e.type async for e in await client.responses.create(**asked, stream=True)]
        assert "response.reasoning_text.delta" in events

    run(check, providers={"alpha": kit.provider(scenario="ok_reasoning")})


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"store": True}, "store"),
        ({"background": True}, "background"),
        ({"tools": [{"type": "web_search"}]}, "tools"),
        ({"truncation": "auto"}, "truncation"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input.0"),
        ({"text": {"format": {"type": "grammar"}}}, "text.format"),
    ],
)
def test_what_needs_memory_or_has_no_meaning_is_refused_by_name(run, kit, body, param):
    async def check(stack) -> None:
        async with gpt(stack, kit) as client:
            with pytest.raises(openai.BadRequestError) as refused:
                await client.responses.create(**{"model": "m", "input": "hi"} | body)
        assert refused.value.param == param

    run(check, engines=[kit.engine()])


def test_a_repeated_message_is_replayed_in_its_own_dialect(run, kit):
    async def check(stack) -> None:
        async with claude(stack, kit) as client:
            head = {"Idempotency-Key": "once"}
            asked: Any = {"model": "m", "max_tokens": 8, "messages": HELLO, "extra_headers": head}
            first = await client.messages.create(**asked)
            again = await client.messages.create(**asked)
        assert again.content == first.content
        assert [r.attempts for r in await stack.rows(2)] == [1, 0]

    run(check, engines=[kit.engine()])
