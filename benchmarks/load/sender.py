"""Sends a schedule: on time however late answers are, or the next when the last one is whole.

The loop's clock is the only clock. Nothing here decides what to send or what it means.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Iterator, Sequence
from typing import Any

import msgspec

from benchmarks.load.answers import Reader, code_of
from benchmarks.load.schemas import checks
from benchmarks.load.seen import Gaps, Seen, Shard, answered, heads
from benchmarks.load.texts import Message, Texts, hints
from benchmarks.load.values import Conversation, Scenario
from benchmarks.load.wire import Connections, Failed
from serving.wire.client import Exchange

AT_ONCE = 32
"""Sent without a look at the answers when it is behind: a loop that only sends goes deaf."""
SOON_S = 0.0005
UNDER_WAY_MAX = 16_000
"""Requests of one process: as many open files, and as much memory, as a process should take."""
PLAIN_BYTES_MAX = 64 << 20
RECENT = 256
_NEVER = 1e9


class Live(msgspec.Struct):
    """How far a process has come, for the display."""

    sent: int = 0
    good: int = 0
    failed: int = 0
    under_way: int = 0
    tokens: int = 0
    late_ms: float = 0.0
    """The latest of late."""
    first_ms: list[float] = []
    """Of recent answers."""


class Sender:
    """One process's part of a run."""

    def __init__(self, scenario: Scenario, texts: Texts, connections: Connections) -> None:
        self._scenario, self._texts, self._connections = scenario, texts, connections
        self._loop = asyncio.get_running_loop()
        self._gaps = [Gaps() for _ in scenario.kinds]
        self._checks = checks(scenario)
        self._tasks: set[asyncio.Task[None]] = set()
        self._stop = asyncio.Event()
        self._rows: list[Seen] = []
        self._not_sent = 0
        self._ran_dry = False
        self._start_s = 0.0
        self._stopped_s = -1.0
        self.live = Live()

    def stop(self) -> None:
        """Send no more, and wait for nothing."""
        if self._stopped_s < 0:
            # Before its beginning as well: a run that was to begin is partial, not whole.
            self._stopped_s = max(0.0, self._loop.time() - self._start_s)
            self._stop.set()

    async def run(self, conversations: Sequence[Conversation], start_s: float) -> Shard:
        """From `start_s` of the loop's clock to the last answer, or the end of the drain."""
        self._start_s = start_s
        await asyncio.sleep(max(0.0, start_s - self._loop.time()))
        cpu_s, wall_s = time.process_time(), time.perf_counter()
        is_closed = self._scenario.arrivals.kind == "closed"
        await (self._closed if is_closed else self._open)(conversations)
        share = (time.process_time() - cpu_s) / max(1e-3, time.perf_counter() - wall_s)
        await self._drain()
        return Shard(
            self._rows, [gaps.counts for gaps in self._gaps], round(share, 4),
            self._connections.opened, self._not_sent, self._stopped_s,
            self._loop.time() - start_s, self._ran_dry,
        )  # fmt: skip

    async def _open(self, conversations: Sequence[Conversation]) -> None:
        for number, one in enumerate(conversations):
            wait_s = self._start_s + one.at_s - self._loop.time()
            if wait_s > SOON_S:
                await self._rest(wait_s)
            elif number % AT_ONCE == 0:
                await asyncio.sleep(0)
            if self._stop.is_set():
                self._not_sent += len(conversations) - number
                return
            if len(self._tasks) >= UNDER_WAY_MAX:
                self._not_sent += 1
            else:
                self._begin(self._converse(one, one.at_s))
        await self._rest(self._start_s + self._scenario.duration_s - self._loop.time())

    async def _closed(self, conversations: Sequence[Conversation]) -> None:
        todo = iter(conversations)
        for _ in range(self._scenario.arrivals.concurrency):
            self._begin(self._one_by_one(todo))
        await self._rest(self._start_s + self._scenario.duration_s - self._loop.time())
        self._ran_dry = next(todo, None) is None

    async def _one_by_one(self, todo: Iterator[Conversation]) -> None:
        for one in todo:
            now_s = self._loop.time() - self._start_s
            if self._stop.is_set() or now_s >= self._scenario.duration_s:
                return
            await self._converse(one, now_s)

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self._loop.call_exception_handler(
                {"message": "load task", "exception": task.exception()}
            )

    async def _rest(self, wait_s: float) -> None:
        """Until then, or until told to stop."""
        if wait_s <= 0:
            return
        timer = self._loop.call_later(wait_s, _wake, rest := self._loop.create_future())
        stopping = self._loop.create_task(self._stop.wait())
        try:
            await asyncio.wait((rest, stopping), return_when=asyncio.FIRST_COMPLETED)
        finally:
            timer.cancel()
            stopping.cancel()
            rest.cancel()

    async def _drain(self) -> None:
        if self._tasks and not self._stop.is_set():
            waiting = asyncio.ensure_future(asyncio.wait(set(self._tasks)))
            stopping = self._loop.create_task(self._stop.wait())
            await asyncio.wait(
                (waiting, stopping), timeout=self._scenario.drain_s,
                return_when=asyncio.FIRST_COMPLETED,
            )  # fmt: skip
            waiting.cancel()
            stopping.cancel()
        left = set(self._tasks)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    async def _converse(self, one: Conversation, due_s: float) -> None:
        """A conversation's turns, each after the answer to the last."""
        kind = self._scenario.kinds[one.kind]
        messages = self._texts.opening(one)
        is_session = len(one.turns) > 1
        session = f"load-{one.number}" if is_session else ""
        lines = hints(kind, session, names_feature=self._connections.target.is_forwarder)
        for number, turn in enumerate(one.turns):
            if number:
                await asyncio.sleep(turn.think_s)
                due_s = self._loop.time() - self._start_s
                if due_s >= self._scenario.duration_s:
                    return
            messages.append(self._texts.question(one, number))
            seen = Seen(
                one.number, number, one.kind, due_s, self._loop.time() - self._start_s,
                turn.prompt, kind.prefix.tokens if kind.prefix is not None else 0,
                output_planned=turn.output,
            )  # fmt: skip
            keeps = is_session or kind.json_schema is not None
            reader = Reader(self._gaps[one.kind].add, keeps_text=keeps)
            body = self._texts.body(kind, messages, turn.output)
            await self._ask(seen, reader, (body, lines))
            if seen.error:
                return
            if is_session:
                messages.append(_said(reader))

    async def _ask(self, seen: Seen, reader: Reader, request: tuple[bytes, str]) -> None:
        """One request; whatever comes of it is one row."""
        live = self.live
        live.sent += 1
        live.under_way += 1
        live.late_ms = max(live.late_ms, (seen.sent_s - seen.due_s) * 1e3)
        self._rows.append(seen)
        try:
            deadline_s = self._loop.time() + self._scenario.timeout_s
            exchange = await self._connections.post(*request, deadline_s)
            seen.head_s = self._loop.time() - self._start_s
            seen.status = exchange.status
            heads(seen, exchange.headers)
            await self._read(seen, reader, exchange)
        except Failed as failed:
            seen.error, seen.words = failed.kind, str(failed)[:200]
        except asyncio.CancelledError:
            seen.error = "unfinished"
            raise
        finally:
            seen.done_s = self._loop.time() - self._start_s
            self._fill(seen, reader)
            live.under_way -= 1

    async def _read(self, seen: Seen, reader: Reader, exchange: Exchange) -> None:
        kind = exchange.headers.get(b"content-type", b"")
        if seen.status == 200 and kind.startswith(b"text/event-stream"):
            await self._connections.read(exchange, reader.feed)
        else:
            parts: list[bytes] = []
            await self._connections.read(exchange, lambda data, _: parts.append(data))
            body = b"".join(parts)
            if seen.status == 200:
                reader.plain(body, self._loop.time())
            else:
                seen.error = f"http_{seen.status} {code_of(body)}"
                seen.words = body[:200].decode("utf-8", "replace")
        self._connections.give(exchange)
        answer = reader.answer
        if not seen.error and answer.fault:
            seen.error = answer.fault
        elif not seen.error and not (answer.finish or answer.has_done):
            seen.error = "cut"

    def _fill(self, seen: Seen, reader: Reader) -> None:
        answer, live, check = reader.answer, self.live, self._checks[seen.kind]
        answered(seen, answer, self._start_s)
        if check is not None and not seen.error:
            seen.error, seen.words = check.fault("".join(answer.text), answer.finish)
        if answer.visible_s >= 0:
            live.first_ms.append((seen.visible_s - seen.due_s) * 1e3)
            del live.first_ms[:-RECENT]
        live.tokens += max(0, answer.completion_tokens)
        if seen.error:
            live.failed += 1
        else:
            live.good += 1


def _wake(rest: asyncio.Future[None]) -> None:
    if not rest.done():
        rest.set_result(None)


def _said(reader: Reader) -> Message:
    return {"role": "assistant", "content": "".join(reader.answer.text) or "(nothing)"}
