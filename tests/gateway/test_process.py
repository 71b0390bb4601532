"""The gateway as a process: killed in the middle, without space for its journal, and under a
thousand slow streams."""

from __future__ import annotations

import asyncio
import json
import resource
import signal

from serving.records import Charge


def test_a_killed_gateway_leaves_a_lost_row_with_an_estimate_and_no_duplicate(run_live, kit, book):
    async def check(live, stack, tree) -> None:
        await live.start(tree)
        await live.ready()
        assert (await live.chat()).status == 200
        await live.rows(1)
        own = live.streaming("never", max_tokens=500)
        bought = live.streaming("main", model="api", max_tokens=64)
        async with own as first, bought as second:
            await first.content.readany()
            await second.content.readany()
            await live.kill()

        async def is_free() -> bool:
            load = await stack.load()
            gone = [one["outcome"] == "disconnected" for one in await stack.seen()]
            return load["r"] + load["w"] == 0 and all(gone)

        await kit.eventually(is_free)
        for _ in range(2):  # a second restart changes nothing
            await live.start(tree)
            rows = await live.rows(3)
            lost = [row for row in rows if row.outcome == "gateway_lost"]
            assert len(lost) == 2
            for row in lost:
                (attempt,) = live.attempts(row.request_id)
                assert row.usage.is_estimated
                assert row.usage.prompt_tokens > 0
                assert attempt.end.outcome == "gateway_lost"
            money = {row.target: live.attempts(row.request_id)[0].end.charge for row in lost}
            assert money.pop("alpha/big").micro > 0
            assert list(money.values()) == [Charge()]
            await live.kill()

    models = [
        {"name": "m", "profile": "instant"},
        {"name": "api", "offerings": ["alpha/big"]},
    ]
    slow = kit.engine(**kit.SLOW, output_tokens=500)
    providers = {"alpha": kit.provider(itl_ms=50)}
    run_live(check, engines=[slow], providers=providers, models=models, **book)


def test_a_gateway_that_is_told_to_stop_lets_streams_end(run_live, kit):
    async def check(live, stack, tree) -> None:
        await live.start(tree)
        await live.ready()
        async with live.streaming("never", max_tokens=80) as response:
            data = await response.content.readany()
            live.process.send_signal(signal.SIGTERM)
            data += await response.content.read()
            assert data.endswith(b"data: [DONE]\n\n")
        assert await live.process.wait() == 0
        with live.ledger() as ledger:
            (row,) = ledger.requests(10)
            assert row.outcome == "ok"
            assert ledger.law() == []

    run_live(check, engines=[kit.engine(**kit.SLOW, output_tokens=500)])


def _limit(live, size: int) -> None:
    _, hard = resource.prlimit(live.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(live.process.pid, resource.RLIMIT_FSIZE, (size, hard))


def test_a_journal_without_space_refuses_new_work_and_loses_nothing(run_live, kit):
    """RLIMIT_FSIZE below the reserve: nothing can be allocated until it is lifted."""

    async def check(live, stack, tree) -> None:
        await live.start(tree)
        await live.ready()
        streams = [live.streaming("never", max_tokens=200) for _ in range(3)]
        opened = [await one.__aenter__() for one in streams]
        heads = [await one.content.readany() for one in opened]
        _limit(live, 16 << 10)
        served = 0
        while (reply := await live.chat("never", max_tokens=1)).status == 200:
            served += 1
            assert served < 500
        assert (reply.status, reply.error["code"]) == (503, "journal_full")
        assert int(reply.headers["retry-after"]) >= 1
        ready = await live.get("/readyz")
        assert (ready.status, ready.json["reasons"]) == (503, ["journal_full"])
        for head, one in zip(heads, opened, strict=True):
            data = head + await one.content.read()
            assert data.endswith(b"data: [DONE]\n\n")
            assert b'"error"' not in data
        for one in streams:
            await one.__aexit__(None, None, None)
        assert (await live.chat("never")).status == 503
        _limit(live, resource.RLIM_INFINITY)

        async def is_back() -> bool:
            return (await live.get("/readyz")).status == 200

        await kit.eventually(is_back)
        assert (await live.chat("never")).status == 200

        def all_there() -> bool:
            with live.ledger() as ledger:
                rows = ledger.requests(10_000)
                return sum(row.outcome == "ok" for row in rows) == served + 4

        await kit.eventually(all_there)
        with live.ledger() as ledger:
            assert ledger.law() == []

    slow = kit.engine(**kit.SLOW, output_tokens=500)
    small = {"ledger": {"drain_s": 0.1, "segment_bytes": 1 << 20, "reserve_bytes": 32 << 10}}
    run_live(check, engines=[slow], **small)


def test_a_thousand_slow_streams_all_complete_in_order(run, kit):
    streams = 1000

    async def check(stack) -> None:
        async def one(number: int) -> None:
            messages = [{"role": "user", "content": f"stream {number}"}]
            reply = await stack.chat("never", stream=True, messages=messages, max_tokens=10)
            assert reply.status == 200, reply.body
            assert reply.events[-1] == "[DONE]"
            assert reply.text == kit.text_of(messages, 10)
            ids = {event["id"] for event in reply.events[:-1]}
            assert len(ids) == 1

        await asyncio.gather(*(one(number) for number in range(streams)))
        rows = await stack.rows(streams)
        assert {row.outcome for row in rows} == {"ok"}
        assert json.dumps((await stack.signals())["running"]) == "0"

    # Each step takes 13.57 ms + 0.1076 ms a sequence: 0.2 s a token at full load.
    paced = kit.engine(
        profile="qwen3-32b-fp8-h100", time_scale=2.0, max_num_seqs=1000, max_queued_reqs=2000,
        output_tokens=50,
    )  # fmt: skip
    limits = {"gateway.limits": {"connections_max": 4000}}
    run(check, engines=[paced], **limits)


def test_both_listeners_answer_once_the_line_is_out(run_live, kit):
    async def check(live, stack, tree) -> None:
        await live.start(tree)
        assert (await live.get("/livez")).status == 200
        assert (await live.get("/v1/models")).status == 200

    run_live(check)
