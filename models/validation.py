"""How far the predictions are from what was measured, and from what they never saw. Pure.

Two questions: every published point against the prediction for it, and every calibration against
what the others would have predicted had it never been measured (alone, with all of its model, with
all of its kind of GPU).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Literal

import msgspec

from models.calibration import Calibration, Grid
from models.layout import Layout
from models.measured import Burst, Measured, Point, Subject
from models.memory import DoesNotFit
from models.sizing import Knowledge, Sized, size
from models.speed import Configuration, NoCalibrationError, step_model
from models.steady import Demand
from models.step import StepModel

TARGET_FITTED = 0.05
TARGET_SCALED = 0.15
"""Mean error of the time per output token that we ask of ourselves (issue 3)."""
SEQUENCES = 256
MEMORY_SHARE = 0.9
"""What the measured engines ran with: vLLM's default until 0.31."""
LeftOut = Literal["itself", "its model", "its GPU"]


class Compared(msgspec.Struct, frozen=True):
    """A published point beside its prediction; errors as shares, predicted / measured - 1."""

    point: Point
    sized: Sized
    token_ms: float
    token_error: float
    first_error: float | None

    @property
    def is_fitted(self) -> bool:
        """Whether this very configuration was calibrated."""
        return self.sized.model.basis == "fitted"

    @property
    def is_in_target(self) -> bool:
        """Whether it alone is as near as we ask of the mean."""
        return abs(self.token_error) <= (TARGET_FITTED if self.is_fitted else TARGET_SCALED)


class BurstCompared(msgspec.Struct, frozen=True):
    """A published burst beside the steady state at its size."""

    burst: Burst
    sized: Sized
    requests_per_s: float
    error: float


class Left(msgspec.Struct, frozen=True):
    """A calibration, and how far the others would have been from it, over its own loads."""

    calibration: str
    left_out: LeftOut
    leaned_on: str
    expected_error: float
    """What the model said of itself."""
    mean_error: float
    max_error: float


def points(known: Knowledge, measured: Measured) -> list[Compared]:
    """All points that can be compared."""
    rows = []
    for point in measured.points:
        if point.not_compared or point.concurrency is None or point.token_ms is None:
            continue
        sized = _sized(known, point, point.concurrency)
        predicted = sized.steady.per_token_s * 1e3
        if point.per_token_ms is None:  # a rate: compare rates
            predicted = 1e3 * point.concurrency / sized.steady.output_tokens_per_s
        first = None
        if point.first_token_ms is not None:
            first = sized.steady.first_token_s * 1e3 / point.first_token_ms - 1
        rows.append(Compared(point, sized, predicted, predicted / point.token_ms - 1, first))
    return rows


def bursts(known: Knowledge, measured: Measured) -> list[BurstCompared]:
    """All bursts; engines that are not vLLM are compared with what we predict for vLLM."""
    rows = []
    for burst in measured.bursts:
        sized = _sized(known, burst, burst.requests)
        rate = sized.steady.output_tokens_per_s / burst.output_tokens
        rows.append(BurstCompared(burst, sized, rate, rate / burst.requests_per_s - 1))
    return rows


def left_out(known: Knowledge) -> Iterator[Left]:
    """Each calibration that others may be scaled from, predicted without it."""
    for one, its in known.known():
        if one.grid is None or not one.scales:
            continue
        for kind, is_hidden in _hidings(one, its):
            kept = [(c, k) for c, k in known.known() if not is_hidden(c, k)]
            try:
                model = step_model(its, kept)
            except NoCalibrationError:
                continue
            errors = [abs(model_ms / own_ms - 1) for own_ms, model_ms in _loads(one, its, model)]
            mean = sum(errors) / len(errors)
            yield Left(one.name, kind, model.calibration, model.error, mean, max(errors))


def mean_error(rows: Iterable[Compared]) -> float:
    """Mean of the errors' sizes; 0 of none."""
    errors = [abs(row.token_error) for row in rows]
    return sum(errors) / len(errors) if errors else 0.0


def layout_of(known: Knowledge, subject: Subject, concurrency: int) -> Layout:
    """The engine as it was measured, as far as its page says."""
    kind = known.gpus.gpu(subject.gpu)
    return Layout(
        card=subject.card,
        variant=subject.variant,
        gpu=kind.id,
        tensor=subject.tensor,
        context_tokens=subject.prompt_tokens + subject.output_tokens,
        sequences=min(kind.vllm.max_num_seqs, max(SEQUENCES, concurrency)),
        memory_share=MEMORY_SHARE,
    )


def _sized(known: Knowledge, subject: Subject, concurrency: int) -> Sized:
    layout = layout_of(known, subject, concurrency)
    demand = Demand(subject.prompt_tokens, subject.output_tokens, concurrency)
    found = size(known, layout, demand)
    if isinstance(found, DoesNotFit):
        raise ValueError(f"{subject.card} on {subject.gpu}: {'; '.join(found.reasons)}")
    return found


Hides = Callable[[Calibration, Configuration], bool]


def _hidings(one: Calibration, its: Configuration) -> Iterator[tuple[LeftOut, Hides]]:
    yield "itself", lambda other, _: other.name == one.name
    yield "its model", lambda _, config: config.bulk == its.bulk
    yield "its GPU", lambda _, config: config.gpu.id == its.gpu.id


def _loads(one: Calibration, its: Configuration, model: StepModel) -> Iterator[tuple[float, float]]:
    """(time per token of the calibration, of the model) in ms, for each load of its grid."""
    own = step_model(msgspec.structs.replace(its, card="*", variant="*"), [(
        one, msgspec.structs.replace(its, card="*", variant="*"))])  # fmt: skip
    grid = one.grid or Grid(prompt_tokens=(1,), output_tokens=(1,), sequences=(1,))
    for prompt in grid.prompt_tokens:
        for output in grid.output_tokens:
            for sequences in grid.sequences:
                context = sequences * (prompt + output / 2)
                prefill = sequences * prompt / output
                yield (
                    own.step_s(sequences, context, prefill) * 1e3,
                    model.step_s(sequences, context, prefill) * 1e3,
                )
