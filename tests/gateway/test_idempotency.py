"""`Idempotency-Key`: a gateway's retry is neither served nor billed twice."""

from __future__ import annotations

import asyncio

import pytest

KEY = {"idempotency_key": "once"}


@pytest.mark.parametrize("is_stream", [False, True])
def test_replays_an_answer_byte_for_byte(run, kit, is_stream):
    async def check(stack) -> None:
        first = await stack.chat(stream=is_stream, headers=KEY)
        again = await stack.chat(stream=is_stream, headers=KEY)
        assert (first.status, again.status) == (200, 200)
        assert again.body == first.body
        assert again.headers["content-type"] == first.headers["content-type"]
        assert len(await stack.seen()) == 1
        ran, replayed = sorted(await stack.rows(2), key=lambda row: -row.attempts)
        assert (ran.attempts, replayed.attempts) == (1, 0)
        assert replayed.reason == "replay"
        other = await stack.chat("other", stream=is_stream, headers=KEY)
        assert other.status == 200
        assert len(await stack.seen()) == 2  # another key of ours is another caller

    run(check, providers={"alpha": kit.provider()})


def test_a_forwarder_s_customers_never_share_a_key(run, kit):
    """They share the forwarder's API key; what one was answered is nothing to the other."""

    async def check(stack) -> None:
        answers = []
        for customer in ("a", "b", "a"):
            headers = KEY | {"x_ballast_tenant": customer}
            answers.append(await stack.chat("gateway", headers=headers))
        assert [reply.status for reply in answers] == [200, 200, 200]
        rows = await stack.rows(3)
        assert sorted((r.tenant, r.attempts) for r in rows) == [
            ("acme/a", 0), ("acme/a", 1), ("acme/b", 1),
        ]  # fmt: skip
        other = await stack.chat("gateway", headers=KEY | {"x_ballast_tenant": "c"}, temperature=1)
        assert other.status == 200

    run(check, engines=[kit.engine()])


def test_what_was_stopped_is_not_replayed_either(run, kit):
    from serving.records import Stops

    async def check(stack) -> None:
        assert (await stack.chat(headers=KEY)).status == 200
        fleet = stack.gateway._fleet
        fleet.stops = Stops(tenants=frozenset({"acme"}))
        fleet.publish()
        reply = await stack.chat(headers=KEY)
        assert (reply.status, reply.error["code"]) == (503, "stopped")

    run(check, engines=[kit.engine()])


def test_a_retry_while_the_first_runs_is_told_to_wait(run, kit):
    async def check(stack) -> None:
        await stack.control(stack.engines[0], hang=True)
        first = asyncio.ensure_future(stack.chat(headers=KEY))

        async def is_there() -> bool:
            return (await stack.load())["w"] == 1

        await kit.eventually(is_there)
        again = await stack.chat(headers=KEY)
        assert (again.status, again.error["code"]) == (409, "idempotency_in_flight")
        assert int(again.headers["retry-after"]) >= 1
        await stack.control(stack.engines[0], hang=False)
        assert (await first).status == 200
        assert (await stack.chat(headers=KEY)).body == (await first).body
        assert sorted(row.attempts for row in await stack.rows(3)) == [0, 0, 1]

    run(check, engines=[kit.engine()])


def test_another_body_under_the_same_key_is_refused(run, kit):
    async def check(stack) -> None:
        assert (await stack.chat(headers=KEY)).status == 200
        reply = await stack.chat(headers=KEY, temperature=1)
        assert (reply.status, reply.error["code"]) == (422, "idempotency_mismatch")

    run(check, engines=[kit.engine()])


def test_after_a_restart_what_was_served_is_not_served_again(run, kit):
    async def check(stack) -> None:
        assert (await stack.chat(headers=KEY)).status == 200
        await stack.stop()
        await stack.restart(stack.tree)
        await stack.ready(1)
        reply = await stack.chat(headers=KEY)
        assert (reply.status, reply.error["code"]) == (409, "already_served")
        assert "completion_tokens" in reply.error["message"]
        assert sorted(row.attempts for row in await stack.rows(2)) == [0, 1]

    run(check, engines=[kit.engine()])


@pytest.mark.parametrize("restarts", [False, True])
def test_what_failed_may_be_tried_again(run, kit, restarts):
    """A refusal and a broken stream are no answers, before and after a restart."""

    async def check(stack) -> None:
        await stack.control(stack.engines[0], fail_next=3, status=500)
        assert (await stack.chat(headers=KEY)).status == 502
        await stack.control(stack.engines[0], fail_next=0, fail_stream_after_tokens=2)
        cut = await stack.chat(headers={"idempotency_key": "cut"}, stream=True)
        assert "error" in cut.events[-1]
        if restarts:
            await stack.rows(2)
            await stack.stop()
            await stack.restart(stack.tree)
            await stack.ready(1)
        assert (await stack.chat(headers=KEY)).status == 200
        again = await stack.chat(headers={"idempotency_key": "cut"}, stream=True)
        assert again.events[-1] == "[DONE]"

    run(check, engines=[kit.engine()])


def test_a_client_that_left_may_ask_again(run, kit):
    async def check(stack) -> None:
        body = kit.chat(stream=True, max_tokens=200)
        named = stack.headers("main", {"idempotency-key": "left"})
        url = f"{stack.url}/v1/chat/completions"
        async with stack.session.post(url, json=body, headers=named) as response:
            await response.content.readany()
            response.close()
        await stack.rows(1)
        async with stack.session.post(url, json=body, headers=named) as response:
            assert response.status == 200
            assert (await response.read()).endswith(b"data: [DONE]\n\n")

    run(check, engines=[kit.engine(**kit.SLOW)])
