"""A rollout's plan, asked of a gateway that goes on answering calls."""

from __future__ import annotations

import asyncio

import pytest

from serving.errors import CallerError
from serving.records import LatencyClass, Refuse
from serving.rollout.counts import Load
from serving.rollout.desk import TURN, in_turns, one_of_few


def test_a_plan_of_many_keys_lets_calls_through_between_them():
    async def check():
        turns = [0]

        async def others():
            while True:
                turns[0] += 1
                await asyncio.sleep(0)

        task = asyncio.create_task(others())
        loads = [Load("t", f"k{n}", LatencyClass.BATCH, 1, 1, 1) for n in range(20 * TURN)]
        placed = await in_turns(loads, lambda one: Refuse("c", "r", one.key_id, None))
        task.cancel()
        assert list(placed) == loads
        assert turns[0] >= 20

    asyncio.run(check())


def test_no_more_plans_than_places_are_worked_out_and_nobody_waits():
    async def check():
        places, done = asyncio.Semaphore(2), asyncio.Event()

        async def work():
            await done.wait()
            return "told"

        begun = [asyncio.create_task(one_of_few(places, work())) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(CallerError) as caught:
            await one_of_few(places, work())
        assert (caught.value.code, caught.value.retry_after_s) == ("rate_limit_exceeded", 5.0)
        done.set()
        assert await asyncio.gather(*begun) == ["told", "told"]
        assert await one_of_few(places, work()) == "told"

    asyncio.run(check())
