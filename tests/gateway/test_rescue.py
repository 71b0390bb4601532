"""An engine dies in the middle of an answer: another goes on with it, and the client reads the
answer it would have read. Many engines stand before one simulated one, each behind a proxy that
severs its streams on order."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import pytest

from serving.fakes.severing import Orders, Severing

TOKENS = 10


class Fleet:
    """Replicas that are one engine behind proxies with the same orders."""

    def __init__(self, kit: Any, count: int, **settings: Any) -> None:
        self._kit, self._settings = kit, settings
        self.proxies: list[Severing] = []
        self._engine: Any = None
        fleet = self

        class Behind(kit.Recording):
            async def start(self) -> Any:
                return await fleet.add()

        self.engines = [Behind() for _ in range(count)]

    async def add(self) -> Any:
        if self._engine is None:
            self._engine = await self._kit.start_engine(self._kit.engine(**self._settings))
        parts = urlsplit(self._engine.url)
        proxy = Severing(parts.hostname, parts.port)
        port = await proxy.start()
        self.proxies.append(proxy)

        async def close() -> None:
            await proxy.close()
            if proxy is self.proxies[0]:
                await self._engine.close()

        return SimpleNamespace(url=f"http://127.0.0.1:{port}", close=close)

    def order(self, **orders: Any) -> None:
        """The next streams, wherever they go."""
        given = Orders(**orders)
        for proxy in self.proxies:
            proxy.orders = given

    @property
    def severed(self) -> int:
        return sum(proxy.severed for proxy in self.proxies)


@pytest.fixture
def fleet(kit):
    return lambda count=3, **settings: Fleet(kit, count, **settings)


async def ask(stack, kit, session: int, **body):
    headers = {"x-ballast-session": str(session)}
    given = {"max_tokens": TOKENS, "stream": True, "stream_options": {"include_usage": True}}
    return await stack.chat(headers=headers, **given | body)


def is_whole(reply, text: str, tokens: int, finish: str = "length") -> None:
    """One answer, told once from beginning to end, and its usage."""
    assert reply.text == text
    events = reply.events
    assert events[-1] == "[DONE]"
    *_, usage = [e["usage"] for e in events[:-1] if e.get("usage")]
    assert usage["completion_tokens"] == tokens
    assert usage["total_tokens"] == usage["prompt_tokens"] + tokens
    choices = [c for e in events[:-1] for c in e["choices"]]
    assert [c["finish_reason"] for c in choices if c["finish_reason"]] == [finish]
    assert sum("role" in c["delta"] for c in choices) == 1
    assert len({e["id"] for e in events[:-1]}) == 1
    assert b"ballast" not in reply.body


@pytest.mark.parametrize("more_bytes", [0, 40], ids=["between", "within"])
def test_the_text_is_the_same_wherever_the_engine_dies(run, kit, fleet, more_bytes):
    """Characters in two tokens, severed between events and within one."""
    engines = fleet(8, late_characters=True)

    async def check(stack) -> None:
        text = kit.text_of(kit.MESSAGES, TOKENS)
        assert not text.isascii()
        for k in range(2, TOKENS + 2):  # after the role, and up to the event of usage
            engines.order(after_events=k, more_bytes=more_bytes)
            reply = await ask(stack, kit, k)
            assert reply.status == 200
            is_whole(reply, text, TOKENS)
        assert engines.severed == TOKENS
        rows = await stack.rows(TOKENS)
        for k, row in enumerate(rows, 2):
            first, second = stack.attempts(row.request_id)
            assert (row.outcome, row.attempts, row.reason) == ("ok", 2, "rescue")
            assert row.usage.completion_tokens == TOKENS
            assert (first.end.outcome, first.end.error) == ("upstream_error", "cut")
            assert first.begin.target != second.begin.target
            assert second.end.outcome == "ok"
            done = [a.end.usage.completion_tokens for a in (first, second)]
            assert sum(done) == TOKENS, k
            read = second.end.usage.prompt_tokens - row.usage.prompt_tokens
            assert read == done[0], "the second engine read what the first had made"
        metrics = (await stack.get("/metrics")).body.decode()
        assert f'ballast_rescues_total{{model="m",outcome="ok"}} {TOKENS}.0' in metrics

    run(check, engines=engines.engines)


def test_a_kill_within_a_held_back_stop_string_changes_nothing(run, kit, fleet):
    engines = fleet(8)

    async def check(stack) -> None:
        whole = kit.text_of(kit.MESSAGES, TOKENS)
        stop = whole[len(whole) // 2 :][:9]
        text, _, _ = whole.partition(stop)
        plain = await stack.chat(stop=[stop], max_tokens=TOKENS)
        tokens = plain.json["usage"]["completion_tokens"]
        assert plain.text == text
        for k in range(2, tokens):
            engines.order(after_events=k, times=1)
            reply = await ask(stack, kit, k, stop=[stop])
            is_whole(reply, text, tokens, "stop")
        assert engines.severed >= 3

    run(check, engines=engines.engines)


def test_is_rescued_twice_and_then_told_the_truth(run, kit, fleet):
    engines = fleet(6)

    async def check(stack) -> None:
        text = kit.text_of(kit.MESSAGES, 24)
        engines.order(after_events=5, times=2)
        is_whole(await ask(stack, kit, 1, max_tokens=24), text, 24)
        engines.order(after_events=5, times=3)
        broken = await ask(stack, kit, 2, max_tokens=24)
        *_, last = broken.events
        assert last["error"]["code"] == "stream_interrupted"
        assert text.startswith(broken.text)
        twice, cut = await stack.rows(2)
        assert (twice.outcome, twice.attempts) == ("ok", 3)
        done = [a.end.usage.completion_tokens for a in stack.attempts(twice.request_id)]
        assert sum(done) == 24
        assert (cut.outcome, cut.attempts) == ("cut", 3)
        assert last["usage"]["completion_tokens"] == cut.usage.completion_tokens
        assert cut.usage.is_estimated
        assert cut.usage.prompt_tokens <= 16, "re-prefills are not the client's"

    run(check, engines=engines.engines)


def test_a_silent_stream_is_broken_off_and_goes_on_elsewhere(run, kit, fleet):
    engines = fleet(3)

    async def check(stack) -> None:
        for session in range(3):
            await ask(stack, kit, session, max_tokens=32)
        loop = asyncio.get_running_loop()
        engines.order(after_events=4, is_silent=True)
        begun_s = loop.time()
        reply = await ask(stack, kit, 9)
        assert 3.0 <= loop.time() - begun_s < 6.0
        is_whole(reply, kit.text_of(kit.MESSAGES, TOKENS), TOKENS)
        row = (await stack.rows(4))[-1]
        first, _ = stack.attempts(row.request_id)
        assert first.end.error == "cut"

    run(check, engines=engines.engines)


@pytest.mark.parametrize("fault", ["fail_stream_after_tokens", "kill_stream_after_tokens"])
def test_an_engine_that_dies_under_its_own_web_server_is_left_too(run, kit, fault):
    """As vLLM does it: an error event and an end marker; and a reset of the connection."""

    async def check(stack) -> None:
        told = (await stack.chat(stream=True)).headers["x-ballast-target"]
        (chosen,) = [e for e in stack.engines if f":{urlsplit(e.url).port}" in told]
        await stack.control(chosen, **{fault: 4})
        reply = await stack.chat(stream=True)
        assert reply.text == kit.text_of(kit.MESSAGES, 8)
        assert reply.events[-1] == "[DONE]"
        row = (await stack.rows(2))[-1]
        assert (row.outcome, row.attempts, row.usage.completion_tokens) == ("ok", 2, 8)

    run(check, engines=[kit.engine(), kit.engine()])


@pytest.mark.parametrize(
    "body",
    [
        {"n": 2},
        {"presence_penalty": 0.5},
        {"seed": 1, "temperature": 1.0},
        {"tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}]},
        {"logprobs": True},
        {"response_format": {"type": "json_object"}},
    ],
    ids=lambda body: next(iter(body)),
)
def test_what_could_come_out_differently_is_not_rescued(run, kit, fleet, body):
    engines = fleet(3)

    async def check(stack) -> None:
        engines.order(after_events=5)
        reply = await ask(stack, kit, 1, **body)
        assert reply.events[-1]["error"]["code"] == "stream_interrupted"
        (row,) = await stack.rows(1)
        assert (row.outcome, row.attempts) == ("cut", 1)

    run(check, engines=engines.engines)


def test_a_lone_engine_s_death_ends_the_stream_with_the_usage_so_far(run, kit, fleet):
    engines = fleet(1)

    async def check(stack) -> None:
        engines.order(after_events=6)
        reply = await ask(stack, kit, 1)
        last = reply.events[-1]
        assert last["error"]["code"] == "stream_interrupted"
        (row,) = await stack.rows(1)
        assert last["usage"]["completion_tokens"] == row.usage.completion_tokens == 6
        assert (await stack.get("/signals")).json["models"]["m"]["running"] == 0

    run(check, engines=engines.engines)


def test_the_guard_inspects_one_answer_over_two_engines(run, kit, fleet, tmp_path):
    """A term that the kill cuts in two is still masked, and what was held back is not lost."""
    engines = fleet(8)
    words = kit.text_of(kit.MESSAGES, TOKENS).split(" ")
    term = f"{words[4]} {words[5]}"
    (tmp_path / "house.txt").write_text(f"#! action: mask\n{term}\n", encoding="utf-8")
    guard = {"terms_dir": str(tmp_path), "tenants": {"acme": {"lists": ["house"]}}}

    async def check(stack) -> None:
        plain = await stack.chat(max_tokens=TOKENS)
        assert term not in plain.text
        for k in range(2, TOKENS + 1):
            engines.order(after_events=k)
            assert (await ask(stack, kit, k)).text == plain.text
        assert engines.severed == TOKENS - 1
        assert (await stack.rows(TOKENS))[-1].reason == "rescue"

    run(check, engines=engines.engines, guard=guard)


PARTIAL = {"member": "partial", "path": "/beta/chat/completions", "source": "t",
           "as_of": "2026-01-01"}  # fmt: skip
INEXACT = {"gateway.rescue": {"inexact": True}}


def abroad(kit, **changes):
    """A third party with a prefix mode, and one without that would be asked first."""
    rows = [kit.row("alpha"), kit.row("beta") | {"prefix": PARTIAL | changes}]
    return {"rows": rows, "providers": {"alpha": kit.provider(), "beta": kit.provider()}}


def test_without_another_engine_a_third_party_goes_on_with_the_text_and_says_so(run, kit, fleet):
    engines = fleet(1)

    async def check(stack) -> None:
        engines.order(after_events=6)
        reply = await ask(stack, kit, 1, max_tokens=30)
        (seen,) = await stack.seen("beta")
        *_, last = seen["body"]["messages"]
        assert (last["role"], last["partial"]) == ("assistant", True)
        delivered = kit.text_of(kit.MESSAGES, 5)
        assert last["content"] == delivered
        assert seen["body"]["max_tokens"] == 30 - 6
        assert await stack.seen("alpha") == []
        assert reply.text.startswith(delivered)
        assert len(reply.text) > len(delivered)
        *_, mark, done = reply.events
        assert (mark["ballast"], mark["choices"], done) == ({"rescue": "inexact"}, [], "[DONE]")
        assert len({e["id"] for e in reply.events[:-1]}) == 1
        *_, usage = [e["usage"] for e in reply.events[:-1] if e.get("usage")]
        (row,) = await stack.rows(1)
        assert (row.outcome, row.reason, row.target) == ("ok", "rescue:inexact", "beta/big")
        first, second = stack.attempts(row.request_id)
        assert row.usage.completion_tokens == usage["completion_tokens"]
        assert row.usage.completion_tokens == 6 + second.end.usage.completion_tokens
        assert row.usage.prompt_tokens == usage["prompt_tokens"]
        assert second.end.charge.micro > 0
        assert first.end.charge.micro == 0
        assert second.intent.provider == "beta"
        signals, part = await stack.signals(), second.end.usage
        assert (signals["burst_total"], signals["shed_total"]) == (1, 0)
        assert signals["burst_output_total"] == part.completion_tokens
        assert (
            signals["served_output_total"] == row.usage.completion_tokens - part.completion_tokens
        )

    run(check, engines=engines.engines, **INEXACT, **abroad(kit))


@pytest.mark.parametrize("why", ["setting", "key", "residency", "broke"])
def test_a_third_party_is_not_asked_where_a_rule_forbids_it(run, kit, fleet, why):
    engines = fleet(1)
    key = {"key": "never", "residency": "home"}.get(why, "main")

    async def check(stack) -> None:
        engines.order(after_events=6)
        reply = await stack.chat(key, stream=True, max_tokens=30)
        assert reply.events[-1]["error"]["code"] == "stream_interrupted"
        assert len(await stack.seen("beta")) == (why == "broke")
        (row,) = await stack.rows(1)
        assert (row.outcome, row.attempts) == ("cut", 1 + (why == "broke"))

    more = abroad(kit)
    if why == "broke":
        more["providers"]["beta"] = kit.provider(scenario="server_error")
    run(check, engines=engines.engines, **({} if why == "setting" else INEXACT), **more)


def test_what_the_guard_would_hide_of_the_answer_stays_here(run, kit, fleet, tmp_path):
    """The answer so far would be part of what a third party reads."""
    engines = fleet(1)
    words = kit.text_of(kit.MESSAGES, 5).split(" ")
    word = next(word for word in words if word.isalpha())
    (tmp_path / "house.txt").write_text(f"#! action: mask\n{word}\n", encoding="utf-8")
    guard = {"terms_dir": str(tmp_path), "tenants": {"acme": {"lists": ["house"]}}}

    async def check(stack) -> None:
        engines.order(after_events=6)
        reply = await ask(stack, kit, 1, max_tokens=30)
        assert reply.events[-1]["error"]["code"] == "stream_interrupted"
        assert await stack.seen("beta") == []

    run(check, engines=engines.engines, guard=guard, **INEXACT, **abroad(kit))
