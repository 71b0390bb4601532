"""What third parties do wrong, seen from the client: another target before the first byte, an
honest end after it, never more than three tries, and the books right each time."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import web

from serving.fakes.server import serve
from serving.records import Usage

BEFORE = (
    "rate_limit", "out_of_money_openai", "out_of_money_zhipu", "out_of_money_402", "server_error",
    "unavailable", "overloaded", "key_expired", "model_retired", "error_in_200",
    "wrong_content_type", "redirect", "reset_at_connect", "reset_after_headers", "timeout",
)  # fmt: skip
BEFORE_STREAM = ("error_before_content", "role_then_stall", "comments_only")
PLAIN = ("rate_limit", "error_in_200", "wrong_content_type", "reset_after_headers", "timeout")
"""Not streamed, one of each family is enough."""
AFTER = (
    "error_after_content", "eof_without_finish", "done_without_finish", "content_then_stall",
    "reset_mid_chunk",
)  # fmt: skip
FINAL = {
    "forbidden_content": ("content_filter", 400),
    "content_filter": ("content_filter", 400),
    "context_too_long": ("context_length_exceeded", 400),
}
ZHIPU = [{"kind": "account_dead", "code": "1113"}]


def micro(usage) -> int:
    """Micro-dollars for usage at the prices of `row`, by hand and half up."""
    fresh = usage.prompt_tokens - usage.cached_tokens
    tenths = fresh * 17 + usage.cached_tokens * 3 + usage.completion_tokens * 53
    return (tenths + 5) // 10


@pytest.mark.parametrize(
    ("scenario", "is_stream"),
    [*((s, True) for s in (*BEFORE, *BEFORE_STREAM)), *((s, False) for s in PLAIN)],
)
def test_fails_over_to_the_second_offering_before_the_first_byte(run, kit, scenario, is_stream):
    async def check(stack) -> None:
        reply = await stack.chat(stream=is_stream)
        assert reply.status == 200, reply.body
        assert reply.text == kit.text_of(kit.MESSAGES, 8)
        assert reply.headers["x-ballast-target"] == "api;beta/big"
        assert len(await stack.seen("alpha")) == 1
        (request,) = await stack.rows(1)
        first, second = stack.attempts(request.request_id)
        assert (request.attempts, request.outcome, request.target) == (2, "ok", "beta/big")
        assert first.end.outcome in ("upstream_error", "timeout", "full")
        assert (second.end.outcome, second.begin.reason) == ("ok", "overflow:retry")
        assert first.intent.provider == "alpha"
        assert second.intent.provider == "beta"
        assert second.end.charge.micro == micro(second.end.usage) > 0
        if scenario not in ("timeout", "reset_at_connect", "reset_after_headers", *BEFORE_STREAM):
            assert first.end.charge.micro == 0

    providers = {"alpha": kit.provider(scenario=scenario), "beta": kit.provider()}
    run(check, providers=providers)


@pytest.mark.parametrize("scenario", AFTER)
def test_a_break_after_content_ends_with_an_error_event_and_usage(run, kit, scenario):
    async def check(stack) -> None:
        reply = await stack.chat(stream=True)
        *_, last = reply.events
        assert reply.status == 200
        assert "[DONE]" not in reply.events
        assert last["error"]["code"] == "stream_interrupted"
        assert last["usage"]["completion_tokens"] >= 3
        assert last["usage"]["is_estimated"] is True
        assert reply.text == kit.text_of(kit.MESSAGES, 3)
        assert await stack.seen("beta") == []
        (request,) = await stack.rows(1)
        (attempt,) = stack.attempts(request.request_id)
        assert (request.outcome, request.status) == ("cut", 200)
        assert attempt.end.usage.is_estimated
        assert attempt.end.charge.micro == micro(attempt.end.usage) > 0

    run(check, providers={"alpha": kit.provider(scenario=scenario), "beta": kit.provider()})


@pytest.mark.parametrize("scenario", FINAL)
def test_a_provider_s_own_words_reach_only_keys_that_may_see_everything(run, kit, scenario):
    async def check(stack) -> None:
        told = (await stack.chat("main")).error
        plain = (await stack.chat("patient")).error
        none = (await stack.chat("quiet")).error
        assert "the provider refused it" in told["message"]
        assert told["message"] not in (plain["message"], none["message"])
        assert "provider refused" not in plain["message"] + none["message"]
        assert told["code"] == plain["code"] == none["code"] == FINAL[scenario][0]

    run(check, providers={"alpha": kit.provider(scenario=scenario)})


def test_a_caller_s_own_short_deadline_opens_no_breaker(run, kit):
    async def check(stack) -> None:
        for _ in range(4):
            reply = await stack.chat(headers={"x_ballast_timeout_ms": "150"})
            assert (reply.status, reply.error["code"]) == (504, "upstream_timeout")
        await stack.control(stack.providers["alpha"], default="ok")
        assert (await stack.chat()).status == 200
        assert len(await stack.seen()) == 5
        *late, last = await stack.rows(5)
        assert [row.outcome for row in late] == ["timeout"] * 4
        assert last.outcome == "ok"

    run(check, providers={"alpha": kit.provider(scenario="timeout")})


def test_a_plain_answer_given_up_is_booked_at_what_it_may_cost(run, kit):
    """The provider works on and bills; nobody will ever say how much."""

    async def check(stack) -> None:
        reply = await stack.chat(max_tokens=33, headers={"x_ballast_timeout_ms": "300"})
        assert reply.status == 504
        (request,) = await stack.rows(1)
        (attempt,) = stack.attempts(request.request_id)
        assert (attempt.end.usage.completion_tokens, attempt.end.usage.is_estimated) == (33, True)
        assert attempt.end.charge.micro == micro(attempt.end.usage) > 0

    run(check, providers={"alpha": kit.provider(scenario="timeout")})


@pytest.mark.parametrize("is_stream", [False, True])
def test_usage_that_a_useless_answer_told_is_booked(run, kit, is_stream):
    """Plain: no choice in it. Streamed: JSON where events were asked for."""
    choices = [{"message": {"content": "x"}, "finish_reason": "stop"}] if is_stream else []
    answer = {"choices": choices, "usage": {"prompt_tokens": 70, "completion_tokens": 30}}

    async def check(stack) -> None:
        reply = await stack.chat(stream=is_stream)
        assert reply.headers["x-ballast-target"] == "api;alpha/big"
        (request,) = await stack.rows(1)
        (attempt, *_) = stack.attempts(request.request_id)
        assert (request.outcome, request.status) == ("upstream_error", reply.status)
        assert attempt.end.usage == Usage(70, 30)
        assert attempt.end.charge.micro == micro(attempt.end.usage) > 0

    async def serving(stack) -> None:
        app = web.Application()

        async def tell(_request: web.Request) -> web.Response:
            return web.json_response(answer)

        app.router.add_post("/v1/chat/completions", tell)
        served = await serve(app, "127.0.0.1", 0)
        await stack.stop()
        stack.tree["providers"][0]["base_url"] = f"{served.url}/v1"
        await stack.restart(stack.tree)
        try:
            await check(stack)
        finally:
            await served.close()

    run(serving, providers={"alpha": kit.provider()})


def test_a_call_that_overflowed_twice_counts_once(run, kit):
    async def check(stack) -> None:
        assert (await stack.chat()).headers["x-ballast-target"] == "api;beta/big"
        assert (await stack.signals())["burst_total"] == 1
        text = (await stack.get("/metrics")).body.decode()
        lines = [x for x in text.splitlines() if x.startswith("ballast_overflow_total{")]
        assert sum(float(line.rsplit(" ", 1)[1]) for line in lines) == 1.0
        (request,) = await stack.rows(1)
        assert request.attempts == 2

    run(check, providers={"alpha": kit.provider(scenario="server_error"), "beta": kit.provider()})


def test_a_call_that_no_third_party_answered_is_shed_and_no_burst(run, kit):
    async def check(stack) -> None:
        reply = await stack.chat()
        assert reply.status >= 500
        signals = await stack.signals()
        assert (signals["burst_total"], signals["shed_total"]) == (0, 1)
        (request,) = await stack.rows(1)
        assert request.attempts == 2

    broken = {name: kit.provider(scenario="server_error") for name in ("alpha", "beta")}
    run(check, providers=broken)


def test_a_stream_that_a_drain_cuts_says_so_in_its_attempt(run, kit):
    async def check(stack) -> None:
        async with stack.streaming(max_tokens=500) as answer:
            await answer.content.readany()
            await stack.stop()
            data = await answer.content.read()
        assert b"stream_interrupted" in data
        (request,) = await stack.rows(1)
        (attempt,) = stack.attempts(request.request_id)
        assert (request.outcome, attempt.end.outcome) == ("cut", "cut")
        await stack.restart(stack.tree)

    slow = kit.engine(**kit.SLOW, output_tokens=500)
    run(check, engines=[slow], **{"gateway.drain_s": 0.1})


@pytest.mark.parametrize("scenario", FINAL)
def test_a_refusal_of_the_content_is_final(run, kit, scenario):
    """Nobody else may see what one provider blocked."""
    code, status = FINAL[scenario]

    async def check(stack) -> None:
        for is_stream in (False, True):
            reply = await stack.chat(stream=is_stream)
            assert (reply.status, reply.error["code"]) == (status, code)
        assert await stack.seen("beta") == []
        rows = await stack.rows(2)
        assert [row.outcome for row in rows] == ["caller_error"] * 2

    run(check, providers={"alpha": kit.provider(scenario=scenario), "beta": kit.provider()})


def test_what_is_wrong_with_the_account_stops_it_for_others_too(run, kit):
    """One call finds out; the next ones do not knock."""

    async def check(stack) -> None:
        for _ in range(4):
            assert (await stack.chat()).headers["x-ballast-target"] == "api;beta/big"
        assert len(await stack.seen("alpha")) == 1
        assert [row.attempts for row in await stack.rows(4)] == [2, 1, 1, 1]

    providers = {"alpha": kit.provider(scenario="out_of_money_zhipu"), "beta": kit.provider()}
    rows = [kit.row("alpha", rules=ZHIPU)]
    run(check, providers=providers, rows=rows)


def test_never_more_than_three_tries(run, kit):
    async def check(stack) -> None:
        reply = await stack.chat()
        assert reply.status in (502, 503)
        assert reply.error
        seen = [len(await stack.seen(name)) for name in ("alpha", "beta", "gamma", "delta")]
        assert seen == [1, 1, 1, 0]
        (request,) = await stack.rows(1)
        assert request.attempts == 3

    bad = {name: kit.provider(scenario="server_error") for name in ("alpha", "beta", "gamma")}
    run(check, providers={**bad, "delta": kit.provider()})


def test_the_retry_budget_ends_a_storm(run, kit):
    """A good answer between two bad ones keeps the breaker closed: only the budget can say no."""

    async def check(stack) -> None:
        script = ["server_error", "ok"] * 4
        await stack.control(stack.providers["alpha"], script=script)
        statuses = [(await stack.chat()).status for _ in range(8)]
        assert statuses == [200, 200, 200, 200, 502, 200, 502, 200]
        assert len(await stack.seen("beta")) == 2
        assert [row.attempts for row in await stack.rows(8)] == [2, 1, 2, 1, 1, 1, 1, 1]

    providers = {"alpha": kit.provider(), "beta": kit.provider()}
    budget = {"gateway.retry": {"budget_ratio": 0.0, "budget_min": 2}}
    run(check, providers=providers, **budget)


def test_a_breaker_opens_after_three_failures_and_probes_later(run, kit):
    async def check(stack) -> None:
        alpha = stack.providers["alpha"]
        await stack.control(alpha, default="rate_limit")
        assert (await stack.chat()).headers["x-ballast-target"] == "api;beta/big"
        await stack.control(alpha, default="ok")
        # Retry-After was 2 s: until then nobody asks, after it one call does and stays.
        assert (await stack.chat()).headers["x-ballast-target"] == "api;beta/big"
        assert len(await stack.seen("alpha")) == 1

        async def is_back() -> bool:
            reply = await stack.chat()
            assert reply.status == 200
            return reply.headers["x-ballast-target"] == "api;alpha/big"

        await kit.eventually(is_back)
        assert await is_back()

        await stack.control(alpha, default="server_error")
        before = len(await stack.seen("alpha"))
        for _ in range(6):
            assert (await stack.chat()).status == 200
        assert len(await stack.seen("alpha")) == before + 3
        fleet = (await stack.get("/fleet")).json["models"]["m"]["offerings"]
        assert {row["id"]: row["breaker"] for row in fleet} == {
            "alpha/big": "open",
            "beta/big": "closed",
        }

    run(check, providers={"alpha": kit.provider(), "beta": kit.provider()})


def test_503_then_recovery(run, kit):
    async def check(stack) -> None:
        replies = [await stack.chat() for _ in range(3)]
        assert [reply.status for reply in replies] == [503, 503, 200]
        assert int(replies[0].headers["retry-after"]) >= 1
        assert [row.attempts for row in await stack.rows(3)] == [1, 1, 1]

    run(check, providers={"alpha": kit.provider(scenario="unavailable_then_ok:2")})


ODD = (
    "split_utf8", "slow_drip", "gzip_body", "duplicate_final", "comments_then_ok",
    "usage_in_every_chunk", "empty_choices_first", "huge_line", "no_usage", "think_inline",
    "identical_chunks", "ok_tools", "ok_reasoning",
)  # fmt: skip


def test_what_is_odd_but_good_passes(run, kit):
    """One gateway for all: none of them may leave a mark on the next."""

    async def check(stack) -> None:
        ids = []
        for scenario in ODD:
            await stack.control(stack.providers["alpha"], default=scenario)
            reply = await stack.chat(stream=True)
            assert reply.status == 200, scenario
            ids.append(reply.headers["x-request-id"])
            assert reply.events.count("[DONE]") == 1, scenario
            events = reply.events[:-1]
            assert not any("error" in event for event in events), scenario
            assert not any(e["choices"] == [] and "usage" in e for e in events), scenario
            if scenario in ("slow_drip", "gzip_body", "duplicate_final", "comments_then_ok"):
                assert reply.text == kit.text_of(kit.MESSAGES, 8), scenario
            if scenario == "split_utf8":
                assert reply.text == "压舱石🙂é" + kit.text_of(kit.MESSAGES, 8)
        rows = {row.request_id: row for row in await stack.rows(len(ODD))}
        for scenario, request_id in zip(ODD, ids, strict=True):
            (attempt,) = stack.attempts(request_id)
            assert rows[request_id].outcome == "ok", scenario
            assert attempt.end.usage.is_estimated is (scenario == "no_usage"), scenario
            assert attempt.end.charge.micro == micro(attempt.end.usage) > 0, scenario

    run(check, providers={"alpha": kit.provider()})


def test_a_client_that_leaves_cancels_the_provider_and_the_cost_is_settled(run, kit):
    async def check(stack) -> None:
        async with stack.streaming(max_tokens=64) as response:
            await response.content.readany()

        async def is_gone() -> bool:
            return (await stack.seen())[0]["outcome"] == "disconnected"

        await kit.eventually(is_gone)
        (request,) = await stack.rows(1)
        (attempt,) = stack.attempts(request.request_id)
        assert (request.outcome, request.status) == ("disconnected", 499)
        assert attempt.end.usage.is_estimated
        assert attempt.end.charge.micro == micro(attempt.end.usage) > 0

    run(check, providers={"alpha": kit.provider(itl_ms=50)})


def test_one_deadline_covers_all_tries(run, kit):
    """A caller's own deadline is nobody's fault: no other target is asked when it has passed, and
    none is thought worse of. Many calls, as a timer may fire a little early."""

    async def check(stack) -> None:
        loop = asyncio.get_running_loop()
        before_s = loop.time()
        within = {"x_ballast_timeout_ms": "400"}
        replies = await asyncio.gather(*(stack.chat(headers=within) for _ in range(20)))
        assert {reply.status for reply in replies} <= {503, 504}
        assert loop.time() - before_s < 20
        rows = await stack.rows(20)
        assert {row.attempts for row in rows} <= {0, 1}
        assert {row.target for row in rows if row.attempts} == {"alpha/big"}

    both = {name: kit.provider(scenario="timeout") for name in ("alpha", "beta")}
    run(check, providers=both)


@pytest.mark.parametrize(
    ("fault", "code"), [("kill_stream_after_tokens", "cut"), ("fail_stream_after_tokens", "cut")]
)
def test_an_engine_that_breaks_after_content_ends_with_an_error_event(run, kit, fault, code):
    async def check(stack) -> None:
        await stack.control(stack.engines[0], **{fault: 5})
        reply = await stack.chat(stream=True, max_tokens=64)
        last = reply.events[-1]
        assert last["error"]["code"] == "stream_interrupted"
        assert last["usage"]["completion_tokens"] >= 5
        assert reply.text == kit.text_of(kit.MESSAGES, 5)
        (request,) = await stack.rows(1)
        assert request.outcome == code
        assert (await stack.chat()).status == 200

    run(check, engines=[kit.engine()], providers={"alpha": kit.provider()})


@pytest.mark.parametrize("is_stream", [False, True])
def test_an_engine_that_fails_before_content_is_replaced(run, kit, is_stream):
    async def check(stack) -> None:
        for served in stack.engines:
            await stack.control(served, fail_next=1, status=500)
        reply = await stack.chat(stream=is_stream)
        assert reply.status == 200
        assert reply.headers["x-ballast-target"] == "api;alpha/big"
        (request,) = await stack.rows(1)
        targets = [a.begin.target for a in stack.attempts(request.request_id)]
        assert len(set(targets)) == 3
        assert targets[2] == "alpha/big"

    run(check, engines=[kit.engine(), kit.engine()], providers={"alpha": kit.provider()})


def test_a_callers_fault_found_by_the_engine_never_goes_to_a_paid_api(run, kit):
    async def check(stack) -> None:
        reply = await stack.chat(temperature=9)
        assert (reply.status, reply.error["param"]) == (400, "temperature")
        assert await stack.seen() == []
        (request,) = await stack.rows(1)
        assert (request.outcome, request.attempts) == ("caller_error", 1)

    run(check, engines=[kit.engine()], providers={"alpha": kit.provider()})
