"""Hands finished calls to a collector, in batches, from a bounded queue.

A collector that is slow or away costs spans, which are counted, and never a call: putting one into
the queue is all that a call does, and a full queue refuses it.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from typing import NamedTuple

import aiohttp
from google.protobuf.message import DecodeError

from serving.metrics import Counter
from serving.tracing import otlp
from serving.tracing.settings import TracingSettings
from serving.tracing.spans import Hosts
from serving.tracing.values import Ended
from serving.watched import watch

_log = logging.getLogger(__name__)
AGAIN = frozenset({429, 502, 503, 504})
"""The protocol's list: the same bytes may be taken later. Anything else never will be."""
PAUSE_S, PAUSE_S_MAX = 0.5, 10.0
STEP = 8
"""Calls that are put into bytes before others get their turn: less than half a millisecond."""
_ANSWER_BYTES_MAX = 64 << 10


class Terms(NamedTuple):
    """Where to, and as whom."""

    given: TracingSettings
    resource: Mapping[str, str]
    """Who speaks: `service.name` and the like."""
    hosts: Hosts
    token: str = ""
    """The Authorization header; empty is none."""


class Exporter:
    """Owns the sending task."""

    def __init__(self, terms: Terms) -> None:
        self._terms, self._given = terms, terms.given
        self._queue: deque[Ended] = deque()
        self._session: aiohttp.ClientSession | None = None
        self._task: asyncio.Task[None] | None = None
        self._is_failing = False
        self.counted = Counter(
            "ballast_traced_calls", "Finished calls by what became of their spans", ("result",)
        )

    def put(self, ended: Ended) -> None:
        """Tell of it soon; dropped when too many wait."""
        if len(self._queue) >= self._given.queue_calls:
            self.counted.add(("dropped_queue",))
            return
        self._queue.append(ended)

    def start(self) -> None:
        """Send from now on. Its death is logged and ends nothing: calls go on without traces."""
        self._task = asyncio.create_task(self._run(), name="traces")
        watch(self._task, lambda: None)

    async def close(self) -> None:
        """Send what waits, within bounds, and stop."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        with suppress(TimeoutError):
            async with asyncio.timeout(self._given.exit_s):
                await self._flush()
        if self._queue:
            self.counted.add(("dropped_exit",), len(self._queue))
            self._queue.clear()
        if self._session is not None:
            await self._session.close()

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._given.flush_s)
            await self._flush()

    async def _flush(self) -> None:
        while self._queue:
            calls = [
                self._queue.popleft() for _ in range(min(self._given.batch_calls, len(self._queue)))
            ]
            message = otlp.Message(self._terms.resource, self._terms.hosts)
            told = 0
            try:
                for number, ended in enumerate(calls, start=1):
                    told += self._add(message, ended)
                    if number % STEP == 0:
                        await asyncio.sleep(0)
                if not told:
                    continue
                result = await self._send(await asyncio.to_thread(message.body))
            except asyncio.CancelledError:
                # Perhaps taken, perhaps not: told twice is harmless, the ids are the same.
                self._queue.extendleft(reversed(calls))
                raise
            self.counted.add((result,), told)

    def _add(self, message: otlp.Message, ended: Ended) -> bool:
        """Whether it could be put into bytes: a name that is no text, a number beyond 64 bits."""
        try:
            message.add(ended)
        except (TypeError, ValueError):
            self.counted.add(("dropped_unreadable",))
            _log.exception("trace_unreadable", extra={"request_id": ended.request_id})
            return False
        return True

    async def _send(self, body: bytes) -> str:
        """Offer it until it is taken, refused or too old."""
        loop, pause_s = asyncio.get_running_loop(), PAUSE_S
        until_s = loop.time() + self._given.retry_s
        while True:
            fault, wait_s = await self._offer(body)
            if not fault:
                if self._is_failing:
                    _log.info("traces_taken_again")
                self._is_failing = False
                return "sent"
            if not self._is_failing:
                _log.warning("traces_not_taken", extra={"reason": fault})
            self._is_failing = True
            pause = max(pause_s, wait_s)
            if wait_s < 0.0 or loop.time() + pause > until_s:
                return "dropped_collector"
            await asyncio.sleep(pause)
            pause_s = min(pause_s * 2, PAUSE_S_MAX)

    async def _offer(self, body: bytes) -> tuple[str, float]:
        """Why it was not taken, empty when it was, and the least pause; below 0: never again."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                cookie_jar=aiohttp.DummyCookieJar(), trust_env=False,
                timeout=aiohttp.ClientTimeout(total=self._given.timeout_s),
            )  # fmt: skip
        headers = dict(otlp.HEADERS)
        if self._terms.token:
            headers["authorization"] = self._terms.token
        try:
            async with self._session.post(
                self._given.endpoint, data=body, headers=headers, allow_redirects=False
            ) as response:
                if response.status == 200:
                    self._read(await response.content.read(_ANSWER_BYTES_MAX))
                    return "", 0.0
                is_later = response.status in AGAIN
                after = response.headers.get("retry-after", "")
                wait_s = float(after) if after.isdecimal() else 0.0
                return f"status {response.status}", wait_s if is_later else -1.0
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            return type(error).__name__, 0.0

    def _read(self, body: bytes) -> None:
        with suppress(DecodeError):  # an answer that nobody can read, to a batch that was taken
            if (count := otlp.rejected(body)) > 0:
                self.counted.add(("spans_rejected",), count)
