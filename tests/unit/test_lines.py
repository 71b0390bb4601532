"""Connections to engines: which of them a host that has gone silent takes with it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from serving.backends.lines import HOSTS_MAX, Lines
from serving.backends.replica import ReplicaBackend
from serving.wire.client import Exchange, WireError

HOST, OTHER = ("10.0.0.1", 8000), ("10.0.0.2", 8000)
HEAD = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
CHUNK = b"1\r\nx\r\n"


class Deaf(asyncio.Transport):
    """Takes all that is written, as a kernel does for a host that stands still."""

    def write(self, data: bytes) -> None:
        pass

    def abort(self) -> None:
        pass


def connected(lines: Lines, host: tuple[str, int] = HOST) -> Exchange:
    exchange = Exchange(asyncio.get_running_loop())
    exchange.connection_made(Deaf())
    lines.add(host, exchange)
    return exchange


async def asked(exchange: Exchange) -> asyncio.Task[None]:
    """Somebody waits for the head of an answer."""
    task = asyncio.create_task(exchange.send(b"...", asyncio.get_running_loop().time() + 60.0))
    await asyncio.sleep(0)
    return task


def within(check: Callable[[], object]) -> None:
    async def main() -> None:
        async with asyncio.timeout(5.0):
            await check()

    asyncio.run(main())


@pytest.mark.parametrize("is_before", [True, False], ids=["before it fell silent", "after"])
def test_a_call_that_heard_nothing_is_broken_off_when_its_host_is_lost(is_before):
    async def check() -> None:
        lines = Lines()
        if not is_before:
            lines.quiet(HOST)
        task = await asked(connected(lines))
        if is_before:
            lines.quiet(HOST)
        lines.lost(HOST)
        with pytest.raises(WireError, match="answers nobody any more") as caught:
            await task
        assert caught.value.sent

    within(check)


def test_a_call_between_head_and_content_is_broken_off_too():
    async def check() -> None:
        lines = Lines()
        exchange = connected(lines)
        task = await asked(exchange)
        exchange.data_received(HEAD)
        await task
        reading = asyncio.create_task(exchange.read())
        await asyncio.sleep(0)
        lines.quiet(HOST)
        lines.lost(HOST)
        with pytest.raises(WireError):
            await reading

    within(check)


def test_an_engine_that_leaves_polls_unanswered_but_says_something_keeps_its_calls():
    async def check() -> None:
        lines = Lines()
        exchange = connected(lines)
        task = await asked(exchange)
        lines.quiet(HOST)
        exchange.data_received(HEAD + CHUNK)
        await task
        assert await exchange.read() == b"x"
        reading = asyncio.create_task(exchange.read())
        await asyncio.sleep(0)
        lines.lost(HOST)
        exchange.data_received(CHUNK)
        assert await reading == b"x"

    within(check)


def test_a_call_on_a_kept_connection_is_not_sent_to_the_lost_host_once_more(make):
    class Kept:
        async def connect(self, address):
            raise AssertionError("it was sent again")

        def take(self, address):
            return exchange

    async def check() -> None:
        nonlocal exchange
        backend = ReplicaBackend(Kept(), lambda: b"", lambda *_: None)
        exchange = connected(backend.lines)
        replica = make.replica(host=HOST[0], port=HOST[1])
        until_s = asyncio.get_running_loop().time() + 60.0
        task = asyncio.create_task(backend.connect(replica, b"...", until_s))
        await asyncio.sleep(0)
        backend.lines.quiet(HOST)
        backend.lines.lost(HOST)
        with pytest.raises(WireError, match="answers nobody any more"):
            await task

    exchange = None
    within(check)


def test_idle_connections_and_other_hosts_are_left_alone():
    async def check() -> None:
        lines = Lines()
        idle, other = connected(lines), connected(lines, OTHER)
        task = await asked(other)
        lines.quiet(HOST)
        lines.lost(HOST)
        assert not idle.is_closed
        other.data_received(HEAD)
        await task

    within(check)


def test_what_is_known_of_hosts_stays_bounded():
    async def check() -> None:
        lines = Lines()
        kept = connected(lines)
        for number in range(2 * HOSTS_MAX):
            connected(lines, ("10.1.0.1", number))
        task = await asked(kept)
        lines.lost(HOST)
        with pytest.raises(WireError):
            await task
        assert len(lines.hosts) <= HOSTS_MAX + 1

    within(check)
