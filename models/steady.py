"""What callers see when so many of them keep an engine busy: the steady state of a closed loop.

Each of `concurrency` callers sends a prompt, reads the whole answer and sends the next. Sequences
run together until slots or KV memory are full; the rest waits, which shows as time to first token
at a nearly constant time per output token. Pure, closed form: no sampling, no simulation; held
against the simulated scheduler by tests.
"""

from __future__ import annotations

import math
from typing import Literal

import msgspec

from models.step import StepModel

REPEATED_SHARE = 1 / 8
"""Of an answer that a sequence has made when it is sent back: the newest goes first."""
PREEMPTIONS_FREE = 0.25
PREEMPTION_WAIT = 0.4
MIDWAY_SHARE = 0.75
"""Each preemption of a sequence beyond the first quarter lengthens its answer by `PREEMPTION_WAIT`
of it: it waits in the queue for memory; but at most `MIDWAY_SHARE` of all waiting is of that kind.
Fitted to the simulated scheduler (tests)."""


class Demand(msgspec.Struct, frozen=True):
    """What callers ask of one engine."""

    prompt_tokens: int
    output_tokens: int
    concurrency: int
    cached_share: float = 0.0
    """Of the prompt that the prefix cache holds already."""


class Room(msgspec.Struct, frozen=True):
    """What one data-parallel rank can hold."""

    slots: int
    """Sequences at once (`--max-num-seqs` / ranks)."""
    kv_tokens: int
    """Of all sequences together, if none had a recurrent state."""
    state_tokens: int = 0
    """What one sequence's recurrent state takes, in tokens of KV."""


class Steady(msgspec.Struct, frozen=True):
    """The steady state of one engine. Seconds, tokens of all ranks."""

    first_token_s: float
    per_token_s: float
    """Mean time per output token after the first, preemptions included."""
    step_s: float
    output_tokens_per_s: float
    prompt_tokens_per_s: float
    running: float
    """Sequences that run together."""
    waiting: float
    preemptions: float
    """Of each sequence, on average: it starts over when memory runs out."""
    limit: Literal["none", "slots", "memory"]
    """What keeps the others waiting."""


def steady(model: StepModel, room: Room, demand: Demand) -> Steady:
    """The steady state under `demand`, spread evenly over the model's ranks."""
    asked = demand.concurrency / model.ranks
    in_memory = running_max(room, demand)
    running = min(asked, room.slots, in_memory)
    limit: Literal["none", "slots", "memory"] = "none"
    if running < asked:
        limit = "slots" if room.slots <= in_memory else "memory"
    is_full = limit == "memory"
    preemptions = math.log1p(demand.output_tokens / demand.prompt_tokens) if is_full else 0.0
    step = _step_s(model, demand, running, preemptions)
    rate = running / step / demand.output_tokens
    midway = PREEMPTION_WAIT * max(0.0, preemptions - PREEMPTIONS_FREE)
    per_token = step * (1.0 + min(midway, MIDWAY_SHARE * (asked / running - 1.0)))
    cycle_s = asked / rate if running < asked else 0.0
    return Steady(
        first_token_s=max(
            _first_token_s(model, demand, running), cycle_s - demand.output_tokens * per_token
        ),
        per_token_s=per_token,
        step_s=step,
        output_tokens_per_s=rate * demand.output_tokens * model.ranks,
        prompt_tokens_per_s=rate * demand.prompt_tokens * model.ranks,
        running=running * model.ranks,
        waiting=max(0.0, asked - running) * model.ranks,
        preemptions=preemptions,
        limit=limit,
    )


def running_max(room: Room, demand: Demand) -> float:
    """Sequences whose KV fits at once on one rank, on average over their answers. The pool is never
    quite full: a prompt waits until all of it fits, so half of one stays free."""
    held = demand.prompt_tokens + demand.output_tokens / 2 + room.state_tokens
    return max(1.0, (room.kv_tokens - demand.prompt_tokens / 2) / held)


def _step_s(model: StepModel, demand: Demand, running: float, preemptions: float) -> float:
    """Mean step: every sequence that ends lets a prompt in, and those sent back repeat theirs."""
    own = demand.prompt_tokens * (1.0 - demand.cached_share)
    again = preemptions * (demand.prompt_tokens + demand.output_tokens * REPEATED_SHARE)
    per_answer_s = (own + again) * model.prefill_s(demand.prompt_tokens) + model.per_prompt_s
    context = running * (demand.prompt_tokens + demand.output_tokens / 2)
    alone = model.step_s(running, context, 0.0)
    return alone + running * per_answer_s / demand.output_tokens


def _first_token_s(model: StepModel, demand: Demand, running: float) -> float:
    """Below the limits: the prompt, its share of the others' prompts, and what is fixed."""
    first = model.first
    kilo = demand.prompt_tokens * (1.0 - demand.cached_share) / 1e3
    longer = model.prefill_s(demand.prompt_tokens) / max(model.per_prefill_token_s, 1e-12)
    others = first.per_kilo_sequence_ms * running
    return (first.fixed_ms + kilo * longer * (first.per_kilo_ms + others)) * 1e-3
