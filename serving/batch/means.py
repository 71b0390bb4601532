"""What batches are worked on with."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from serving.api.calls import Calls
from serving.batch.desk import Desk
from serving.batch.lines import Lines
from serving.batch.settings import BatchSettings
from serving.batch.values import Batch
from serving.metrics import Counter
from serving.records import Caller, FleetView


class Means(NamedTuple):
    """What batches are worked on with; built by the composition root."""

    desk: Desk
    settings: BatchSettings
    calls: Calls
    lines: Lines
    view: Callable[[], FleetView]
    waiting: Callable[[str], int]
    """Calls that stand in line for a model."""
    caller: Callable[[Batch], Caller | None]
    """Whose calls they are now; None while nobody knows. Raises CallerError once its key may do
    nothing more."""
    owned: frozenset[str]
    """Models that have engines of ours, or are to have some."""
    utc_ms: Callable[[], int]
    holder: str
    counted: Counter
    fills: Callable[[str, int], None]
    """Told of calls that only fill idle engines; see `demand`."""
    is_stopping: Callable[[], bool]
    """The gateway drains: no more lines start."""
