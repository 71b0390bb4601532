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

from autoscale.checkpoints import Checkpoints, Kept
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


def checkpoints(signer: Signer, path: Path, store: Any = None, now_ms: Any = None) -> Checkpoints:
    store = store or Moving()
    stores = (lambda: store, lambda: store)
    kept = Kept(path, path.parent / "state")
    return Checkpoints(signer, kept, stores, now_ms or (lambda: 1), CollectorRegistry())


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
    store = Moving()
    signing = checkpoints(signer, path, store)
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
    assert max(taken.seen["life"]) == store.number


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


def test_a_restart_goes_on_where_the_address_stopped(signer: Signer, tmp_path: Path) -> None:
    """What was kept while the address was away reaches it from the next process on."""
    path = tmp_path / "anchor.jsonl"

    async def watch() -> list[int]:
        async with address(2) as (url, taken, four), aiohttp.ClientSession() as session:
            first = checkpoints(signer, path)
            for _ in range(2):
                made = await asyncio.to_thread(first.once)
                await first._post_all(session, url, made)
            assert taken == []
            task = asyncio.create_task(checkpoints(signer, path).run(session, url, 0.0))
            await asyncio.wait_for(four.wait(), 10)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            return taken

    assert asyncio.run(watch())[:4] == [1, 2, 3, 4]


class Still(Moving):
    """A ledger where nothing happens after the first entry."""

    def heads(self) -> list[Head]:
        return [Head("life", 1, b"x" * 32)]


def test_where_nothing_moves_one_is_signed_every_second_turn(
    signer: Signer, tmp_path: Path
) -> None:
    now = [1_000]
    signing = checkpoints(signer, tmp_path / "anchor.jsonl", Still(), lambda: now[0])
    made = []
    for now[0] in range(1_000, 301_001, 60_000):
        made.append(signing.once())
    assert [m and (m.number, len(m.heads)) for m in made] == [
        (1, 1), None, (2, 0), None, (3, 0), None,
    ]  # fmt: skip


def examined(signer: Signer, path: Path) -> Anchored:
    taken = Anchored(signer.public)
    for checkpoint in anchor.read(path):
        taken.take(checkpoint)
    return taken


def test_an_anchor_that_was_cut_is_gone_on_from_what_this_machine_saw(
    signer: Signer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The end is cut off ledger and anchor alike, and the controller started anew: what was signed
    for last is looked for, and the gap in the numbers stays for ever."""
    path, store = tmp_path / "anchor.jsonl", Moving()
    signing = checkpoints(signer, path, store)
    for _ in range(4):
        signing.once()
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:2]))
    store.number = 2
    again = checkpoints(signer, path, store)
    made = again.once()
    assert made is None, "the ledger's head is below what was signed for"
    assert [r.message for r in caplog.records] == ["anchor_altered"]
    store.number = 10
    made = again.once()
    assert made is not None
    assert made.number == 5
    assert max(examined(signer, path).seen["life"]) == store.number
    assert "checkpoint 3 is missing" in [f.what for f in examined(signer, path).faults]


def test_an_anchor_that_was_taken_away_does_not_begin_anew(signer: Signer, tmp_path: Path) -> None:
    path = tmp_path / "anchor.jsonl"
    signing = checkpoints(signer, path)
    for _ in range(3):
        signing.once()
    path.unlink()
    made = checkpoints(signer, path).once()
    store = Moving()
    store.number = 7
    made = made or checkpoints(signer, path, store).once()
    assert made is not None
    assert made.number == 4
    assert examined(signer, path).faults


def test_the_end_of_an_anchor_that_may_only_grow_is_never_cut(
    signer: Signer, tmp_path: Path
) -> None:
    """As `chattr +a` holds it: every open but for appending is refused."""
    path = tmp_path / "anchor.jsonl"
    signing = checkpoints(signer, path)
    signing.once()
    with path.open("ab") as file:
        file.write(b'{"number":2,"at_ms"')
    before = path.read_bytes()
    made = checkpoints(signer, path, _at(7)).once()
    assert path.read_bytes().startswith(before)
    assert made is not None
    assert examined(signer, path).faults == []


def _at(number: int) -> Moving:
    store = Moving()
    store.number = number
    return store
