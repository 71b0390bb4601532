"""Runs the pure scheduler in time: one task for all requests of one simulated engine."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import dataclass
from typing import Protocol

from models.capacity import Profile
from serving.fakes.engine_metrics import EngineMetrics
from serving.fakes.faults import Faults
from serving.fakes.generation import Choice, Piece, Rejection
from serving.fakes.scheduler import Scheduler, Sequence

_CATCH_UP_S = 0.1
"""How far steps may run behind their stated time and still be caught up without pauses."""
BUSY = (
    "The engine is currently busy and cannot accept new requests. "
    "Please try again later or on a different instance."
)
BACKLOG = (
    "The engine has reached its prefill token backlog limit. "
    "Please try again later or on a different instance."
)


class Sink(Protocol):
    """Takes the tokens of one request as they are made."""

    def piece(self, choice: Choice, piece: Piece, /) -> None:
        """One more token."""
        ...


@dataclass(frozen=True, slots=True)
class Queue:
    """Engine-side limits: the true gate."""

    requests_max: int
    """Sequences waiting and running."""
    prefill_tokens_max: int | None
    """Prompt tokens of sequences that have no token yet."""


class Pump:
    """Owns the scheduler and its clock. `run` is the one task that calls sinks."""

    def __init__(self, profile: Profile, queue: Queue, time_scale: float) -> None:
        self.scheduler = Scheduler(profile)
        self.metrics = EngineMetrics()
        self._queue = queue
        self._time_scale = time_scale
        self._faults = Faults()
        self._wake = asyncio.Event()
        self._keys = itertools.count()
        self._active: dict[int, tuple[Choice, Sink, float]] = {}

    def refusal(self, sequences: int) -> Rejection | None:
        """Why a request of so many sequences is not taken now, if it is not."""
        if self.scheduler.unfinished + sequences > self._queue.requests_max:
            return Rejection(503, BUSY, "Service Unavailable")
        tokens_max = self._queue.prefill_tokens_max
        if tokens_max is not None and self.scheduler.prompt_tokens_in_prefill >= tokens_max:
            return Rejection(503, BACKLOG, "Service Unavailable")
        return None

    def submit(self, choices: tuple[Choice, ...], sink: Sink) -> list[int]:
        """Queue the answers of one request; returns what `cancel` needs."""
        now_s = asyncio.get_running_loop().time()
        keys = []
        for choice in choices:
            key = next(self._keys)
            known = len(choice.pieces)  # of an answer that is gone on with
            self.scheduler.add(
                Sequence(key, choice.prompt.tokens + known, chain=choice.prompt.chain)
            )
            self._active[key] = (choice, sink, now_s)
            keys.append(key)
        self._wake.set()
        return keys

    def cancel(self, keys: list[int]) -> None:
        """Free slots and memory at once; ended sequences are ignored."""
        for key in keys:
            if self._active.pop(key, None):
                self.scheduler.remove(key)
                self.metrics.finished("abort")

    def follow(self, faults: Faults) -> None:
        """Obey these faults from now on."""
        self._faults = faults
        self._wake.set()

    async def run(self) -> None:
        """Step for ever."""
        loop = asyncio.get_running_loop()
        ended_s = loop.time()
        while True:
            step = None if self._faults.hang else self.scheduler.plan()
            if step is None:
                await self._until_woken()
                ended_s = loop.time()
                continue
            duration_s = step.duration_s * self._time_scale * self._faults.slow
            ended_s = max(ended_s, loop.time() - _CATCH_UP_S) + duration_s
            await asyncio.sleep(max(0.0, ended_s - loop.time()))
            while self._faults.hang:
                await self._until_woken()
            self._deliver(self.scheduler.commit(step), loop.time())

    async def _until_woken(self) -> None:
        self._wake.clear()
        await self._wake.wait()

    def _deliver(self, produced: list[Sequence], now_s: float) -> None:
        for sequence in produced:
            key = sequence.key
            choice, sink, arrived_s = self._active[key]
            if sequence.generated == 1:
                self.metrics.observe_first_token(now_s - arrived_s)
                choice.cached = sequence.cached or 0
            piece = choice.advance()
            if choice.finish:
                del self._active[key]
                self.scheduler.remove(key)
                self.metrics.finished(choice.finish)
            sink.piece(choice, piece)
