"""What came of a tick's decisions: values for the journal, the log and `/decisions`. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias

import msgspec

Outcome: TypeAlias = Literal[
    "kept", "asked", "coming", "stuck", "refused", "unknown", "fenced", "would"
]
"""kept: as wanted, nothing to do. asked: written now. coming: accepted and under way. stuck:
accepted, and nothing follows. refused: the other side said no, or our own bounds did. unknown:
could not be read or reached. fenced: no lease. would: a dry run."""


class Act(msgspec.Struct, frozen=True):
    """One actuator's answer for one model (or pool)."""

    actuator: str
    model: str
    outcome: Outcome
    reason: str
    wanted: int = -1
    """Replicas or machines; negative: nobody decided."""
    seen: int = -1
    """That are there as far as the other side says; negative: unknown."""
    pool: str = ""
    error: str = ""
    """Of the write, if it failed: the part of it that replay cannot compute."""


class Asked(msgspec.Struct, frozen=True):
    """What an actuator asked for last, and when something last followed."""

    wanted: int
    moved_ms: int
    shape: tuple[int, ...] = ()
    """What was seen then: a change of it is progress."""
    tries: int = 0
    """Writes that were accepted and are not to be seen yet."""
    extra: int = 0
    """Of `wanted`: successors of replicas on hosts that are going, beyond what was decided."""


AskedOf: TypeAlias = Mapping[str, Asked]
"""By model."""
