"""The summary of `docs/capacity.md` and of `ballast models check`, line by line. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from models.measured import Measured
from models.sizing import Knowledge
from models.validation import (
    TARGET_FITTED,
    TARGET_SCALED,
    Compared,
    Left,
    left_out,
    mean_error,
    points,
)
from models.worded import Worded

_LEFT_OUT = (
    Worded("check.itself", "itself"),
    Worded("check.its_model", "its model"),
    Worded("check.its_gpu", "its GPU"),
)


class Line(NamedTuple):
    """One of the summary."""

    what: str
    """With a code, for who tells it in another language."""
    points: int
    error: float
    """Mean, as a share."""
    target: float


def lines(known: Knowledge, measured: Measured) -> list[Line]:
    """The summary of the page."""
    return list(lines_of(known, points(known, measured), list(left_out(known))))


def lines_of(known: Knowledge, found: list[Compared], lefts: list[Left]) -> Iterator[Line]:
    """The same of what was compared already."""
    fitted = [row for row in found if row.is_fitted]
    scaled = [row for row in found if not row.is_fitted]
    what = Worded("check.fitted", "published, configuration fitted")
    yield Line(what, len(fitted), mean_error(fitted), TARGET_FITTED)
    what = Worded("check.scaled", "published, extrapolated")
    yield Line(what, len(scaled), mean_error(scaled), TARGET_SCALED)
    possible = [row for row in scaled if not row.point.note.startswith("not possible")]
    what = Worded("check.possible", "the same without the point that cannot be")
    yield Line(what, len(possible), mean_error(possible), TARGET_SCALED)
    for kind in (Worded("check.dense", "dense"), Worded("check.experts", "experts")):
        for how in _LEFT_OUT:
            errors = [
                row.mean_error
                for row in lefts
                if row.left_out == how
                and known.configurations[row.calibration].bulk.is_moe == (kind == "experts")
            ]
            if errors:
                what = Worded("check.left_out", "left out {how}, {kind}", how=how, kind=kind)
                yield Line(what, len(errors), sum(errors) / len(errors), TARGET_SCALED)
