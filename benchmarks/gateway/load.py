"""Closed-loop load: each connection sends its next request when its last answer is whole.

Also the check of slow streams: `--slow-streams N` opens N streams that an upstream with
`--chunk-ms` paces, and verifies every event of each. Measures only what a client can see.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Sequence

import msgspec
import uvloop

from benchmarks.gateway.check import SlowStreams, slow_streams
from benchmarks.gateway.client import Broken, Client, Target, connect, request

ERRORS_KEPT = 3
END_S_MAX = 60.0
READY_S_MAX, READY_PAUSE_S = 60.0, 0.25
_EVENT = b"data: "
_DONE = b"data: [DONE]\n\n"


class Plan(msgspec.Struct, frozen=True):
    """How much load of which kind."""

    concurrency: int = 16
    seconds: float = 4.0
    requests_max: int = 1_000_000
    is_stream: bool = False


class Loaded(msgspec.Struct):
    """What a load saw. Only good answers count in latencies and events."""

    requests: int = 0
    """Answered well."""
    failures: int = 0
    errors: list[str] = []
    """The first few failures."""
    seconds: float = 0.0
    rps: float = 0.0
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    head_p50_ms: float = 0.0
    """To the end of the answer's head."""
    first_p50_ms: float = 0.0
    """To the first byte of the body."""
    first_p99_ms: float = 0.0
    events: int = 0


def percentile_ms(seconds: Sequence[float], share: float) -> float:
    """A percentile of sorted seconds, in milliseconds; 0 when there are none."""
    if not seconds:
        return 0.0
    return round(1e3 * seconds[min(len(seconds) - 1, int(share * len(seconds)))], 4)


class _Tally:
    """Collects over all connections of one load."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.left = plan.requests_max
        self.until_s = time.perf_counter() + plan.seconds
        self.whole: list[float] = []
        self.head: list[float] = []
        self.first: list[float] = []
        self.loaded = Loaded()

    def take(self) -> bool:
        """Whether one more request is due."""
        if self.left <= 0 or time.perf_counter() >= self.until_s:
            return False
        self.left -= 1
        return True

    def failed(self, reason: str) -> None:
        """A request failed."""
        self.loaded.failures += 1
        if len(self.loaded.errors) < ERRORS_KEPT:
            self.loaded.errors.append(reason[:200])

    def report(self, seconds: float) -> Loaded:
        """The figures of the whole load."""
        self.whole.sort()
        self.head.sort()
        self.first.sort()
        loaded = self.loaded
        loaded.requests = len(self.whole)
        loaded.seconds = round(seconds, 3)
        loaded.rps = round(loaded.requests / seconds, 1) if seconds else 0.0
        loaded.p50_ms, loaded.p99_ms = (percentile_ms(self.whole, p) for p in (0.5, 0.99))
        loaded.head_p50_ms = percentile_ms(self.head, 0.5)
        loaded.first_p50_ms, loaded.first_p99_ms = (
            percentile_ms(self.first, p) for p in (0.5, 0.99)
        )
        return loaded


async def load(target: Target, plan: Plan, data: bytes = b"") -> Loaded:
    """Run a load to its end; `data`: what each request sends, in place of a small one. Raises
    Broken when answers are outstanding END_S_MAX after it."""
    tally = _Tally(plan)
    data = data or request(target, is_stream=plan.is_stream)
    start_s = time.perf_counter()
    try:
        async with asyncio.timeout(plan.seconds + END_S_MAX):
            await asyncio.gather(*(_worker(target, tally, data) for _ in range(plan.concurrency)))
    except TimeoutError:
        raise Broken(f"no answer within {END_S_MAX:g} s of the load's end") from None
    return tally.report(time.perf_counter() - start_s)


async def _worker(target: Target, tally: _Tally, data: bytes) -> None:
    """One connection; a broken one is replaced."""
    client: Client | None = None
    while tally.take():
        try:
            if client is None:
                client = await connect(target)
            await _one(client, data, tally)
        except (Broken, OSError) as error:
            tally.failed(str(error))
            client = None
    if client is not None:
        client.close()


async def _one(client: Client, data: bytes, tally: _Tally) -> None:
    answer = await client.ask(data)
    if answer.status != 200:
        tally.failed(f"status {answer.status}: {answer.body[:120]!r}")
        return
    if tally.plan.is_stream:
        if not answer.body.endswith(_DONE):
            tally.failed("the stream has no end")
            return
        tally.loaded.events += answer.body.count(_EVENT)
    tally.whole.append(answer.whole_s)
    tally.head.append(answer.head_s)
    tally.first.append(answer.first_s)


def ready(target: Target, pause_s: float = READY_PAUSE_S) -> int:
    """Ask until the first good answer; how many requests that took. Raises Broken."""
    for tries in range(1, max(1, round(READY_S_MAX / pause_s)) + 1):
        done = uvloop.run(load(target, Plan(1, 10.0, 1)))
        if done.requests:
            return tries
        time.sleep(pause_s)
    raise Broken(f"never ready: {done.errors}")


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point: one JSON line; 1 when anything failed."""
    parser = argparse.ArgumentParser(prog="benchmarks.gateway load", description=__doc__)
    parser.add_argument("url", help="base URL, without /v1")
    parser.add_argument("--key", default="k")
    parser.add_argument("--model", default="m")
    parser.add_argument("--concurrency", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=4.0, help="stop after so long")
    parser.add_argument("--requests", type=int, default=1_000_000, help="stop after so many")
    parser.add_argument("--stream", action="store_true")
    parser.add_argument("--slow-streams", type=int, default=0, metavar="N", help="the check")
    parser.add_argument("--tokens", type=int, default=10, help="content events of a slow stream")
    parser.add_argument("--pace-s", type=float, default=1.0, help="seconds between its events")
    given = parser.parse_args(argv)
    target = Target(given.url, given.key, given.model)
    if given.slow_streams:
        slow = SlowStreams(given.slow_streams, given.tokens, given.pace_s)
        checked = uvloop.run(slow_streams(target, slow))
        print(msgspec.json.encode(checked).decode())
        return int(checked.faults > 0)
    plan = Plan(given.concurrency, given.seconds, given.requests, given.stream)
    loaded = uvloop.run(load(target, plan))
    print(msgspec.json.encode(loaded).decode())
    return int(loaded.failures > 0)


if __name__ == "__main__":
    sys.exit(main())
