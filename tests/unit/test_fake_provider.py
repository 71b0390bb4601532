"""The misbehaving provider: each scenario as its real model shows it on the wire."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import openai
import pytest

from serving.fakes.provider import ProviderSettings, start_provider
from serving.fakes.provider_answer import Answer
from serving.fakes.refusals import REFUSALS
from serving.fakes.scenarios import SCENARIOS
from serving.fakes.server import Served

KEY = "sk-right"
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {}}}]


@dataclass
class Seen:
    """What a client saw of one answer."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    data: bytes = b""
    error: BaseException | None = None

    @property
    def events(self) -> list[Any]:
        rows = [line[5:].strip() for line in self.data.splitlines() if line.startswith(b"data:")]
        return [row.decode() if row == b"[DONE]" else json.loads(row) for row in rows]

    @property
    def chunks(self) -> list[dict[str, Any]]:
        return [event for event in self.events if event != "[DONE]"]

    @property
    def text(self) -> str:
        choices = [choice for chunk in self.chunks for choice in chunk.get("choices", ())]
        return "".join(choice["delta"].get("content") or "" for choice in choices)

    @property
    def finishes(self) -> list[str]:
        choices = [choice for chunk in self.chunks for choice in chunk.get("choices", ())]
        return [choice["finish_reason"] for choice in choices if choice["finish_reason"]]

    @property
    def usages(self) -> list[dict[str, Any]]:
        return [chunk["usage"] for chunk in self.chunks if chunk.get("usage")]


class Client:
    """Asks one provider."""

    def __init__(self, provider: Served, session: aiohttp.ClientSession) -> None:
        self.url = provider.url
        self.port = provider.port
        self.session = session

    async def ask(self, scenario: str = "", *, quiet_s: float = 5.0, **changes: Any) -> Seen:
        """Read an answer until it ends, breaks, or is silent for `quiet_s`."""
        seen = Seen()
        headers = {"Authorization": f"Bearer {KEY}"}
        if scenario:
            headers["x-fake-scenario"] = scenario
        try:
            request = self.session.post(
                f"{self.url}/v1/chat/completions",
                json=body(**changes),
                headers=headers,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(sock_read=quiet_s),
            )
            async with request as response:
                seen.status, seen.headers = response.status, dict(response.headers)
                async for part in response.content.iter_any():
                    seen.data += part
        except (aiohttp.ClientError, TimeoutError) as error:
            seen.error = error
        return seen

    async def control(self, **fields: Any) -> dict[str, Any]:
        async with self.session.post(f"{self.url}/__control", json=fields) as response:
            return {"status": response.status, **await response.json()}

    async def records(self) -> list[dict[str, Any]]:
        async with self.session.get(f"{self.url}/__requests") as response:
            return await response.json()

    async def settled_records(self) -> list[dict[str, Any]]:
        """The records once no request is open."""
        while True:
            records = await self.records()
            if all(record["outcome"] != "open" for record in records):
                return records
            await asyncio.sleep(0.005)


def body(**changes: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": "hello there"}]
    asked = {"model": "m", "messages": messages, "stream": True, **changes}
    if asked["stream"]:
        asked.setdefault("stream_options", {"include_usage": True})
    return asked


RIGHT = Answer("chat", body(), "m", 12)
RIGHT_TEXT = "".join(RIGHT.words)


def run(check: Callable[[Client], Awaitable[None]], **settings: Any) -> None:
    """Run `check` against a fresh provider in a fresh loop."""

    async def main() -> None:
        provider = await start_provider(ProviderSettings(key=KEY, **settings))
        try:
            async with aiohttp.ClientSession() as session, asyncio.timeout(10):
                await check(Client(provider, session))
        finally:
            await provider.close()

    asyncio.run(main())


def ask_once(scenario: str, **changes: Any) -> Seen:
    """One answer of a fresh provider."""
    answers: list[Seen] = []

    async def check(client: Client) -> None:
        answers.append(await client.ask(scenario, **changes))

    run(check)
    return answers[0]


def test_the_openai_client_gets_text_stream_tools_and_reasoning():
    async def check(client):
        async with openai.AsyncOpenAI(base_url=f"{client.url}/v1", api_key=KEY) as sdk:
            create = sdk.chat.completions.create
            plain = await create(**body(stream=False))
            assert plain.choices[0].message.content == RIGHT_TEXT
            assert plain.usage.prompt_tokens_details.cached_tokens == RIGHT.prompt_tokens // 4
            stream = await create(**body())
            parts = [chunk async for chunk in stream]
            assert parts[-1].usage.total_tokens == plain.usage.total_tokens
            tools = await create(**body(stream=False, tools=TOOLS))
            call = tools.choices[0].message.tool_calls[0]
            assert json.loads(call.function.arguments) == {"city": "上海", "days": 3}
            thinking = {"thinking": {"type": "enabled"}}
            reasoned = await create(**body(stream=False), extra_body=thinking)
            assert reasoned.choices[0].message.reasoning_content == "".join(RIGHT.thoughts)
            assert reasoned.usage.completion_tokens_details.reasoning_tokens == 4

    run(check)


def test_tool_calls_and_reasoning_stream_in_fragments():
    tools = ask_once("", tools=TOOLS)
    deltas = [chunk["choices"][0]["delta"] for chunk in tools.chunks if chunk["choices"]]
    calls = [delta["tool_calls"][0]["function"] for delta in deltas if "tool_calls" in delta]
    assert json.loads("".join(call["arguments"] for call in calls)) == {"city": "上海", "days": 3}
    assert tools.finishes == ["tool_calls"]
    reasoned = ask_once("ok_reasoning")
    deltas = [chunk["choices"][0]["delta"] for chunk in reasoned.chunks if chunk["choices"]]
    assert [delta["reasoning_content"] for delta in deltas if "reasoning_content" in delta]
    assert reasoned.text == RIGHT_TEXT


def test_completions_have_text_instead_of_deltas():
    async def check(client):
        async with openai.AsyncOpenAI(base_url=f"{client.url}/api/paas/v4", api_key=KEY) as sdk:
            plain = await sdk.completions.create(model="m", prompt="hello", max_tokens=5)
            stream = await sdk.completions.create(model="m", prompt="hello", stream=True)
            text = "".join([chunk.choices[0].text async for chunk in stream])
        assert text.startswith(plain.choices[0].text)
        assert plain.choices[0].finish_reason == "length"
        assert plain.usage.completion_tokens == 5

    run(check)


@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda refusal: refusal.name)
def test_a_refusal_is_its_status_body_and_headers(refusal):
    seen = ask_once(refusal.name)
    assert seen.status == refusal.status
    assert json.loads(seen.data) == refusal.payload
    assert refusal.headers.items() <= seen.headers.items()


def test_unavailable_recovers_after_the_stated_number():
    async def check(client):
        statuses = [(await client.ask("unavailable_then_ok:3")).status for _ in range(5)]
        assert statuses == [503, 503, 503, 200, 200]

    run(check)


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
def test_an_error_can_hide_in_status_200(stream):
    seen = ask_once("error_in_200", stream=stream)
    assert seen.status == 200
    assert "error" in json.loads(seen.data)


@pytest.mark.parametrize(
    ("scenario", "words"), [("error_before_content", 0), ("error_after_content", 3)]
)
def test_an_error_event_ends_the_stream_after_so_many_words(scenario, words):
    seen = ask_once(scenario)
    assert (seen.status, seen.error) == (200, None)
    assert seen.text == "".join(RIGHT.words[:words])
    assert "error" in seen.events[-1]
    assert ask_once(scenario, stream=False).status == 500


@pytest.mark.parametrize(
    ("scenario", "is_done"), [("eof_without_finish", False), ("done_without_finish", True)]
)
def test_a_stream_can_end_in_good_order_without_a_finish(scenario, is_done):
    seen = ask_once(scenario)
    assert seen.error is None
    assert (seen.finishes, seen.usages) == ([], [])
    assert ("[DONE]" in seen.events) is is_done


@pytest.mark.parametrize("scenario", ["eof_without_finish", "reset_mid_chunk"])
def test_a_plain_answer_can_break_off_half_way(scenario):
    seen = ask_once(scenario, stream=False)
    assert isinstance(seen.error, aiohttp.ClientError)
    assert seen.data


@pytest.mark.parametrize(
    ("scenario", "status", "events"),
    [
        ("timeout", 0, 0),
        ("role_then_stall", 200, 1),
        ("content_then_stall", 200, 4),
        ("stall_between_tools", 200, 3),
    ],
)
def test_a_stall_sends_so_much_and_then_nothing(scenario, status, events):
    seen = ask_once(scenario, quiet_s=0.4)
    assert isinstance(seen.error, TimeoutError)
    assert (seen.status, len(seen.events)) == (status, events)


def test_comments_only_never_becomes_an_event():
    async def check(client):
        headers = {"Authorization": f"Bearer {KEY}", "x-fake-scenario": "comments_only"}
        url = f"{client.url}/v1/chat/completions"
        async with client.session.post(url, json=body(), headers=headers) as response:
            lines = [await response.content.readline() for _ in range(6)]
        assert set(lines) == {b": keep-alive\n", b"\n"}

    run(check)


def test_comments_can_come_before_the_answer():
    seen = ask_once("comments_then_ok:2")
    assert seen.data.startswith(b": ")
    assert seen.text == RIGHT_TEXT


def test_characters_and_lines_are_cut_across_segments_with_crlf_and_no_space():
    seen = ask_once("split_utf8")
    assert b"\r\n\r\ndata:{" in seen.data
    assert b"data: " not in seen.data
    assert seen.text == f"压舱石🙂é{RIGHT_TEXT}"
    assert seen.usages == [RIGHT.usage()]


@pytest.mark.parametrize(
    ("scenario", "status", "words"),
    [("reset_at_connect", 0, 0), ("reset_after_headers", 200, 0), ("reset_mid_chunk", 200, 3)],
)
def test_a_reset_is_a_real_one(scenario, status, words):
    seen = ask_once(scenario)
    assert isinstance(seen.error, aiohttp.ClientError)
    assert seen.status == status
    whole = [line for line in seen.data.split(b"\n\n")[:-1] if line]
    told = Seen(data=b"\n\n".join(whole))
    assert told.text == "".join(RIGHT.words[:words])


def test_a_reset_reaches_the_socket_as_econnreset():
    async def check(client):
        reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
        data = json.dumps(body()).encode()
        head = (
            "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nx-fake-scenario: reset_at_connect\r\n"
            f"Authorization: Bearer {KEY}\r\nContent-Length: {len(data)}\r\n\r\n"
        )
        writer.write(head.encode() + data)
        with pytest.raises(ConnectionResetError):
            await reader.read()
        writer.close()

    run(check)


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize("scenario", ["slow_drip", "gzip_body"])
def test_odd_encodings_carry_the_right_answer(scenario, stream):
    seen = ask_once(scenario, stream=stream)
    if stream:
        assert (seen.text, seen.finishes, seen.usages) == (RIGHT_TEXT, ["stop"], [RIGHT.usage()])
    else:
        assert json.loads(seen.data) == RIGHT.plain()


def test_a_gzip_body_is_gzip_on_the_wire():
    async def check(client):
        headers = {"Authorization": f"Bearer {KEY}", "Accept-Encoding": "identity"}
        url = f"{client.url}/v1/chat/completions"
        async with (
            aiohttp.ClientSession(auto_decompress=False) as raw,
            raw.post(url, json=body(model="m@gzip_body"), headers=headers) as response,
        ):
            assert response.headers["Content-Encoding"] == "gzip"
            assert gzip.decompress(await response.read()).endswith(b"[DONE]\n\n")

    run(check)


def test_usage_can_be_missing_doubled_or_in_every_event():
    assert ask_once("no_usage").usages == []
    assert ask_once("duplicate_final").usages == [RIGHT.usage()] * 2
    assert ask_once("duplicate_final").finishes == ["stop"] * 2
    every = ask_once("usage_in_every_chunk")
    assert len(every.usages) == len(every.chunks)
    assert every.usages[-1] == RIGHT.usage()
    assert "usage" not in json.loads(ask_once("no_usage", stream=False).data)
    assert ask_once("ok", stream_options=None).usages == []


def test_odd_first_and_last_events_come_as_told():
    empty = ask_once("empty_choices_first")
    assert (empty.chunks[0]["choices"], empty.text) == ([], RIGHT_TEXT)
    assert ask_once("content_filter_finish").finishes == ["content_filter"]
    assert ask_once("think_inline").text == f"<think>{''.join(RIGHT.thoughts)}</think>{RIGHT_TEXT}"
    assert ask_once("identical_chunks:30").text == RIGHT.words[0] * 30


def test_a_huge_line_is_one_event_of_five_mebibytes():
    seen = ask_once("huge_line")
    assert max(map(len, seen.data.split(b"\n"))) > 5 * 1024 * 1024
    assert seen.finishes == ["stop"]


def test_a_page_for_people_comes_with_status_200():
    seen = ask_once("wrong_content_type")
    assert (seen.status, seen.headers["Content-Type"][:9]) == (200, "text/html")


def test_an_unknown_field_is_refused_and_known_ones_are_not():
    assert ask_once("unknown_field_rejected", top_k=5).status == 400
    assert ask_once("unknown_field_rejected").status == 200


def test_a_redirect_points_to_another_host_name_and_following_it_is_recorded():
    async def check(client):
        seen = await client.ask("redirect")
        assert seen.status == 307
        assert seen.headers["Location"].startswith("http://localhost:")
        path = "/__redirected/v1/chat/completions"
        async with client.session.post(client.url + path, json={}) as response:
            assert response.status == 418
        assert (await client.records())[-1]["path"] == path

    run(check)


@pytest.mark.parametrize(
    ("given", "judged"), [(None, "absent"), ("Bearer wrong", "wrong"), (f"Bearer {KEY}", "right")]
)
def test_the_key_is_checked_and_never_kept(given, judged):
    async def check(client):
        headers = {"Authorization": given} if given else {}
        url = f"{client.url}/v1/chat/completions"
        async with client.session.post(url, json=body(), headers=headers) as response:
            assert response.status == (200 if judged == "right" else 401)
            await response.read()
        records = await client.records()
        assert records[0]["authorization"] == judged
        assert records[0]["body"] == body()
        assert KEY not in json.dumps(records)

    run(check)


def test_header_model_suffix_script_and_default_choose_in_that_order():
    async def check(client):
        assert (await client.control(script=["overloaded", "ok"], default="unavailable"))["status"]
        assert (await client.ask("rate_limit", model="m@key_expired")).status == 429
        assert (await client.ask(model="m@key_expired")).status == 401
        assert [(await client.ask()).status for _ in range(4)] == [529, 200, 503, 503]
        assert (await client.ask(model="m@ok")).chunks[0]["model"] == "m"
        names = [record["scenario"] for record in await client.records()]
        assert names[:3] == ["rate_limit", "key_expired", "overloaded"]

    run(check)


def test_unknown_scenarios_and_control_fields_are_refused():
    async def check(client):
        assert (await client.control(script=["ok", "nonsense"]))["status"] == 400
        assert (await client.control(colour="red"))["status"] == 400
        assert (await client.ask("nonsense")).status == 500

    run(check)
    with pytest.raises(ValueError):
        ProviderSettings(scenario="nonsense")


def test_reset_forgets_script_visits_and_records():
    async def check(client):
        await client.control(script=["rate_limit"])
        await client.ask("unavailable_then_ok:1")
        await client.control(reset=True)
        assert await client.records() == []
        assert (await client.ask()).status == 200
        assert (await client.ask("unavailable_then_ok:1")).status == 503

    run(check)


def test_the_record_tells_when_the_client_went_away():
    async def check(client):
        await client.ask("ok")
        await client.ask("content_then_stall", quiet_s=0.4)
        await client.ask("reset_at_connect")
        records = await client.settled_records()
        assert [record["outcome"] for record in records] == ["done", "disconnected", "reset"]
        assert records[1]["events"] == 4

    run(check)


def test_timing_follows_the_settings():
    async def check(client):
        loop = asyncio.get_running_loop()
        started_s = loop.time()
        assert (await client.ask()).text == RIGHT_TEXT
        assert loop.time() - started_s >= 0.05 + 13 * 0.004

    run(check, ttft_ms=50, itl_ms=4)


@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=lambda scenario: scenario.name)
def test_every_scenario_says_what_it_means(scenario):
    assert len(scenario.meaning) > 2
