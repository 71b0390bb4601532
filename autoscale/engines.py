"""One simulated engine: continuous batching by the linear step-time model, with paged KV memory.

Between two arrivals, ends or preemptions the batch is the same, so all its steps are taken at once.
Prompts are computed in order and in chunks (`max_num_batched_tokens`), one to a step, while the
sequences in the batch go on: that setting bounds how long a token may take. Nobody knows how long
an answer will be: a call is let in once its prompt fits, memory grows by a token of each sequence
and step, and when it is full the newest starts over, keeping what it has said. Not modelled: prefix
cache; a prompt's memory is taken whole, not chunk by chunk.
"""

from __future__ import annotations

import heapq
import math
from collections import deque

from models.capacity import Load, Profile, step_s

NEARLY = 1e-6
"""Of a step: what floats lose."""


class Sequence:
    """One call in an engine."""

    __slots__ = ("done", "first_s", "grows", "key", "output", "prompt")

    def __init__(self, key: int, prompt: int, output: int) -> None:
        self.key = key
        self.prompt = prompt
        self.output = max(1, output)
        self.first_s = -1.0
        self.done = 0
        """Tokens said before it was last sent back."""
        self.grows = 0.0
        """The engine's step from which its memory grows: that of its next token."""

    @property
    def held(self) -> int:
        """Tokens to compute, and hold, before the next one."""
        return self.prompt + self.done


class Engine:
    """Mutable; times never go back."""

    def __init__(self, profile: Profile, now_s: float) -> None:
        self._profile = profile
        self._chunk_s = max(1e-9, profile.max_num_batched_tokens * profile.per_prefill_token_s)
        self._at_s = now_s
        self._steps = 0.0
        """Decode steps taken since it began."""
        self._stall_s = 0.0
        """Prefill still to be done, from the next step on if one is under way without it."""
        self._lead = 0.0
        """What is left of that step, and the prefill in it."""
        self._lead_s = 0.0
        self._base = 0.0
        """Tokens of context, but for one of each sequence and step."""
        self._step_s = 0.0
        self._ends: list[tuple[float, int, Sequence]] = []
        self._running: dict[int, Sequence] = {}
        """In the order in which they were let in."""
        self._waiting: deque[Sequence] = deque()
        self._silent: deque[Sequence] = deque()
        """Running, and their first token is still to come; in its order."""
        self.preemptions = 0

    @property
    def calls(self) -> int:
        """Running and waiting."""
        return len(self._running) + len(self._waiting)

    @property
    def _context(self) -> float:
        """Tokens held now."""
        return self._base + self._steps * len(self._running)

    def add(self, one: Sequence, now_s: float) -> None:
        """Take a call in."""
        self._advance(now_s)
        self._waiting.append(one)
        self._admit()

    def next_s(self) -> float:
        """When to look again (`ended`): the next call ends or memory is full; infinite when none
        runs."""
        if not self._running:
            return float("inf")
        return self._at_s + self._seconds(max(0.0, self._until() - self._steps))

    def ended(self, now_s: float) -> list[Sequence]:
        """Calls that are done by now, removed."""
        self._advance(now_s)
        found = []
        while self._ends and self._ends[0][0] <= self._steps + NEARLY:
            one = heapq.heappop(self._ends)[2]
            self._leave(one)
            if self._silent and self._silent[0] is one:
                self._hear()
            found.append(one)
        is_full = self._preempt()
        if found or is_full:
            self._admit()
        return found

    def load(self) -> Load:
        """As an engine reports it."""
        queued = sum(one.held for one in self._waiting)
        prefill = round(
            (self._lead_s + self._stall_s) / max(self._profile.per_prefill_token_s, 1e-9)
        )
        share = self._context / self._profile.kv_tokens
        return Load(len(self._waiting), len(self._running), queued + prefill, min(1.0, share))

    def _until(self) -> float:
        """The step of the next end or, if that is sooner, of memory being full. A sequence that is
        alone runs on whatever it needs."""
        count, last = len(self._running), self._ends[0][0]
        if count < 2:
            return last
        return min(last, (self._profile.kv_tokens - self._base) / count)

    def _hear(self, first_s: float | None = None) -> None:
        self._silent.popleft().first_s = self._at_s if first_s is None else first_s

    def _advance(self, now_s: float) -> None:
        while self._silent:
            # What came since it was let in may have made its step longer.
            steps = max(0.0, self._silent[0].grows - self._steps)
            if (first_s := self._at_s + self._seconds(steps)) > now_s:
                break
            self._hear(first_s)
        passed_s = max(0.0, now_s - self._at_s)
        self._at_s = max(self._at_s, now_s)
        if self._lead:
            whole_s = self._lead * self._step_s + self._lead_s
            part = passed_s / whole_s if passed_s < whole_s else 1.0
            self._steps += part * self._lead
            self._lead -= part * self._lead
            self._lead_s -= part * self._lead_s
            passed_s -= part * whole_s
        if self._stall_s > 0.0 and not self._lead:
            mixed_s = self._step_s + self._chunk_s
            chunks = self._stall_s / self._chunk_s
            if passed_s < chunks * mixed_s:
                self._steps += passed_s / mixed_s
                self._stall_s -= passed_s * self._chunk_s / mixed_s
                return
            self._steps += chunks
            self._stall_s = 0.0
            passed_s -= chunks * mixed_s
        if self._running and self._step_s > 0.0 and not self._lead:
            self._steps += passed_s / self._step_s

    def _seconds(self, steps: float) -> float:
        """How long so many steps take from now on, the first of them with chunks of prompts."""
        chunks = self._stall_s / self._chunk_s
        if not self._lead:
            return steps * self._step_s + min(steps, chunks) * self._chunk_s
        led = min(steps, self._lead)
        chunks_s = led / self._lead * self._lead_s + min(steps - led, chunks) * self._chunk_s
        return steps * self._step_s + chunks_s

    def _leave(self, one: Sequence) -> None:
        del self._running[one.key]
        self._base -= one.held - one.grows

    def _preempt(self) -> bool:
        """Send the newest back until each sequence has room for a token; whether any was."""
        before = self.preemptions
        kv_tokens = self._profile.kv_tokens
        while len(self._running) > 1 and self._context + NEARLY * len(self._running) >= kv_tokens:
            one = next(reversed(self._running.values()))
            self._leave(one)
            self._ends = [entry for entry in self._ends if entry[2] is not one]
            heapq.heapify(self._ends)
            said = self._steps - one.grows
            if self._silent and self._silent[-1] is one:
                self._silent.pop().first_s = self._at_s if said >= -NEARLY else -1.0
            if said >= -NEARLY:
                one.done += 1 + int(said + NEARLY)
            else:  # its prompt, the last in line, was still being computed
                self._stall_s -= min(self._stall_s, one.held * self._profile.per_prefill_token_s)
            self._waiting.appendleft(one)
            self.preemptions += 1
        return self.preemptions > before

    def _admit(self) -> None:
        profile = self._profile
        while self._waiting and len(self._running) < profile.max_num_seqs:
            one = self._waiting[0]
            if self._running and self._context + one.held > profile.kv_tokens:
                break
            self._waiting.popleft()
            self._wait_for_step()
            self._stall_s += one.held * profile.per_prefill_token_s
            # The step with the last chunk gives the first token.
            first = max(1, math.ceil(self._stall_s / self._chunk_s - NEARLY))
            one.grows = self._steps + self._lead + first
            self._base += one.held - one.grows
            self._running[one.key] = one
            heapq.heappush(self._ends, (one.grows + one.output - one.done - 1, one.key, one))
            if not one.done:
                self._silent.append(one)
        self._pace()

    def _wait_for_step(self) -> None:
        """A step under way takes nothing more in, unless its prompts go on into the next."""
        if not self._running:
            self._steps = math.ceil(self._steps - NEARLY)
            return
        rest = math.ceil(self._steps - NEARLY) - self._steps
        if not self._lead and rest > NEARLY and self._stall_s <= rest * self._chunk_s:
            self._lead, self._lead_s, self._stall_s = rest, self._stall_s, 0.0

    def _pace(self) -> None:
        """Time of a step, with the context half-way to when the batch changes."""
        count, context = len(self._running), 0.0
        if count:
            ahead = max(0.0, self._until() - self._steps)
            context = min(self._context + count * ahead / 2, max(self._profile.kv_tokens, 0))
        self._step_s = step_s(self._profile, count, round(max(0.0, context)), 0)
