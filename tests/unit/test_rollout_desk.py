"""A rollout's plan, asked of a gateway that goes on answering calls."""

from __future__ import annotations

import asyncio

from serving.records import LatencyClass, Refuse
from serving.rollout.counts import Load
from serving.rollout.desk import TURN, in_turns


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
