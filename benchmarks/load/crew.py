"""The sending processes of a run: started together, listened to, stopped together."""

from __future__ import annotations

import asyncio
import math
import os
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import msgspec

from benchmarks.load import schedule
from benchmarks.load.counting import Words
from benchmarks.load.seen import Shard
from benchmarks.load.sender import Live
from benchmarks.load.values import Scenario
from benchmarks.load.wire import Target
from benchmarks.load.worker import LENGTH_BYTES, Job, Told, frame
from models.worded import Worded

START_S = 0.3
"""From the last process's readiness to the first request."""
RATE_PER_PROCESS = 1_500.0
"""Requests a second above which another process is taken, if there is a core for it: half of what
one can send (docs/load-testing.md)."""
ROOT = Path(__file__).resolve().parent.parent.parent
Watch: TypeAlias = Callable[[list[Live]], None]
_told = msgspec.msgpack.Decoder(Told).decode


class CrewError(Exception):
    """A sending process died."""


class Order(msgspec.Struct, frozen=True):
    """A run, wholly."""

    scenario: Scenario
    seed: int
    target: Target
    words: Words
    processes: int = 0
    """0 = as many as the rate needs."""
    rate: float = 0.0
    """Conversations a second where only the trace knows."""
    texts: str = ""
    """Makes texts that no earlier run sent: else its prompts would lie in the target's prefix
    cache. Empty = those of the seed."""

    @property
    def count(self) -> int:
        """Processes."""
        arrivals = self.scenario.arrivals
        cores = len(os.sched_getaffinity(0))
        if arrivals.kind == "closed":
            return min(max(1, self.processes), arrivals.concurrency)
        needed = math.ceil(max(self.rate, schedule.peak_rate(arrivals)) / RATE_PER_PROCESS)
        return self.processes or max(1, min(cores, needed))

    def job(self, place: int) -> Job:
        """The part of one process."""
        scenario, count = self.scenario, self.count
        arrivals = scenario.arrivals
        if arrivals.kind == "closed":
            own = arrivals.concurrency // count + (place < arrivals.concurrency % count)
            arrivals = msgspec.structs.replace(arrivals, concurrency=own)
            scenario = msgspec.structs.replace(scenario, arrivals=arrivals)
        return Job(scenario, self.seed, self.target, self.words, place, count,
                   self.texts)  # fmt: skip


async def run(order: Order, watch: Watch, stop: asyncio.Event) -> list[Shard]:
    """The whole run; `stop` ends it early, with what there is. Raises CrewError."""
    crew = [await _start() for _ in range(order.count)]
    lives = [Live() for _ in crew]
    try:
        for place, one in enumerate(crew):
            _send(one, order.job(place))
        await asyncio.gather(*map(_ready, crew))
        go_s = time.monotonic() + START_S
        for one in crew:
            _send(one, go_s - time.monotonic())
        stopping = asyncio.ensure_future(_stop(crew, stop))
        try:
            listening = [_listen(one, lives, k, watch) for k, one in enumerate(crew)]
            return await asyncio.gather(*listening)
        finally:
            stopping.cancel()
    finally:
        for one in crew:
            if one.returncode is None:
                one.kill()
            await one.wait()


async def _start() -> Process:
    environ = dict(os.environ) | {"PYTHONPATH": os.pathsep.join(filter(None, (
        str(ROOT), os.environ.get("PYTHONPATH", ""))))}  # fmt: skip
    # A session of its own: Ctrl-C reaches the parent only, which tells the others.
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.load.worker", stdin=PIPE, stdout=PIPE,
        env=environ, start_new_session=True, limit=1 << 24,
    )  # fmt: skip


def _send(process: Process, value: object) -> None:
    assert process.stdin is not None
    process.stdin.write(frame(value))


async def _hear(process: Process) -> Told:
    assert process.stdout is not None
    try:
        length = int.from_bytes(await process.stdout.readexactly(LENGTH_BYTES), "big")
        return _told(await process.stdout.readexactly(length))
    except asyncio.IncompleteReadError:
        code = await process.wait()
        template = "a sending process ended with {code}; its words are above"
        raise CrewError(Worded("crew.ended", template, code=code)) from None


async def _ready(process: Process) -> None:
    while not (await _hear(process)).is_ready:
        pass


async def _stop(crew: list[Process], stop: asyncio.Event) -> None:
    await stop.wait()
    for one in crew:
        assert one.stdin is not None
        one.stdin.close()


async def _listen(process: Process, lives: list[Live], place: int, watch: Watch) -> Shard:
    while True:
        told = await _hear(process)
        if told.live is not None:
            lives[place] = told.live
            watch(lives)
        if told.shard is not None:
            return told.shard
