"""The simulated engine over HTTP: what vLLM answers, and the faults tests ask for."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import openai
import pytest

from models.capacity import PROFILES, step_s
from serving.fakes.engine import EngineSettings, start_engine
from serving.fakes.server import Served
from serving.fakes.text import answer_text, seed_of

Check = Callable[[Served, aiohttp.ClientSession], Awaitable[None]]
SLOW = EngineSettings(profile="cpu-embedded", time_scale=0.2)


def run(check: Check, settings: EngineSettings | None = None) -> None:
    """Run `check` against a fresh engine in a fresh loop."""

    async def main() -> None:
        engine = await start_engine(settings or EngineSettings())
        try:
            async with aiohttp.ClientSession() as session, asyncio.timeout(10):
                await check(engine, session)
        finally:
            await engine.close()

    asyncio.run(main())


def chat(**changes: Any) -> dict[str, Any]:
    """A small chat body."""
    messages = [{"role": "user", "content": "hello"}]
    return {"model": "fake-model", "messages": messages, "max_tokens": 8, **changes}


def expected_text(tokens: int, body: dict[str, Any] | None = None) -> str:
    messages = (body or chat())["messages"]
    return answer_text(seed_of(json.dumps(messages, separators=(",", ":"))), tokens)


async def post(session, engine, body, path="/v1/chat/completions", **headers):
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    async with session.post(engine.url + path, data=data, headers=headers) as response:
        return response.status, dict(response.headers), await response.json(content_type=None)


async def control(session, engine, **faults):
    status, _, state = await post(session, engine, faults, "/internal/control")
    assert status == 200, state
    return state


async def load_of(session, engine):
    async with session.get(f"{engine.url}/internal/load") as response:
        return await response.json()


async def metrics_of(session, engine):
    async with session.get(f"{engine.url}/metrics") as response:
        return await response.text()


async def wait_for_load(session, engine, **wanted):
    while True:
        load = await load_of(session, engine)
        if all(load[name] == value for name, value in wanted.items()):
            return load
        await asyncio.sleep(0.005)


@asynccontextmanager
async def events_of(session, engine, body) -> AsyncIterator[AsyncIterator[str]]:
    async with session.post(f"{engine.url}/v1/chat/completions", json=body) as response:
        assert response.headers["Content-Type"].startswith("text/event-stream")

        async def events() -> AsyncIterator[str]:
            async for line in response.content:
                if line.startswith(b"data: "):
                    yield line[6:].decode().strip()

        yield events()


async def until_error(session, engine, body):
    """The events that arrived, and the error that ended the stream."""
    seen = []
    try:
        async with events_of(session, engine, body) as events:
            async for event in events:
                seen.append(event)  # noqa: PERF401 (kept when the stream breaks)
    except aiohttp.ClientError as error:
        return seen, error
    return seen, None


def test_the_openai_client_gets_the_text_the_prompt_determines():
    async def check(engine, session):
        async with openai.AsyncOpenAI(base_url=f"{engine.url}/v1", api_key="-") as client:
            answer = await client.chat.completions.create(**chat(n=2))
        assert answer.choices[0].message.content == expected_text(8)
        assert answer.choices[1].message.content != expected_text(8)
        assert answer.choices[0].finish_reason == "length"
        assert answer.usage.completion_tokens == 16

    run(check)


def test_the_openai_client_streams_the_same_text_and_the_usage():
    async def check(engine, session):
        async with openai.AsyncOpenAI(base_url=f"{engine.url}/v1", api_key="-") as client:
            stream = await client.chat.completions.create(
                **chat(stream=True, stream_options={"include_usage": True}, logprobs=True)
            )
            chunks = [chunk async for chunk in stream]
        told = [chunk.choices[0] for chunk in chunks if chunk.choices]
        assert "".join(choice.delta.content or "" for choice in told) == expected_text(8)
        assert told[-1].finish_reason == "length"
        assert told[1].logprobs.content[0].token == told[1].delta.content
        assert chunks[-1].usage.total_tokens == chunks[-1].usage.prompt_tokens + 8

    run(check)


def test_completions_take_texts_and_token_ids_and_report_logprobs():
    async def check(engine, session):
        async with openai.AsyncOpenAI(base_url=f"{engine.url}/v1", api_key="-") as client:
            answer = await client.completions.create(
                model="fake-model", prompt=["one", "two"], max_tokens=3, logprobs=2
            )
            ids = await client.completions.create(model="fake-model", prompt=[1, 2, 3])
        assert [choice.text for choice in answer.choices] == [
            answer_text(seed_of("one"), 3),
            answer_text(seed_of("two"), 3),
        ]
        assert "".join(answer.choices[0].logprobs.tokens) == answer.choices[0].text
        assert (ids.usage.prompt_tokens, ids.usage.completion_tokens) == (3, 16)

    run(check)


def test_usage_is_not_sent_on_a_stream_unless_asked_for():
    async def check(engine, session):
        async with events_of(session, engine, chat(stream=True)) as events:
            seen = [event async for event in events]
        assert seen[-1] == "[DONE]"
        assert not any("usage" in event for event in seen)

    run(check)


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
def test_a_stop_word_ends_the_answer_before_itself(stream):
    stop = expected_text(8).split()[4]

    async def check(engine, session):
        body = chat(stop=[stop], stream=stream, ignore_eos=True)
        async with openai.AsyncOpenAI(base_url=f"{engine.url}/v1", api_key="-") as client:
            body["extra_body"] = {"ignore_eos": body.pop("ignore_eos")}
            answer = await client.chat.completions.create(**body)
            if not stream:
                text, finish = answer.choices[0].message.content, answer.choices[0].finish_reason
            else:
                choices = [chunk.choices[0] async for chunk in answer]
                text = "".join(choice.delta.content or "" for choice in choices)
                finish = choices[-1].finish_reason
        assert text == expected_text(8).partition(stop)[0]
        assert finish == "stop"

    run(check)


def test_answers_end_by_themselves_unless_told_to_ignore_the_end():
    async def check(engine, session):
        _, _, ended = await post(session, engine, chat(max_tokens=50))
        _, _, ignored = await post(session, engine, chat(max_tokens=50, ignore_eos=True))
        assert (ended["choices"][0]["finish_reason"], ended["usage"]["completion_tokens"]) == (
            "stop",
            5,
        )
        assert ignored["usage"]["completion_tokens"] == 50

    run(check, EngineSettings(output_tokens=5))


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        (b"{not json", 400, "body"),
        (chat(max_tokens="many"), 400, "body.max_tokens"),
        (chat(max_tokens=0), 400, "max_tokens"),
        (chat(max_tokens=10**6), 400, "max_tokens"),
        (chat(n=0), 400, "n"),
        (chat(temperature=3), 400, "temperature"),
        (chat(top_p=0), 400, "top_p"),
        (chat(logprobs=True, top_logprobs=10**9), 400, "logprobs"),
        (chat(model="other"), 404, "model"),
        (chat(messages=[]), 400, "messages"),
        (chat(messages=[{"role": "user", "content": "x" * 500}]), 400, "input_tokens"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_a_bad_request_gets_vllm_s_error(body, status, param):
    async def check(engine, session):
        got, _, answer = await post(session, engine, body)
        assert got == status
        assert answer["error"]["param"] == param
        assert answer["error"]["code"] == status
        assert set(answer["error"]) == {"message", "type", "param", "code"}

    run(check, EngineSettings(max_model_len=100))


def test_unknown_routes_and_a_missing_prefix_are_not_found():
    async def check(engine, session):
        for url in (f"{engine.url}/v1/load_lora", f"http://127.0.0.1:{engine.port}/v1/models"):
            async with session.get(url) as response:
                assert response.status == 404
                assert (await response.json())["error"]["code"] == 404
        async with session.get(f"{engine.url}/v1/models") as response:
            assert (await response.json())["data"][0]["id"] == "fake-model"

    run(check, EngineSettings(prefix="/m/one"))


def test_either_of_two_secrets_opens_and_no_other_does():
    async def check(engine, session):
        for secret, status in (("old", 200), ("new", 200), ("bad", 401), ("", 401)):
            headers = {"x-ballast-secret": secret}
            got, _, _ = await post(session, engine, chat(), **headers)
            assert got == status
        async with session.get(f"{engine.url}/health") as response:
            assert response.status == 200

    run(check, EngineSettings(secrets=("old", "new")))


def test_every_answer_reports_the_load_and_a_poll_gives_the_same_as_json():
    async def check(engine, session):
        async with events_of(session, engine, chat(stream=True, max_tokens=500, ignore_eos=True)):
            load = await wait_for_load(session, engine, r=1, q=0)
            _, headers, _ = await post(session, engine, chat(model="other"))
        pairs = dict(pair.split("=") for pair in headers["x-ballast-load"].split(","))
        assert set(pairs) == {"w", "r", "q", "kv", "at"}
        assert pairs["r"] == "1"
        assert float(pairs["kv"]) > 0
        assert set(load) == {*pairs, "limit", "started", "model", "draining"}
        assert (load["model"], load["limit"], load["draining"]) == ("fake-model", 32, False)

    run(check, SLOW)


def test_a_client_that_hangs_up_frees_its_slot_at_once():
    async def check(engine, session):
        body = chat(stream=True, max_tokens=2000, ignore_eos=True)
        async with events_of(session, engine, body) as events:
            await anext(events)
            assert (await load_of(session, engine))["r"] == 1
        await wait_for_load(session, engine, r=0, kv=0.0)

    run(check, SLOW)


def test_a_waiting_request_whose_client_hangs_up_leaves_the_queue():
    async def check(engine, session):
        body = chat(stream=True, max_tokens=2000, ignore_eos=True)
        async with events_of(session, engine, body):
            async with events_of(session, engine, body):
                await wait_for_load(session, engine, r=1, w=1)
            await wait_for_load(session, engine, r=1, w=0, q=0)

    run(check, EngineSettings(profile="cpu-embedded", time_scale=0.2, max_num_seqs=1))


@pytest.mark.parametrize(
    "limits",
    [{"max_queued_reqs": 1}, {"max_queued_tokens": 5}],
    ids=["requests", "prefill tokens"],
)
def test_an_engine_over_its_limit_answers_503(limits):
    async def check(engine, session):
        await control(session, engine, hang=True)
        async with events_of(session, engine, chat(stream=True)):
            await wait_for_load(session, engine, w=1)
            status, _, answer = await post(session, engine, chat())
        assert status == 503
        assert answer["error"]["type"] == "Service Unavailable"

    run(check, EngineSettings(**limits))


def test_a_hung_engine_makes_no_token_until_it_is_let_go():
    async def check(engine, session):
        async with events_of(session, engine, chat(stream=True, max_tokens=100)) as events:
            await anext(events)
            await control(session, engine, hang=True)
            page = await metrics_of(session, engine)
            for _ in range(20):
                assert (await load_of(session, engine))["r"] == 1
            assert await metrics_of(session, engine) == page
            await control(session, engine, hang=False)
            assert [event async for event in events][-1] == "[DONE]"

    run(check, SLOW)


def test_a_draining_engine_ends_what_runs_and_takes_nothing_new():
    async def check(engine, session):
        async with events_of(session, engine, chat(stream=True, max_tokens=20)) as events:
            await anext(events)
            await control(session, engine, drain=True)
            assert (await post(session, engine, chat()))[0] == 503
            assert (await load_of(session, engine))["draining"] is True
            assert [event async for event in events][-1] == "[DONE]"

    run(check, SLOW)


def test_the_next_requests_fail_as_told_and_then_no_more():
    async def check(engine, session):
        await control(session, engine, fail_next=2, status=502)
        seen = [(await post(session, engine, chat()))[0] for _ in range(3)]
        assert seen == [502, 502, 200]

    run(check)


def test_a_stream_is_reset_after_exactly_the_tokens_asked_for():
    async def check(engine, session):
        await control(session, engine, kill_stream_after_tokens=3)
        seen, error = await until_error(session, engine, chat(stream=True))
        assert isinstance(error, aiohttp.ClientError)
        told = [json.loads(event)["choices"][0]["delta"]["content"] for event in seen]
        assert "".join(told) == expected_text(3)
        await wait_for_load(session, engine, r=0)
        async with events_of(session, engine, chat(stream=True)) as events:
            assert [event async for event in events][-1] == "[DONE]"

    run(check)


def test_a_stream_can_end_with_an_error_event():
    async def check(engine, session):
        await control(session, engine, fail_stream_after_tokens=2)
        async with events_of(session, engine, chat(stream=True)) as events:
            seen = [event async for event in events]
        assert json.loads(seen[-2])["error"]["code"] == 500
        assert seen[-1] == "[DONE]"
        assert len(seen) == 5

    run(check)


def test_an_unknown_fault_is_refused():
    async def check(engine, session):
        status, _, answer = await post(session, engine, {"explode": 1}, "/internal/control")
        assert status == 400
        assert "explode" in answer["error"]["message"]

    run(check)


def test_a_dead_engine_cuts_its_streams_and_refuses_connections():
    async def check(engine, session):
        body = chat(stream=True, max_tokens=2000, ignore_eos=True)
        cut = asyncio.create_task(until_error(session, engine, body))
        await wait_for_load(session, engine, r=1, q=0)
        with pytest.raises(aiohttp.ClientError):
            await post(session, engine, chat())
        seen, error = await cut
        assert seen
        assert isinstance(error, aiohttp.ClientError)
        with pytest.raises(aiohttp.ClientConnectorError):
            await load_of(session, engine)

    run(check, EngineSettings(profile="cpu-embedded", time_scale=0.2, die_after_requests=1))


def test_slow_stretches_the_stated_time():
    profile = PROFILES["cpu-embedded"]
    stated_s = 0.2 * (8 * step_s(profile, 1, 0, 0) + step_s(profile, 0, 0, 6) - profile.base_s)

    async def check(engine, session):
        await control(session, engine, slow=4)
        loop = asyncio.get_running_loop()
        started_s = loop.time()
        await post(session, engine, chat())
        assert loop.time() - started_s >= 4 * stated_s - 0.005

    run(check, SLOW)


def test_the_metrics_page_counts_tokens_and_first_token_times():
    async def check(engine, session):
        await post(session, engine, chat())
        page = await metrics_of(session, engine)
        labels = '{engine="0",model_name="fake-model"}'
        assert f"vllm:generation_tokens_total{labels} 8" in page
        assert f"vllm:prompt_tokens_total{labels} 6" in page
        assert f"vllm:num_requests_running{labels} 0" in page
        assert f"vllm:time_to_first_token_seconds_count{labels} 1" in page

    run(check)


def test_tokenize_counts_text_and_messages():
    async def check(engine, session):
        status, _, answer = await post(session, engine, {"prompt": "hello world"}, "/tokenize")
        assert (status, answer["count"], len(answer["tokens"])) == (200, 3, 3)
        assert (await post(session, engine, chat(), "/tokenize"))[2]["count"] > 3
        assert (await post(session, engine, {}, "/tokenize"))[0] == 400

    run(check)


def test_settings_that_make_no_sense_are_refused():
    for wrong in ({"profile": "tpu"}, {"time_scale": -1}, {"prefix": "m"}):
        with pytest.raises(ValueError):
            EngineSettings(**wrong)
