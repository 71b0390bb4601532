"""Open-loop load: requests go out when they are due, however late earlier ones are answered."""

from __future__ import annotations

import asyncio
from typing import NamedTuple

import msgspec

from benchmarks.gateway.client import Broken, Client, Target, connect
from benchmarks.gateway.load import ERRORS_KEPT, percentile_ms

CONNECTIONS_MAX = 512
ANSWER_S_MAX = 60.0


class Arrivals(NamedTuple):
    """A load that does not wait for answers."""

    rate: float
    """Requests a second, evenly spaced."""
    seconds: float

    @property
    def requests(self) -> int:
        """How many that are."""
        return max(1, round(self.rate * self.seconds))


class Seen(msgspec.Struct):
    """What such a load saw; only good answers count in the latencies."""

    requests: int = 0
    failures: int = 0
    errors: list[str] = []
    """The first few."""
    p50_ms: float = 0.0
    """First byte of the body, since the request was due."""
    p99_ms: float = 0.0
    sent_p50_ms: float = 0.0
    """The same since it was written: without what the client was late."""
    sent_p99_ms: float = 0.0
    open_max: int = 0
    """Most that were under way at once."""
    events: int = 0


class _Load:
    """One load under way."""

    def __init__(self, target: Target, data: bytes) -> None:
        self._target = target
        self._data = data
        self._idle: list[Client] = []
        self._room = asyncio.Semaphore(CONNECTIONS_MAX)
        self._open = 0
        self._due_s: list[float] = []
        self._sent_s: list[float] = []
        self.seen = Seen()

    async def one(self, due_s: float) -> None:
        """A request; one that finds no connection free waits, and that counts."""
        loop = asyncio.get_running_loop()
        async with self._room:
            self._open += 1
            self.seen.open_max = max(self.seen.open_max, self._open)
            try:
                client = self._idle.pop() if self._idle else await connect(self._target)
                late_s = loop.time() - due_s
                async with asyncio.timeout(ANSWER_S_MAX):
                    answer = await client.ask(self._data)
            except (Broken, OSError) as error:
                self._failed(str(error) or f"no answer in {ANSWER_S_MAX:g} s")
                return
            finally:
                self._open -= 1
        if answer.status != 200:
            client.close()
            self._failed(f"status {answer.status}: {answer.body[:120]!r}")
            return
        self._idle.append(client)
        self.seen.events += answer.body.count(b"data: ")
        self._sent_s.append(answer.first_s)
        self._due_s.append(late_s + answer.first_s)

    def _failed(self, reason: str) -> None:
        self.seen.failures += 1
        if len(self.seen.errors) < ERRORS_KEPT:
            self.seen.errors.append(reason[:200])

    def end(self) -> Seen:
        """Close connections, and sum up."""
        for client in self._idle:
            client.close()
        seen, self._idle = self.seen, []
        seen.requests = len(self._sent_s)
        due, sent = sorted(self._due_s), sorted(self._sent_s)
        seen.p50_ms, seen.p99_ms = percentile_ms(due, 0.5), percentile_ms(due, 0.99)
        seen.sent_p50_ms, seen.sent_p99_ms = percentile_ms(sent, 0.5), percentile_ms(sent, 0.99)
        return seen


async def arrive(target: Target, plan: Arrivals, data: bytes) -> Seen:
    """Send `data` as planned and wait for every answer."""
    loop = asyncio.get_running_loop()
    load = _Load(target, data)
    begin_s = loop.time()
    async with asyncio.TaskGroup() as group:
        for number in range(plan.requests):
            due_s = begin_s + number / plan.rate
            if (wait_s := due_s - loop.time()) > 0:
                await asyncio.sleep(wait_s)
            group.create_task(load.one(due_s))
    return load.end()
