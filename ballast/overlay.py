"""Writes what was measured on a live engine as a calibration into the overlay folder."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import msgspec
import yaml

from ballast import models_ask
from ballast.messages import Said
from ballast.problem import ProblemError
from models.bulk import bulk_of
from models.calibration import OVERLAY, Calibration
from models.learn import Learnt
from models.sizing import Knowledge

DIGITS = 5


class Subject(msgspec.Struct, frozen=True):
    """What was measured."""

    card: str
    variant: str
    gpu: str
    tensor: int
    version: str

    @property
    def name(self) -> str:
        """Of the calibration and its file."""
        return f"{self.card}-{self.variant}-{self.tensor}x{self.gpu}-measured"


def subject_of(known: Knowledge, card: str, gpu: str, tensor: int, version: str) -> Subject:
    """Check the words. Raises ProblemError."""
    if not card or not gpu:
        raise ProblemError(Said("problem.say_measured"), "--card qwen3-32b/fp8 --gpu h100-80")
    found, variant = models_ask.card_of(known, card)
    if not variant:
        raise ProblemError(
            Said("problem.say_variant", model=found.id), f"{', '.join(found.variants)}"
        )
    return Subject(found.id, variant, models_ask.gpu_of(known, gpu).id, tensor, version)


def touched(known: Knowledge, subject: Subject) -> float:
    """Share of its experts that one token chooses."""
    card = known.catalog.card(subject.card)
    return bulk_of(card, card.variants[subject.variant]).touched


def write(subject: Subject, learnt: Learnt, cards_dir: Path, today: date) -> Path:
    """Write the calibration; it lies over a packaged one of the same configuration from then on.
    Raises ProblemError."""
    row = _row(subject, learnt, today)
    Calibration.model_validate(row)
    path = cards_dir / OVERLAY / f"{subject.name}.yaml"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump([row], sort_keys=False), encoding="utf-8")
    except OSError as error:
        what = Said("problem.cannot_write", path=path, why=error.strerror)
        raise ProblemError(what) from None
    return path


def _row(subject: Subject, learnt: Learnt, today: date) -> dict[str, Any]:
    loop = "not checked"
    if learnt.loop_token_error is not None and learnt.loop_first_error is not None:
        loop = (
            f"a closed loop was predicted {learnt.loop_token_error:+.1%} per token and "
            f"{learnt.loop_first_error:+.1%} to first token"
        )
    times = {
        "base_ms": learnt.base_ms,
        "experts_ms": learnt.experts_ms,
        "per_sequence_ms": learnt.per_sequence_ms,
        "per_kilo_context_ms": learnt.per_kilo_context_ms,
        "per_kilo_prefill_ms": learnt.per_kilo_prefill_ms,
    }
    return {
        "name": subject.name,
        "card": subject.card,
        "variant": subject.variant,
        "gpu": subject.gpu,
        "tensor": subject.tensor,
        "engine": "vllm",
        "engine_version": subject.version,
        **{key: round(value, DIGITS) for key, value in times.items()},
        "first_token": {k: round(v, DIGITS) for k, v in learnt.first_token.model_dump().items()},
        "points": learnt.points,
        "mean_error": round(learnt.mean_error, DIGITS),
        "max_error": round(learnt.max_error, DIGITS),
        "measured": today.isoformat(),
        "source": f"`ballast models profile`; {loop}",
    }
