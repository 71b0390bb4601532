"""Overflow to providers of another dialect: the caller sees OpenAI's, and the books are right."""

from __future__ import annotations

from decimal import Decimal

import pytest

NATIVE = {
    "anthropic": {"dialect": "anthropic", "auth": {"header": "x-api-key", "scheme": ""},
                  "error_shape": "anthropic"},
    "gemini": {"dialect": "gemini", "auth": {"header": "x-goog-api-key", "scheme": ""},
               "error_shape": "google"},
    "minimax": {"dialect": "minimax", "set_fields": {"reasoning_split": True}},
}  # fmt: skip
LONG = [{"role": "user", "content": "word " * 600}]
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
native = pytest.mark.parametrize("dialect", NATIVE)


def row_of(kit, dialect):
    """A row of that dialect; prompts above 500 tokens cost ten times as much."""
    made = kit.row("alpha")
    model = made["models"][0] | {"output_tokens_max": 512}
    model["exceptions"] = [
        {
            "above_tokens": 500,
            "input_per_mtok": "17",
            "output_per_mtok": "53",
            "cached_per_mtok": "3",
        }
    ]
    return made | NATIVE[dialect] | {"models": [model]}


@native
def test_a_call_that_overflows_is_answered_in_our_dialect_and_billed_by_size(run, kit, dialect):
    async def check(stack) -> None:
        for messages, times in ((kit.MESSAGES, 1), (LONG, 10)):
            whole = await stack.chat(messages=messages, max_tokens=8)
            streamed = await stack.chat(
                messages=messages, max_tokens=8, stream=True,
                stream_options={"include_usage": True},
            )  # fmt: skip
            assert whole.status == streamed.status == 200
            told = whole.json["usage"]
            assert whole.json["choices"][0]["message"]["content"] == streamed.text
            assert [e["usage"] for e in streamed.events[:-1] if e.get("usage")] == [told]
            cached = told["prompt_tokens_details"]["cached_tokens"]
            due = times * (
                (told["prompt_tokens"] - cached) * Decimal("1.7")
                + cached * Decimal("0.3") + told["completion_tokens"] * Decimal("5.3")
            )  # fmt: skip
            for reply in (whole, streamed):
                request_id = reply.headers["x-request-id"]
                await kit.eventually(
                    lambda one=request_id: [a for a in stack.attempts(one) if a.end]
                )
                (attempt,) = stack.attempts(request_id)
                assert abs(attempt.end.charge.micro - due) <= 1

    run(check, providers={"alpha": kit.provider()}, rows=[row_of(kit, dialect)])


@native
def test_tools_pass_through_both_ways(run, kit, dialect):
    async def check(stack) -> None:
        first = await stack.chat(tools=[TOOL])
        said = first.json["choices"][0]["message"]
        (call,) = said["tool_calls"]
        result = {"role": "tool", "tool_call_id": call["id"], "content": "18 degrees"}
        second = await stack.chat(tools=[TOOL], messages=[*kit.MESSAGES, said, result])
        assert second.status == 200
        assert second.json["choices"][0]["message"]["content"]

    run(check, providers={"alpha": kit.provider()}, rows=[row_of(kit, dialect)])


@native
def test_a_break_after_content_is_told_and_never_hidden(run, kit, dialect):
    async def check(stack) -> None:
        reply = await stack.chat(stream=True)
        last = reply.events[-1]
        assert last != "[DONE]"
        assert last["error"]["code"] == "stream_interrupted"

    run(check, providers={"alpha": kit.provider(scenario="error_after_content")},
        rows=[row_of(kit, dialect)])  # fmt: skip
