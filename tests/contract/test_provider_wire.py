"""Every row of the provider table against a fake that plays it: success, stream, tools, thinking,
usage, each error rule. The official clients judge the fakes, and so the codecs."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import anthropic
import openai as openai_sdk
import pytest
from msgspec import structs
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from models.provider import FOLDER, Provider, load
from models.thinking import EFFORT, ON
from serving.backends.base import BlockStream
from serving.backends.provider import ProviderBackend
from serving.codecs import openai
from serving.errors import Kind, UpstreamError
from serving.fakes.provider import ProviderSettings, start_provider
from serving.fakes.provider_answer import REASONING_TOKENS
from serving.fakes.rule_refusals import refusals
from serving.fakes.server import Served
from serving.offerings import accounts, offerings
from serving.records import Call, LatencyClass, Offering, Surface, Ticket, Usage
from serving.settings import Settings

ROWS = load(FOLDER)
KEY = "sk-wire"
WORDS = 6
TERMS = {"context_tokens": 100_000, "output_tokens_max": 4096, "currency": "USD",
         "input_per_mtok": "1", "output_per_mtok": "2", "as_of": "2026-11-26"}  # fmt: skip
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
every = pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
_ids = itertools.count(1)


class Line:
    """A provider of the table, played by a fake, and our way to it."""

    def __init__(self, row: Provider, served: Served, key_file: Path, rows: Path | None) -> None:
        self.row, self.served = row, served
        model = row.models[0].id if row.models else "any"
        access = {"id": row.id, "base_url": f"{served.url}/v1", "models": {model: TERMS},
                  "api_key_file": key_file}  # fmt: skip
        settings = self.settings = Settings.model_validate(
            {"providers": [access], "providers_dir": rows,
             "models": [{"name": "m", "offerings": [f"{row.id}/{model}"]}]}
        )  # fmt: skip
        bought = accounts(settings, {})
        self.offering: Offering = offerings(settings, bought)["m"][0]
        self.backend = ProviderBackend(bought, "gw")

    def ask(self, **changes: Any) -> BlockStream:
        """The answer to a chat."""
        body = {"model": "m", "messages": [{"role": "user", "content": "hello"}], **changes}
        parsed = openai.parse(Surface.CHAT, json.dumps(body).encode())
        now_s = asyncio.get_running_loop().time()
        call = Call(
            request_id=f"{next(_ids):032x}", surface=Surface.CHAT, tenant="t", model="m", alias="m",
            fields=parsed.fields, received_s=now_s, received_ms=0, first_token_by_s=now_s + 9,
            complete_by_s=now_s + 9, latency_class=LatencyClass.INTERACTIVE, prompt=parsed.prompt,
            size=1, prompt_tokens=5, max_tokens=parsed.max_tokens, stream=parsed.stream,
            wants_usage=parsed.wants_usage, affinity=0, n=parsed.n,
        )  # fmt: skip
        ticket = Ticket(call.request_id, 1, self.offering, "test", now_s, 5, 5, 0.0, True)
        return self.backend.stream(call, self.offering, ticket, now_s + 9)

    async def seen(self) -> list[dict[str, Any]]:
        """What the fake recorded."""
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"{self.served.url}/__requests") as response,
        ):
            return await response.json()

    async def plain(self, **changes: Any) -> tuple[dict[str, Any], Usage]:
        """A whole answer, judged by OpenAI's types."""
        block = await self.ask(**changes).__anext__()
        answer = json.loads(block.data)
        ChatCompletion.model_validate(answer)
        assert block.usage is not None
        return answer["choices"][0], block.usage

    async def stream(self, **changes: Any) -> tuple[dict[str, Any], Usage]:
        """A streamed answer put together, each event judged by OpenAI's types."""
        options = {"stream": True, "stream_options": {"include_usage": True}}
        heard: dict[str, Any] = {"content": "", "reasoning_content": "", "arguments": ""}
        usage: Usage | None = None
        async for block in self.ask(**options, **changes):
            usage = block.usage or usage
            for line in block.data.decode().split("\n\n"):
                if line.startswith("data: {"):
                    event = json.loads(line.removeprefix("data: "))
                    ChatCompletionChunk.model_validate(event)
                    _hear(heard, event)
        assert usage is not None
        return heard, usage


def _hear(heard: dict[str, Any], event: dict[str, Any]) -> None:
    for choice in event["choices"]:
        for name in ("content", "reasoning_content"):
            heard[name] += choice["delta"].get(name) or ""
        for call in choice["delta"].get("tool_calls") or ():
            heard["name"] = call["function"].get("name") or heard["name"]
            heard["arguments"] += call["function"].get("arguments") or ""
        heard["finish"] = choice["finish_reason"] or heard.get("finish")


def on_line(
    row: Provider, folder: Path, check: Callable[[Line], Awaitable[None]], rows: Path | None = None
) -> None:
    """Run a check against a provider."""
    key_file = folder / "key"
    key_file.write_text(KEY)

    async def run() -> None:
        served = await start_provider(ProviderSettings(key=KEY, row=row, output_tokens=WORDS))
        line = Line(row, served, key_file, rows)
        try:
            await check(line)
        finally:
            await line.backend.close()
            await served.close()

    asyncio.run(run())


def played(offering: Offering, scenario: str) -> Offering:
    """The offering, with the scenario that the fake is to play."""
    return structs.replace(offering, upstream_model=f"{offering.upstream_model}@{scenario}")


async def broken(stream: BlockStream) -> tuple[bytes, UpstreamError]:
    """What came before the error, and the error."""
    heard = b""
    try:
        async for block in stream:
            heard += block.data
    except UpstreamError as error:
        return heard, error
    raise AssertionError(f"no error after {heard!r}")


@every
def test_a_row_answers_whole_and_streamed_alike(row, tmp_path):
    async def check(line: Line) -> None:
        whole, usage = await line.plain()
        heard, counted = await line.stream()
        assert heard["content"] == whole["message"]["content"] != ""
        assert heard["finish"] == whole["finish_reason"] == "stop"
        assert counted == usage
        assert (usage.completion_tokens, usage.reasoning_tokens) == (WORDS, 0)
        assert usage.cached_tokens == usage.prompt_tokens // 4

    on_line(row, tmp_path, check)


@every
def test_a_row_stops_at_the_limit_and_says_so(row, tmp_path):
    async def check(line: Line) -> None:
        whole, usage = await line.plain(max_tokens=2)
        assert (whole["finish_reason"], usage.completion_tokens) == ("length", 2)

    on_line(row, tmp_path, check)


@every
def test_a_row_calls_tools_whole_and_streamed(row, tmp_path):
    async def check(line: Line) -> None:
        whole, _ = await line.plain(tools=[TOOL])
        heard, _ = await line.stream(tools=[TOOL])
        made = whole["message"]["tool_calls"][0]["function"]
        assert json.loads(heard["arguments"]) == json.loads(made["arguments"])
        assert heard["name"] == made["name"] == "weather"
        assert heard["finish"] == whole["finish_reason"] == "tool_calls"

    on_line(row, tmp_path, check)


@every
def test_a_row_thinks_where_it_can_be_asked_to(row, tmp_path):
    async def check(line: Line) -> None:
        wish: dict[str, Any] = {"reasoning_effort": "high"}
        if EFFORT not in line.offering.speaks:
            if ON not in line.offering.speaks:
                return
            wish = {"chat_template_kwargs": {"enable_thinking": True}}
        whole, usage = await line.plain(**wish)
        heard, counted = await line.stream(**wish)
        assert heard["reasoning_content"] == whole["message"]["reasoning_content"] != ""
        assert usage == counted
        assert usage.reasoning_tokens == REASONING_TOKENS
        assert usage.completion_tokens == WORDS + REASONING_TOKENS

    on_line(row, tmp_path, check)


@every
@pytest.mark.parametrize("is_stream", [False, True], ids=["plain", "stream"])
def test_each_error_rule_of_a_row_means_what_it_says(row, is_stream, tmp_path):
    async def check(line: Line) -> None:
        bought = line.offering
        for number, (rule, made) in enumerate(refusals(row)):
            line.offering = played(bought, f"rule:{number}")
            with pytest.raises(UpstreamError) as caught:
                await line.ask(stream=is_stream).__anext__()
            assert caught.value.kind is Kind(rule.kind), made.name

    on_line(row, tmp_path, check)


@every
def test_a_row_that_breaks_in_the_middle_is_cut_and_never_whole(row, tmp_path):
    async def check(line: Line) -> None:
        line.offering = played(line.offering, "eof_without_finish")
        heard, fault = await broken(line.ask(stream=True))
        assert fault.kind is Kind.CUT
        assert b"[DONE]" not in heard

    on_line(row, tmp_path, check)


@every
def test_an_error_event_after_content_ends_a_row_s_stream(row, tmp_path):
    async def check(line: Line) -> None:
        line.offering = played(line.offering, "error_after_content")
        heard, fault = await broken(line.ask(stream=True))
        assert fault.kind is Kind.SERVER_ERROR
        assert b"content" in heard
        assert b"[DONE]" not in heard

    on_line(row, tmp_path, check)


def test_the_official_client_of_anthropic_understands_the_fake(tmp_path):
    async def check(line: Line) -> None:
        asked: dict[str, Any] = {"model": "claude", "max_tokens": 64}
        text = {"type": "text", "text": "hello"}
        messages: Any = [{"role": "user", "content": [text]}]
        thinking: Any = {"type": "adaptive"}
        async with anthropic.AsyncAnthropic(
            api_key=KEY, base_url=line.served.url, max_retries=0
        ) as client:
            whole = await client.messages.create(messages=messages, thinking=thinking, **asked)
            async with client.messages.stream(
                messages=messages, thinking=thinking, **asked
            ) as stream:
                streamed = await stream.get_final_message()
            with pytest.raises(anthropic.APIStatusError) as caught:
                await client.messages.create(
                    messages=messages, **{**asked, "model": "claude@rule:0"}
                )
        assert (caught.value.status_code, caught.value.type) == (529, "overloaded_error")
        assert [b.to_dict() for b in whole.content] == [
            {k: v for k, v in b.to_dict().items() if k != "parsed_output"} for b in streamed.content
        ]
        assert whole.usage.output_tokens == streamed.usage.output_tokens
        ours, usage = await line.plain(reasoning_effort="high")
        texts = [block.text for block in whole.content if block.type == "text"]
        thoughts = [block.thinking for block in whole.content if block.type == "thinking"]
        assert ours["message"]["content"] == "".join(texts)
        assert ours["message"]["reasoning_content"] == "".join(thoughts)
        assert usage.completion_tokens == whole.usage.output_tokens

    on_line(ROWS["anthropic"], tmp_path, check)


def test_a_new_provider_is_one_file(tmp_path):
    """Nothing but the file: loaded, switched on, asked, and its own error rule obeyed."""
    text = """
id: corner-shop
name: Corner shop
jurisdiction: de
operator: Corner GmbH
base_url: https://api.corner.example/v1
auth: {header: api-key, scheme: ""}
api_key_env: CORNER_KEY
rename_fields: {seed: random_seed}
thinking: {field: chat_template_kwargs.enable_thinking, "on": true, "off": false}
error_rules: [{kind: quota_window, http: 429, code: day_is_over}]
models:
  - {id: small, context_tokens: 9000, input_per_mtok: "1", output_per_mtok: "2", source: shop,
     as_of: "2026-11-26"}
"""
    folder = tmp_path / "rows"
    folder.mkdir()
    (folder / "corner-shop.yaml").write_text(text)
    row = load(FOLDER, folder)["corner-shop"]

    async def check(line: Line) -> None:
        whole, usage = await line.plain(seed=7)
        heard, counted = await line.stream(chat_template_kwargs={"enable_thinking": False})
        assert (heard["content"], counted) == (whole["message"]["content"], usage)
        line.offering = played(line.offering, "rule:0")
        _, fault = await broken(line.ask(stream=True))
        assert fault.kind is Kind.QUOTA_WINDOW
        seen = await line.seen()
        assert [record["authorization"] for record in seen] == ["right"] * 3
        assert seen[0]["body"]["random_seed"] == 7
        assert seen[1]["body"]["chat_template_kwargs"] == {"enable_thinking": False}

    on_line(row, tmp_path, check, folder)


SENT = {
    "azure": {"path": "/v1/openai/deployments/gpt-6.1-sol/chat/completions"},
    "anthropic": {"path": "/v1/messages", "header": ("anthropic-version", "2023-06-01")},
    "gemini": {"path": "/v1/models/gemini-4-argon:generateContent"},
    "minimax-cn": {"body": {"reasoning_split": True, "max_completion_tokens": 9}},
    "openrouter": {"body": {"provider": {"require_parameters": True, "data_collection": "deny"}}},
    "mistral": {"body": {"tool_choice": "any", "random_seed": 5}},
    "zhipu-cn": {"body": {"reasoning_effort": "high", "max_tokens": 9}},
    "deepseek": {"body": {"reasoning_effort": "high"}},
    "openai": {"body": {"max_completion_tokens": 9, "reasoning_effort": "medium"}},
}


@pytest.mark.parametrize(("name", "expected"), SENT.items(), ids=SENT)
def test_a_row_is_asked_in_its_own_words(name, expected, tmp_path):
    async def check(line: Line) -> None:
        asked: dict[str, Any] = {"max_tokens": 9, "tools": [TOOL], "tool_choice": "required",
                                 "seed": 5, "reasoning_effort": "medium"}  # fmt: skip
        await line.plain(**{k: v for k, v in asked.items() if k in line.offering.speaks})
        (seen,) = await line.seen()
        assert seen["path"] == expected.get("path", "/v1/chat/completions")
        assert seen["authorization"] == "right"
        for member, value in expected.get("body", {}).items():
            assert seen["body"][member] == value
        if header := expected.get("header"):
            assert seen["headers"][header[0]] == header[1]

    on_line(ROWS[name], tmp_path, check)


def test_mistral_is_never_sent_what_it_refuses_and_tells_usage_all_the_same(tmp_path):
    async def check(line: Line) -> None:
        _, usage = await line.stream()
        (seen,) = await line.seen()
        assert "stream_options" not in seen["body"]
        assert usage.completion_tokens == WORDS

    on_line(ROWS["mistral"], tmp_path, check)


def test_a_provider_is_reached_through_its_own_proxy(tmp_path):
    async def check(line: Line) -> None:
        account = accounts(line.settings, {})[line.row.id]
        far = replace(account, base_url="http://far.invalid/v1", proxy=line.served.url)
        line.backend = ProviderBackend({line.row.id: far}, "gw")
        whole, _ = await line.plain()
        assert whole["message"]["content"]
        (seen,) = await line.seen()
        assert seen["headers"]["Host"] == "far.invalid"

    on_line(ROWS["deepseek"], tmp_path, check)


def test_the_official_client_of_openai_understands_a_row_s_fake(tmp_path):
    async def check(line: Line) -> None:
        async with openai_sdk.AsyncOpenAI(
            api_key=KEY, base_url=f"{line.served.url}/v1", max_retries=0
        ) as client:
            answer = await client.chat.completions.create(
                model="m", messages=[{"role": "user", "content": "hello"}]
            )
            ours, _ = await line.plain()
            assert ours["message"]["content"] == answer.choices[0].message.content
            with pytest.raises(openai_sdk.RateLimitError) as caught:
                await client.chat.completions.create(
                    model="m@rule:0", messages=[{"role": "user", "content": "hello"}]
                )
        assert caught.value.code == "insufficient_quota"

    on_line(ROWS["openai"], tmp_path, check)
