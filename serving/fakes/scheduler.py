"""Continuous batching with paged KV memory, as vLLM's scheduler does it, on a stated time.

Pure: `plan` says what the next step computes and how long it takes, `commit` applies it. It does
not know when an answer is over (stop words, length): the caller calls `remove`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence as Names
from dataclasses import dataclass

from models.capacity import Load, Profile, step_s
from serving.fakes.blocks import BLOCK_TOKENS, Blocks, Name

__all__ = ["BLOCK_TOKENS", "Counters", "Scheduler", "Sequence", "Step"]


@dataclass(slots=True)
class Sequence:
    """One answer being made; the scheduler counts in it."""

    key: int
    prompt_tokens: int
    computed: int = 0
    """Tokens whose keys and values are in memory."""
    generated: int = 0
    blocks: int = 0
    chain: tuple[bytes, ...] | None = None
    """Names of the prompt's full blocks; None: nothing of it is remembered (`prefixes.chain`)."""
    named: list[Name] | None = None
    """Of its blocks, those that others may share."""
    full: int = 0
    """Blocks that are full, from the first on, named or not."""
    cached: int | None = None
    """Tokens found in memory when it was first let in; None before."""

    @property
    def remaining(self) -> int:
        """Tokens to compute before the next one can be sampled; 1 while decoding."""
        return self.prompt_tokens + self.generated - self.computed

    @property
    def owed_prefill(self) -> int:
        """Prefill tokens not yet computed; nothing while decoding."""
        remaining = self.remaining
        return 0 if self.generated and remaining == 1 else remaining


@dataclass(frozen=True, slots=True)
class Step:
    """What one engine step computes."""

    work: tuple[tuple[Sequence, int], ...]
    duration_s: float


@dataclass(slots=True)
class Counters:
    """Totals since the start, for the metrics page."""

    prompt_tokens: int = 0
    generated_tokens: int = 0
    preemptions: int = 0
    prefix_queries: int = 0
    """Tokens asked of the prefix cache, of sequences let in for the first time, as vLLM counts."""
    prefix_hits: int = 0
    """And those it held."""


class Scheduler:
    """First come, first served: running sequences first, then waiting ones while slots, memory and
    the token budget last. When memory runs out the newest running sequence starts over.

    As vLLM 0.32 by default (`scheduler_reserve_full_isl`, no watermark): a sequence is let in once
    all that it has to compute would fit, though its memory is taken chunk by chunk. One with a
    `chain` begins behind the full blocks that are in memory already, but for its last token."""

    def __init__(self, profile: Profile) -> None:
        self.profile = profile
        self.counters = Counters()
        self._waiting: OrderedDict[int, Sequence] = OrderedDict()
        self._running: dict[int, Sequence] = {}
        self.memory = Blocks(max(1, profile.kv_tokens // BLOCK_TOKENS))
        self._owed_prefill = 0

    @property
    def unfinished(self) -> int:
        """Sequences waiting or running."""
        return len(self._waiting) + len(self._running)

    @property
    def prompt_tokens_in_prefill(self) -> int:
        """Whole prompts of the sequences that have no token yet, as vLLM's admission counts."""
        both = (*self._waiting.values(), *self._running.values())
        return sum(sequence.prompt_tokens for sequence in both if not sequence.generated)

    def load(self) -> Load:
        """The load as the engine reports it."""
        return Load(
            waiting=len(self._waiting),
            running=len(self._running),
            queued_prefill_tokens=self._owed_prefill,
            kv_use=self.memory.used / self.memory.total,
        )

    def add(self, sequence: Sequence) -> None:
        """Put a new sequence at the end of the queue. Raises ValueError if it can never run."""
        if sequence.prompt_tokens >= self.memory.total * BLOCK_TOKENS:
            raise ValueError(f"prompt of {sequence.prompt_tokens} tokens exceeds KV memory")
        self._waiting[sequence.key] = sequence
        self._owed_prefill += sequence.owed_prefill

    def remove(self, key: int) -> None:
        """Forget a sequence and free its slot and memory at once; unknown keys are ignored."""
        sequence = self._running.pop(key, None) or self._waiting.pop(key, None)
        if sequence is not None:
            self._owed_prefill -= sequence.owed_prefill
            self._free(sequence)

    def plan(self) -> Step | None:
        """The next step, or None when there is nothing to do. Reserves memory for it."""
        work: list[tuple[Sequence, int]] = []
        preempted = self.counters.preemptions
        budget = self._plan_running(work, self.profile.max_num_batched_tokens)
        if self.counters.preemptions == preempted:
            self._plan_waiting(work, budget)
        if not work:
            return None
        prefill = sum(chunk for sequence, chunk in work if sequence.owed_prefill)
        context = sum(sequence.computed for sequence, _ in work)
        return Step(tuple(work), step_s(self.profile, len(work), context, prefill))

    def commit(self, step: Step) -> list[Sequence]:
        """Apply a step that ended; returns the sequences that gained a token."""
        produced: list[Sequence] = []
        for sequence, chunk in step.work:
            if sequence.key not in self._running:
                continue
            owed = sequence.owed_prefill
            sequence.computed += chunk
            if sequence.remaining == 0:
                sequence.generated += 1
                produced.append(sequence)
                if sequence.generated == 1:
                    self.counters.prompt_tokens += sequence.prompt_tokens
            self._owed_prefill += sequence.owed_prefill - owed
        self.counters.generated_tokens += len(produced)
        return produced

    def _plan_running(self, work: list[tuple[Sequence, int]], budget: int) -> int:
        for sequence in list(self._running.values()):
            if budget <= 0 or sequence.key not in self._running:
                break
            chunk = min(sequence.remaining, budget)
            if not self._reserve_or_preempt(sequence, chunk):
                break
            work.append((sequence, chunk))
            budget -= chunk
        return budget

    def _plan_waiting(self, work: list[tuple[Sequence, int]], budget: int) -> None:
        while self._waiting and budget > 0 and len(self._running) < self.profile.max_num_seqs:
            key, sequence = next(iter(self._waiting.items()))
            found = () if sequence.chain is None else self._found(sequence)
            left = sequence.remaining - len(found) * BLOCK_TOKENS
            chunk = min(left, budget)
            # What is held by nobody takes memory as new blocks do.
            needed = _blocks(sequence, left if self._running else chunk) + self.memory.idle(found)
            if not self.memory.fits(needed):
                return
            if sequence.chain is not None:
                self._begin(sequence, found)
            self._reserve(sequence, chunk)
            del self._waiting[key]
            self._running[key] = sequence
            work.append((sequence, chunk))
            budget -= chunk

    def _found(self, sequence: Sequence) -> Names[Name]:
        """What is remembered of it; its last token is always computed."""
        return self.memory.known(_names(sequence, 0, (sequence.remaining - 1) // BLOCK_TOKENS))

    def _begin(self, sequence: Sequence, found: Names[Name]) -> None:
        """Let it in behind what was found."""
        cached, owed = len(found) * BLOCK_TOKENS, sequence.owed_prefill
        if sequence.cached is None:
            sequence.cached = cached
            self.counters.prefix_queries += sequence.remaining
            self.counters.prefix_hits += cached
        self.memory.share(found)
        sequence.named, sequence.computed = list(found), cached
        sequence.blocks = sequence.full = len(found)
        self._owed_prefill += sequence.owed_prefill - owed

    def _reserve(self, sequence: Sequence, chunk: int) -> bool:
        end = sequence.computed + chunk
        if end < sequence.blocks * BLOCK_TOKENS:
            return True  # within its last block
        needed = _blocks(sequence, chunk)
        if not self.memory.fits(needed):
            return False
        if needed:
            self.memory.take(needed)
            sequence.blocks += needed
        full = end // BLOCK_TOKENS
        if sequence.named is not None and full > sequence.full:
            # Before the step ran: whoever is let in with it finds them, as in vLLM.
            sequence.named += self.memory.remember(_names(sequence, sequence.full, full))
            sequence.full = full
        return True

    def _free(self, sequence: Sequence) -> None:
        named = sequence.named or ()
        self.memory.give_back(named, sequence.blocks - len(named))
        sequence.blocks = sequence.full = 0
        sequence.named = None

    def _reserve_or_preempt(self, sequence: Sequence, chunk: int) -> bool:
        """Free memory by sending back the newest sequences; false when it was this one's turn."""
        while not self._reserve(sequence, chunk):
            key, newest = self._running.popitem()
            self._owed_prefill -= newest.owed_prefill
            self._free(newest)
            newest.computed = 0
            self._owed_prefill += newest.owed_prefill
            self._waiting[key] = newest
            self._waiting.move_to_end(key, last=False)
            self.counters.preemptions += 1
            if newest is sequence:
                return False
        return True


def _blocks(sequence: Sequence, tokens: int) -> int:
    """Blocks that it takes to compute so many tokens more."""
    held = (sequence.computed + tokens + BLOCK_TOKENS - 1) // BLOCK_TOKENS
    return max(0, held - sequence.blocks)


def _names(sequence: Sequence, first: int, end: int) -> Names[Name]:
    """Of blocks `first` to `end`. What it says itself none but itself begins with."""
    chain = sequence.chain or ()
    if end <= len(chain):
        return chain[first:end]
    own = range(max(first, len(chain)), end)
    return *chain[first:], *((sequence.key, place) for place in own)
