"""One sending process. Told its part on standard input, tells how far it is on standard output.

Frames are 4 bytes of length and msgpack, both ways. The parent's end, or its word, stops it.
"""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import sys
from typing import BinaryIO

import msgspec
import uvloop

from benchmarks.load import schedule, traces
from benchmarks.load.counting import Words
from benchmarks.load.seen import Shard
from benchmarks.load.sender import Live, Sender
from benchmarks.load.texts import Texts
from benchmarks.load.values import Scenario
from benchmarks.load.wire import Connections, Target

TELL_S = 0.5
LENGTH_BYTES = 4


class Job(msgspec.Struct):
    """The part of one process."""

    scenario: Scenario
    seed: int
    target: Target
    words: Words
    place: int
    count: int
    texts: str = ""


class Told(msgspec.Struct):
    """From a worker: one of these at a time."""

    is_ready: bool = False
    live: Live | None = None
    shard: Shard | None = None


def frame(value: object) -> bytes:
    """With its length before it."""
    data = msgspec.msgpack.encode(value)
    return len(data).to_bytes(LENGTH_BYTES, "big") + data


def _read(stream: BinaryIO) -> bytes:
    length = stream.read(LENGTH_BYTES)
    if len(length) < LENGTH_BYTES:
        raise EOFError
    return stream.read(int.from_bytes(length, "big"))


def _tell(told: Told) -> None:
    sys.stdout.buffer.write(frame(told))
    sys.stdout.buffer.flush()


async def _run(job: Job) -> Shard:
    loop = asyncio.get_running_loop()
    rows = traces.read(job.scenario.arrivals)
    conversations = schedule.shard(
        schedule.made(job.scenario, job.seed, rows), job.place, job.count
    )
    texts = Texts(job.scenario, job.target.model, job.words,
                  f"{job.seed}/{job.texts}" if job.texts else job.seed)  # fmt: skip
    sender = Sender(job.scenario, texts, Connections(job.target))
    # What is made now lives to the end: the collector need not look at it again and again.
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
    _tell(Told(is_ready=True))
    wait_s = msgspec.msgpack.decode(_read(sys.stdin.buffer), type=float)
    loop.add_reader(sys.stdin.fileno(), _heard, loop, sender)
    telling = asyncio.ensure_future(_telling(sender))
    try:
        return await sender.run(conversations, loop.time() + wait_s)
    finally:
        telling.cancel()


def _heard(loop: asyncio.AbstractEventLoop, sender: Sender) -> None:
    """Any word after the start, and the end of them all, means stop."""
    os.read(sys.stdin.fileno(), 4096)
    loop.remove_reader(sys.stdin.fileno())
    sender.stop()


async def _telling(sender: Sender) -> None:
    while True:
        await asyncio.sleep(TELL_S)
        _tell(Told(live=sender.live))
        sender.live.late_ms = 0.0


def main() -> int:
    """Entry point of the process."""
    job = msgspec.msgpack.decode(_read(sys.stdin.buffer), type=Job)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    _tell(Told(shard=uvloop.run(_run(job))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
