"""A second try beside one whose first token is late: one answer, two attempt rows, one hour's
money."""

from __future__ import annotations

import asyncio

import pytest

AFTER_S = 0.15


def hedged(hour_max: str = "1", **more):
    return {"gateway.rescue": {"hedge": {"hour_max": hour_max, "after_s": AFTER_S}}} | more


async def later(stack, kit, seconds: float = 0.4) -> None:
    """The engine's core goes on after a while."""
    loop = asyncio.get_running_loop()
    until_s = loop.time() + seconds
    await kit.eventually(lambda: loop.time() >= until_s)
    await stack.control(stack.engines[0], hang=False)


def test_a_late_engine_s_call_is_answered_by_the_second_and_cancelled_at_the_first(run, kit):
    async def check(stack) -> None:
        await stack.control(stack.engines[0], hang=True)
        reply = await stack.chat(stream=True)
        assert (reply.status, reply.text) == (200, kit.text_of(kit.MESSAGES, 8))
        assert reply.headers["x-ballast-target"] == "api;alpha/big"

        async def is_cancelled() -> bool:
            load = await stack.load()
            return load["w"] + load["r"] == 0

        await kit.eventually(is_cancelled, 1.0)
        (row,) = await stack.rows(1)
        assert (row.outcome, row.attempts, row.reason) == ("ok", 2, "hedge")
        first, second = stack.attempts(row.request_id)
        assert (first.end.outcome, first.end.error) == ("disconnected", "hedged")
        assert (second.end.outcome, second.begin.target) == ("ok", "alpha/big")
        assert second.intent.provider == "alpha"
        assert row.usage == second.end.usage
        assert (await stack.get("/metrics")).body.decode().count("ballast_tickets_out 0.0") == 1
        assert (await stack.signals())["burst_total"] == 1

    run(check, engines=[kit.engine()], providers={"alpha": kit.provider()}, **hedged())


def test_the_loser_at_a_third_party_is_cancelled_and_its_cost_is_on_record(run, kit):
    async def check(stack) -> None:
        await stack.control(stack.engines[0], hang=True)
        waking = asyncio.ensure_future(later(stack, kit))
        reply = await stack.chat(stream=True)
        await waking
        assert (reply.status, reply.text) == (200, kit.text_of(kit.MESSAGES, 8))
        assert reply.headers["x-ballast-target"].startswith("own;")
        (row,) = await stack.rows(1)
        assert (row.outcome, row.attempts, row.reason) == ("ok", 2, "local")
        first, second = stack.attempts(row.request_id)
        assert (first.end.outcome, second.end.error) == ("ok", "hedged")
        assert second.end.charge.micro > 0
        assert second.end.usage.is_estimated
        assert row.usage == first.end.usage
        assert (await stack.signals())["burst_total"] == 0
        assert "ballast_overflow_total{" not in (await stack.get("/metrics")).body.decode()

    stalled = kit.provider(scenario="role_then_stall")
    run(check, engines=[kit.engine()], providers={"alpha": stalled}, **hedged())


@pytest.mark.parametrize("why", ["money", "off", "key", "plain"])
def test_no_second_try_without_money_right_or_stream(run, kit, why):
    more = {} if why == "off" else hedged("0.000001" if why == "money" else "1")

    async def check(stack) -> None:
        await stack.control(stack.engines[0], hang=True)
        waking = asyncio.ensure_future(later(stack, kit))
        reply = await stack.chat("never" if why == "key" else "main", stream=why != "plain")
        await waking
        assert (reply.status, reply.text) == (200, kit.text_of(kit.MESSAGES, 8))
        assert await stack.seen("alpha") == []
        assert (await stack.rows(1))[0].attempts == 1

    run(check, engines=[kit.engine()], providers={"alpha": kit.provider()}, **more)


def test_a_second_try_that_fails_leaves_the_first_to_answer(run, kit):
    async def check(stack) -> None:
        await stack.control(stack.engines[0], hang=True)
        waking = asyncio.ensure_future(later(stack, kit))
        reply = await stack.chat(stream=True)
        await waking
        assert (reply.status, reply.text) == (200, kit.text_of(kit.MESSAGES, 8))
        (row,) = await stack.rows(1)
        first, second = stack.attempts(row.request_id)
        assert (first.end.outcome, second.end.outcome) == ("ok", "upstream_error")
        assert row.target == first.begin.target

    broken = kit.provider(scenario="server_error")
    run(check, engines=[kit.engine()], providers={"alpha": broken}, **hedged())


def test_a_client_that_leaves_in_between_leaves_two_closed_tries(run, kit):
    async def check(stack) -> None:
        await stack.control(stack.engines[0], hang=True)
        asking = asyncio.ensure_future(stack.chat(stream=True))

        async def are_two() -> bool:
            page = (await stack.get("/metrics")).body.decode()
            return "ballast_tickets_out 2.0" in page

        await kit.eventually(are_two)
        asking.cancel()
        (row,) = await stack.rows(1)
        assert (row.outcome, row.attempts) == ("disconnected", 2)
        page = (await stack.get("/metrics")).body.decode()
        assert "ballast_tickets_out 0.0" in page

    stalled = kit.provider(scenario="role_then_stall")
    run(check, engines=[kit.engine()], providers={"alpha": stalled}, **hedged())


def test_the_second_engine_of_ours_is_asked_when_nobody_waits_there(run, kit):
    async def check(stack) -> None:
        for engine in stack.engines:
            await stack.control(engine, hang=True)
        asking = asyncio.ensure_future(stack.chat(stream=True))
        loads = [await stack.load(0), await stack.load(1)]

        async def is_sent() -> bool:
            loads[:] = [await stack.load(0), await stack.load(1)]
            return sum(load["w"] + load["r"] for load in loads) == 2

        await kit.eventually(is_sent)
        await stack.control(stack.engines[1], hang=False)
        await stack.control(stack.engines[0], hang=False)
        reply = await asking
        assert reply.text == kit.text_of(kit.MESSAGES, 8)
        (row,) = await stack.rows(1)
        outcomes = sorted(a.end.outcome for a in stack.attempts(row.request_id))
        assert outcomes == ["disconnected", "ok"]

    run(check, engines=[kit.engine(), kit.engine()], **hedged())


@pytest.mark.parametrize("is_busy", [True, False], ids=["a queue", "no queue"])
def test_the_second_engine_of_ours_is_not_asked_where_calls_wait(run, kit, is_busy):
    """The late call would stand in line there as well; the engine that is free is asked."""

    async def check(stack) -> None:
        for engine in stack.engines:
            await stack.control(engine, hang=True)
        waiting = [asyncio.ensure_future(beside(stack, kit, e)) for e in stack.engines * is_busy]

        async def is_known() -> bool:
            seen = (await stack.get("/fleet")).json["models"]["m"]["replicas"]
            return [row["waiting"] for row in seen] == [int(is_busy)] * 2

        await kit.eventually(is_known)
        asking = asyncio.ensure_future(stack.chat(stream=True))
        await later(stack, kit)
        await stack.control(stack.engines[1], hang=False)
        assert (await asking).text == kit.text_of(kit.MESSAGES, 8)
        assert await asyncio.gather(*waiting) == [200] * len(waiting)
        assert (await stack.rows(1))[0].attempts == (1 if is_busy else 2)

    run(check, engines=[kit.engine(), kit.engine()], **hedged())


async def beside(stack, kit, engine) -> int:
    """A call that another gateway sent there."""
    url, named = f"{engine.url}/v1/chat/completions", {"x-ballast-secret": kit.SECRET}
    async with stack.session.post(url, json=kit.chat(), headers=named) as response:
        await response.read()
        return response.status


@pytest.mark.parametrize("second", ["alpha/other", "beta/big"])
def test_a_second_try_never_goes_to_the_account_that_is_late(run, kit, second):
    async def check(stack) -> None:
        await stack.control(stack.providers["alpha"], script=["role_then_stall"])
        reply = await stack.chat(stream=True)
        assert (reply.status, reply.text) == (200, kit.text_of(kit.MESSAGES, 8))
        (row,) = await stack.rows(1)
        first, last = stack.attempts(row.request_id)
        assert (first.begin.target, last.begin.target) == ("alpha/big", second)
        is_same = second == "alpha/other"
        assert first.end.error == ("timeout" if is_same else "hedged")
        assert (last.begin.reason == "hedge") is not is_same

    alpha = kit.row("alpha") | {"first_token_s": AFTER_S}
    alpha["models"] = [alpha["models"][0], alpha["models"][0] | {"id": "other"}]
    providers = {"alpha": kit.provider(), "beta": kit.provider()}
    sold = {"models.0.offerings": ["alpha/big", second]}
    run(check, providers=providers, rows=[alpha], **hedged(), **sold)
