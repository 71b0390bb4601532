"""From what a client saw of a live engine to the coefficients of its step time. Pure.

Answers of so many sequences that all decode tell what a step costs by sequences and context; single
prompts on an idle engine tell what prefill costs; a closed loop, which is not fitted, tells how
well both predict what they never saw.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from models.calibration import FirstToken
from models.least_squares import Solution, solve
from models.speed import WAIT_SHARE
from models.steady import Demand, Room, Steady, steady
from models.step import StepModel
from models.worded import Worded

CELLS_MIN = 5
PROMPTS_MIN = 3


class Decoding(msgspec.Struct, frozen=True):
    """So many sequences that only decode."""

    sequences: int
    context_tokens: float
    """Held by all of them, in the middle of the window."""
    step_s: float


class Prompt(msgspec.Struct, frozen=True):
    """One prompt on an idle engine."""

    tokens: int
    first_token_s: float


class Loop(msgspec.Struct, frozen=True):
    """A closed loop, as it was seen."""

    demand: Demand
    first_token_s: float
    per_token_s: float


class Learnt(msgspec.Struct, frozen=True):
    """Coefficients in ms (per thousand tokens) and how well they explain what was seen."""

    base_ms: float
    experts_ms: float
    per_sequence_ms: float
    per_kilo_context_ms: float
    per_kilo_prefill_ms: float
    first_token: FirstToken
    touched: float
    points: int
    mean_error: float
    max_error: float
    prefill_error: float
    """Mean error of the time to first token over the single prompts."""
    loop_token_error: float | None = None
    loop_first_error: float | None = None
    """Predicted / seen - 1 of the closed loop."""


class NotEnoughError(Exception):
    """Too little was seen to tell the coefficients apart; says what is missing."""


def learn(decodings: Sequence[Decoding], prompts: Sequence[Prompt], touched: float = 0.0) -> Learnt:
    """Fit the coefficients; `touched` is the share of experts that one token chooses. Raises
    NotEnoughError."""
    if len(decodings) < CELLS_MIN or len({d.sequences for d in decodings}) < 2:
        template = "{count} batches were timed, {least} of two sizes needed"
        raise NotEnoughError(
            Worded("learn.batches", template, count=len(decodings), least=CELLS_MIN)
        )
    if len({p.tokens for p in prompts}) < PROMPTS_MIN:
        template = "prompts of {count} lengths are needed"
        raise NotEnoughError(Worded("learn.lengths", template, count=PROMPTS_MIN))
    steps = _steps(decodings, touched)
    first = solve(
        [[1.0, p.tokens / 1e3] for p in prompts], [p.first_token_s * 1e3 for p in prompts]
    )
    base, sequence, context, *experts = steps.coefficients
    fixed, kilo = first.coefficients
    return Learnt(
        base_ms=base,
        experts_ms=experts[0] if experts else 0.0,
        per_sequence_ms=sequence,
        per_kilo_context_ms=context,
        per_kilo_prefill_ms=kilo,
        first_token=FirstToken(
            fixed_ms=fixed, per_kilo_ms=kilo, per_kilo_sequence_ms=kilo * WAIT_SHARE
        ),
        touched=touched,
        points=len(decodings) + len(prompts),
        mean_error=steps.mean_error,
        max_error=steps.max_error,
        prefill_error=first.mean_error,
    )


def checked(learnt: Learnt, loop: Loop) -> Learnt:
    """With the errors of predicting a closed loop that was not fitted."""
    found = predicted(learnt, loop.demand)
    return msgspec.structs.replace(
        learnt,
        loop_token_error=found.per_token_s / loop.per_token_s - 1,
        loop_first_error=found.first_token_s / loop.first_token_s - 1,
    )


def predicted(learnt: Learnt, demand: Demand) -> Steady:
    """The steady state of a closed loop below the engine's limits."""
    room = Room(slots=demand.concurrency, kv_tokens=1 << 40)
    return steady(_model(learnt), room, demand)


def _steps(decodings: Sequence[Decoding], touched: float) -> Solution:
    rows = [
        [1.0, float(d.sequences), d.context_tokens / 1e3]
        + ([1.0 - (1.0 - touched) ** d.sequences] if touched else [])
        for d in decodings
    ]
    return solve(rows, [d.step_s * 1e3 for d in decodings])


def _model(learnt: Learnt) -> StepModel:
    return StepModel(
        base_s=learnt.base_ms * 1e-3,
        experts_s=learnt.experts_ms * 1e-3,
        touched=learnt.touched,
        ranks=1,
        per_sequence_s=learnt.per_sequence_ms * 1e-3,
        per_context_token_s=learnt.per_kilo_context_ms * 1e-6,
        per_prefill_token_s=learnt.per_kilo_prefill_ms * 1e-6,
        per_prompt_s=0.0,
        per_prefill_pair_s=0.0,
        first=learnt.first_token,
        basis="fitted",
        calibration="measured",
        error=learnt.mean_error,
    )
