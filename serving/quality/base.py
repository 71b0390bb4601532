"""The store of canaries' runs and of what has drifted.

Blocking by design: callers off the event loop's thread only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import msgspec

from serving.errors import OwnError
from serving.quality.values import Drift, Run

RUNS_MAX = 5000
"""Of one model at one target in one reading: some weeks of hourly prompts."""
encode_run = msgspec.json.Encoder().encode
decode_run = msgspec.json.Decoder(Run).decode
encode_drifts = msgspec.json.Encoder().encode
decode_drifts = msgspec.json.Decoder(list[Drift]).decode


class QualityAway(OwnError):  # noqa: N818 - a state
    """The store cannot be read or written now."""

    def __init__(self, message: str) -> None:
        super().__init__("quality_away", message)


class Found(NamedTuple):
    """What was last found of one model at one target."""

    model: str
    target: str
    at_ms: int
    drifts: list[Drift]


class QualityStore(Protocol):
    """Every method raises QualityAway when the store is away."""

    def add(self, runs: Sequence[Run]) -> None:
        """Store runs."""
        ...

    def runs(self, model: str, target: str) -> list[Run]:
        """Of one model at one target, in order of time: all baselines and the latest others."""
        ...

    def conclude(self, found: Found) -> None:
        """What was found now; replaces what was."""
        ...

    def found(self) -> list[Found]:
        """Of all models and targets."""
        ...

    def rebase(self, model: str, target: str) -> int:
        """Forget the runs of one model at one target: the next ones are its baseline. How many
        went."""
        ...

    def trim(self, before_ms: int) -> None:
        """Remove older runs that are no baseline."""
        ...

    def close(self) -> None:
        """Release the store; no call may follow."""
        ...
