"""What is pulled of a stream before its first content is passed on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from serving.errors import Kind, UpstreamError
from serving.records import Block, Usage
from serving.tries import HELD_BYTES_MAX, opening

ROLE, WORD, END = Block(b"role"), Block(b"word", opens=True), Block(b"end", ends=True)
PING = Block(b":" * (HELD_BYTES_MAX // 2))


async def streamed(*blocks: Block) -> AsyncIterator[Block]:
    for block in blocks:
        yield block


def test_all_up_to_the_first_content_is_held_and_the_rest_stays_in_the_stream():
    async def check() -> None:
        stream, told = streamed(ROLE, PING, WORD, END), []
        assert await opening(stream, told.append) == [ROLE, PING, WORD] == told
        assert [block async for block in stream] == [END]

    asyncio.run(check())


@pytest.mark.parametrize(
    ("blocks", "kind"),
    [((), Kind.CUT), ((ROLE, END), Kind.CUT), ((ROLE, PING, PING, WORD), Kind.PROTOCOL)],
    ids=["empty", "ends at once", "pings without end"],
)
def test_a_stream_that_says_nothing_is_a_failure_with_the_usage_it_told(blocks, kind):
    usage = Usage(7, 0)
    with pytest.raises(UpstreamError) as failed:
        asyncio.run(opening(streamed(Block(b"", usage=usage), *blocks)))
    assert (failed.value.kind, failed.value.usage) == (kind, usage)
