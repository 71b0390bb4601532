"""Resident memory that an open stream takes: (with all of them open - before) / streams."""

from __future__ import annotations

import asyncio

import msgspec

from benchmarks.gateway import processes
from benchmarks.gateway.check import Checked, SlowStreams, slow_streams
from benchmarks.gateway.contenders import Contender
from benchmarks.gateway.load import ready

LOOK_S = 0.25


class Open(msgspec.Struct, frozen=True):
    """One gateway with so many streams open at once."""

    gateway: str
    streams: int
    idle_mib: float
    open_mib: float
    """The most that was seen while all were open."""
    kib_per_stream: float
    faults: int
    """Streams that were not whole."""
    first_fault: str


async def held(contender: Contender, slow: SlowStreams) -> Open:
    """Open them all, look until they end, and check each. `ready` must have been waited for."""
    pid = contender.started.pid
    idle = most = processes.rss_mib(pid)
    streams = asyncio.ensure_future(slow_streams(contender.target, slow))
    while not streams.done():
        await asyncio.wait((streams,), timeout=LOOK_S)
        most = max(most, processes.rss_mib(pid))
    return told(contender.name, (idle, most), streams.result())


def told(name: str, seen_mib: tuple[float, float], checked: Checked) -> Open:
    """The figure, from two readings and the verdict on the streams. Pure."""
    idle, most = seen_mib
    each = (most - idle) * 1024 / max(1, checked.streams)
    return Open(
        name, checked.streams, idle, most, round(each, 1), checked.faults, checked.first_fault
    )


def opened(contender: Contender, slow: SlowStreams) -> Open:
    """The same from outside a loop. Raises Broken when the gateway never gets ready."""
    ready(contender.target)
    return asyncio.run(held(contender, slow))
