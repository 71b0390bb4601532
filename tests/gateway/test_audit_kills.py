"""A real gateway process, killed again and again in the middle of draining what left: the chains
are whole, and no call that a client saw answered is missing on them."""

from __future__ import annotations

import asyncio
import contextlib
import random

import aiohttp
import pytest

from serving.audit.verify import differing
from serving.directory.chain import breaks

AT_ONCE = 8


async def call_until_killed(live, answered: list[str]) -> None:
    """Calls that leave, one after another; the ids of those whose answer came whole."""
    with contextlib.suppress(aiohttp.ClientError, ConnectionError):
        while True:
            reply = await live.chat(max_tokens=1)
            assert reply.status == 200, reply.body
            answered.append(reply.headers["x-request-id"])


@pytest.mark.parametrize("kills", [1, pytest.param(8, marks=pytest.mark.full)])
def test_a_gateway_killed_in_the_middle_of_chaining_leaves_every_chain_whole(
    run_live, kit, book, kills
):
    async def check(live, stack, tree) -> None:
        rng, answered = random.Random(kills), list[str]()
        for _ in range(kills):
            await live.start(tree)
            before = len(answered)
            calls = [asyncio.create_task(call_until_killed(live, answered)) for _ in range(AT_ONCE)]
            wanted = before + rng.randrange(20, 80)
            await kit.eventually(lambda n=wanted: len(answered) >= n)
            await live.kill()
            await asyncio.gather(*calls)
        await live.start(tree)  # recovery takes over from those that died

        def settled() -> bool:
            with live.ledger() as ledger:
                return not ledger.open_attempts() and len(ledger.requests(10_000)) >= len(answered)

        await kit.eventually(settled)
        with live.ledger() as ledger:
            assert ledger.law() == []
            chained = set()
            for head in ledger.heads():
                page = ledger.chained(head.writer, 0, 10_000)
                assert len(page) == head.number
                assert breaks([one.entry for one in page]) == []
                assert differing(page, head.writer) == []
                chained |= {one.row.request_id for one in page}
            assert set(answered) - chained == set()
            assert ledger.unchained() == (0, 0)
            rows = {row.request_id: row for row in ledger.requests(10_000)}
            assert {rows[request_id].outcome for request_id in answered} == {"ok"}
            assert len(ledger.heads()) == kills

    models = [{"name": "m", "offerings": ["alpha/big"]}]
    # A drain each 10 ms, so that hardly a moment is none; small segments, so that many close.
    run_live(
        check, providers={"alpha": kit.provider()}, models=models,
        **{"ledger.drain_s": 0.01, "ledger.segment_bytes": 1 << 16}, **book,
    )  # fmt: skip
