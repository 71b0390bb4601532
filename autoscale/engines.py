"""One simulated engine: continuous batching by the linear step-time model, with bounded KV memory.

Between two arrivals or ends the batch is the same, so all its steps are taken at once. Prompts are
computed in order and in chunks (`max_num_batched_tokens`), one to a step, while the sequences in
the batch go on: that setting bounds how long a token may take. Not modelled: preemption (a call
waits until its average context fits), prefix cache.
"""

from __future__ import annotations

import heapq
from collections import deque

from models.capacity import KV_FULL, Load, Profile, step_s


class Sequence:
    """One call in an engine."""

    __slots__ = ("first_s", "key", "output", "prompt")

    def __init__(self, key: int, prompt: int, output: int) -> None:
        self.key = key
        self.prompt = prompt
        self.output = max(1, output)
        self.first_s = -1.0


class Engine:
    """Mutable; times never go back."""

    def __init__(self, profile: Profile, now_s: float) -> None:
        self._profile = profile
        self._chunk_s = max(1e-9, profile.max_num_batched_tokens * profile.per_prefill_token_s)
        self._at_s = now_s
        self._steps = 0.0
        """Decode steps taken since it began."""
        self._stall_s = 0.0
        """Prefill still to be done."""
        self._context = 0
        self._step_s = 0.0
        self._running: list[tuple[float, int, Sequence]] = []
        self._waiting: deque[Sequence] = deque()

    @property
    def calls(self) -> int:
        """Running and waiting."""
        return len(self._running) + len(self._waiting)

    def add(self, one: Sequence, now_s: float) -> None:
        """Take a call in."""
        self._advance(now_s)
        self._waiting.append(one)
        self._admit(now_s)

    def next_s(self) -> float:
        """When the next call ends; infinite when none runs."""
        if not self._running:
            return float("inf")
        return self._at_s + self._seconds(max(0.0, self._running[0][0] - self._steps))

    def ended(self, now_s: float) -> list[Sequence]:
        """Calls that are done by now, removed."""
        self._advance(now_s)
        found = []
        while self._running and self._running[0][0] <= self._steps + 1e-6:
            one = heapq.heappop(self._running)[2]
            self._context -= _held(one)
            found.append(one)
        if found:
            self._admit(now_s)
        return found

    def load(self) -> Load:
        """As an engine reports it."""
        queued = sum(one.prompt for one in self._waiting)
        prefill = round(self._stall_s / max(self._profile.per_prefill_token_s, 1e-9))
        share = self._context / self._profile.kv_tokens
        return Load(len(self._waiting), len(self._running), queued + prefill, min(1.0, share))

    def _advance(self, now_s: float) -> None:
        passed_s = max(0.0, now_s - self._at_s)
        self._at_s = max(self._at_s, now_s)
        if self._stall_s > 0.0:
            mixed_s = self._step_s + self._chunk_s
            chunks = self._stall_s / self._chunk_s
            if passed_s < chunks * mixed_s:
                self._steps += passed_s / mixed_s
                self._stall_s -= passed_s * self._chunk_s / mixed_s
                return
            self._steps += chunks
            self._stall_s = 0.0
            passed_s -= chunks * mixed_s
        if self._running and self._step_s > 0.0:
            self._steps += passed_s / self._step_s

    def _seconds(self, steps: float) -> float:
        """How long so many steps take from now on, the first of them with chunks of prompts."""
        chunks = self._stall_s / self._chunk_s
        return steps * self._step_s + min(steps, chunks) * self._chunk_s

    def _admit(self, now_s: float) -> None:
        profile = self._profile
        while self._waiting and len(self._running) < profile.max_num_seqs:
            one = self._waiting[0]
            need = _held(one)
            if self._running and self._context + need > KV_FULL * profile.kv_tokens:
                break
            self._waiting.popleft()
            self._context += need
            self._stall_s += one.prompt * profile.per_prefill_token_s
            # The step with the last chunk gives the first token.
            first = max(1.0, self._stall_s / self._chunk_s)
            last = self._steps + first + one.output - 1
            heapq.heappush(self._running, (last, one.key, one))
            self._step_s = step_s(profile, len(self._running), self._context, 0)
            one.first_s = now_s + self._seconds(first)
        self._step_s = step_s(profile, len(self._running), self._context, 0)


def _held(one: Sequence) -> int:
    """Tokens of context on average over its answer: paged memory grows with it."""
    return one.prompt + one.output // 2
