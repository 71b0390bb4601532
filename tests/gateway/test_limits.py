"""Limits on a running gateway: plans outlive it, every answer says what is left, and a Redis that
is away is told of while calls go on."""

from __future__ import annotations

import pytest

from benchmarks.redis_server import RedisServer

PLAN = {"requests_per_5h": 3, "tokens_per_week": 1000}


def limited(tree: dict, **allowance: int) -> dict:
    """The settings with an allowance on the key `main`."""
    for key in tree["keys"]:
        if key["id"] == "main":
            key["allowance"] = allowance
    return tree


def test_a_plan_outlives_a_restart_and_its_refusal_says_when_it_is_full_again(run, kit):
    async def check(stack) -> None:
        await stack.stop()
        await stack.restart(limited(stack.tree, **PLAN))
        await stack.ready(1)
        replies = [await stack.chat("main") for _ in range(2)]
        assert [r.status for r in replies] == [200, 200]
        assert replies[1].headers["x-ratelimit-limit-requests"] == "3"
        assert replies[1].headers["x-ratelimit-remaining-requests"] == "1"
        assert replies[1].headers["x-ratelimit-limit-tokens"] == "1000"
        await stack.stop()
        await stack.restart(limited(stack.tree, **PLAN))
        await stack.ready(1)
        replies = [await stack.chat("main") for _ in range(2)]
        assert [r.status for r in replies] == [200, 429]
        refused = replies[1]
        assert refused.error["code"] == "rate_limit_exceeded"
        assert "3 requests per 5 hours" in refused.error["message"]
        assert int(refused.headers["retry-after"]) == 3600, "an hour at most, then ask again"
        reset_s = float(refused.headers["x-ratelimit-reset-requests"].rstrip("s"))
        assert 17_900 < reset_s <= 18_000

    run(check, engines=[kit.engine()])


@pytest.mark.server
def test_a_redis_that_is_away_is_told_of_and_calls_go_on(run, kit, tmp_path):
    async def check(stack) -> None:
        server = RedisServer(tmp_path)
        server.start()
        try:
            tree = limited(stack.tree, requests_per_min=600)
            tree["redis"] = {"url": server.url}
            tree["gateway"]["pods"] = 2
            await stack.stop()
            await stack.restart(tree)
            await stack.ready(1)

            async def is_away(wanted: bool) -> bool:
                reply = await stack.chat("main")
                assert reply.status == 200
                fleet = (await stack.get("/fleet")).json
                return ("limits in redis" in fleet["away"]) == wanted

            await kit.eventually(lambda: is_away(False))
            server.stop()
            await kit.eventually(lambda: is_away(True))
            told = await stack.get("/metrics")
            assert b'ballast_limits_away{store="redis"} 1.0' in told.body
            server.start()
            await kit.eventually(lambda: is_away(False))
        finally:
            server.stop()

    run(check, engines=[kit.engine()])
