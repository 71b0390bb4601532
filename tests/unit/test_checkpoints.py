"""Checkpoints reach the anchor whole or not at all, and its address misses none."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry

from autoscale.checkpoints import Checkpoints
from serving.audit import anchor, sign
from serving.audit.sign import Signer
from serving.audit.values import Head
from serving.audit.verify import Anchored


class Moving:
    """A ledger with one chain that has grown whenever it is asked; and a directory without any."""

    number = 0

    def heads(self) -> list[Head]:
        self.number += 1
        return [Head("life", self.number, bytes([self.number % 256]) * 32)]

    def head(self) -> tuple[int, bytes]:
        return 0, b""

    def close(self) -> None:
        pass


@pytest.fixture
def signer(tmp_path: Path) -> Signer:
    (tmp_path / "key").write_text(sign.new_key())
    return sign.read_key(tmp_path / "key")


def checkpoints(signer: Signer, path: Path) -> Checkpoints:
    store: Any = Moving()
    stores = (lambda: store, lambda: store)
    return Checkpoints(signer, path, stores, lambda: 1, CollectorRegistry())


@contextmanager
def room(size_bytes: int) -> Iterator[None]:
    """Files of this process may become no larger, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("spare_bytes", [0, 1, 50])
@pytest.mark.parametrize("tries", [1, 3])
def test_a_full_disk_costs_no_checkpoint_that_was_kept_and_none_after_it(
    signer: Signer, tmp_path: Path, spare_bytes: int, tries: int
) -> None:
    path = tmp_path / "anchor.jsonl"
    signing = checkpoints(signer, path)
    assert signing.once() is not None
    with room(path.stat().st_size + spare_bytes):
        for _ in range(tries):
            with pytest.raises(OSError, match=r"File too large|No space"):
                signing.once()
    assert signing.once() is not None
    taken = Anchored(signer.public)
    for checkpoint in anchor.read(path):
        taken.take(checkpoint)
    assert (taken.count, taken.faults) == (2, [])
    assert max(taken.seen["life"]) == 2 + tries


@asynccontextmanager
async def address(refusals: int) -> AsyncIterator[tuple[str, list[int], asyncio.Event]]:
    """Where checkpoints are posted, away for the first times; the numbers it took, and when four
    are there."""
    taken: list[int] = []
    left, four = [refusals], asyncio.Event()

    async def take(request: web.Request) -> web.Response:
        if left[0]:
            left[0] -= 1
            return web.Response(status=503)
        taken.append((await request.json())["number"])
        if len(taken) == 4:
            four.set()
        return web.Response()

    app = web.Application()
    app.router.add_post("/append", take)
    runner = web.AppRunner(app, shutdown_timeout=0.01)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/append", taken, four
    finally:
        await runner.cleanup()


def test_an_address_that_was_away_is_sent_what_it_missed_in_order(
    signer: Signer, tmp_path: Path
) -> None:
    signing = checkpoints(signer, tmp_path / "anchor.jsonl")

    async def watch() -> list[int]:
        async with address(3) as (url, taken, four), aiohttp.ClientSession() as session:
            task = asyncio.create_task(signing.run(session, url, 0.0))
            await asyncio.wait_for(four.wait(), 10)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            return taken

    assert asyncio.run(watch())[:4] == [1, 2, 3, 4]
