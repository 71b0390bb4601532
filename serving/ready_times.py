"""When a model's first engine may be expected: learnt from how long the last ones took.

Kept in a small file between lives; only what was observed is kept, never the settings' first guess.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path

import msgspec

from serving.records import Pending
from serving.settings import Model

LATE_S = 10.0
"""An engine later than expected is expected again after this, or after half of what it is late
already if that is more: callers of a long outage are sent elsewhere at once."""
_PLAUSIBLE_S = 7200.0
_log = logging.getLogger(__name__)


class ReadyTimes:
    """How long each model's engines take to become ready."""

    def __init__(self, models: Iterable[Model]) -> None:
        self._ready_s = {m.name: m.time_to_ready_s for m in models}
        self._observed_s: dict[str, float] = {}
        self._unready_since_s: dict[str, float] = {}

    def ready(self, model: str, now_s: float) -> None:
        """The model has an engine: learn how long it took, if it had none before."""
        since_s = self._unready_since_s.pop(model, None)
        if since_s is not None:
            self._ready_s[model] = self._observed_s[model] = now_s - since_s

    def expected(self, model: str, now_s: float) -> Pending:
        """The model has no engine but should get one: when."""
        since_s = self._unready_since_s.setdefault(model, now_s)
        due_s = since_s + self._ready_s[model]
        late_s = now_s - due_s
        return Pending(model, due_s if late_s < 0 else now_s + max(LATE_S, late_s / 2))

    def remember(self, path: Path) -> None:
        """Start from what an earlier life saw."""
        try:
            seen = msgspec.json.decode(path.read_bytes(), type=dict[str, float])
        except (OSError, msgspec.MsgspecError):
            return
        known = {k: v for k, v in seen.items() if k in self._ready_s and 0 < v < _PLAUSIBLE_S}
        self._observed_s |= known
        self._ready_s |= known

    def save(self, path: Path) -> None:
        """Keep what was observed for the next life; a disk that refuses costs only that."""
        try:
            path.write_bytes(msgspec.json.encode(self._observed_s))
        except OSError as error:
            _log.warning("ready_times_not_saved", extra={"reason": str(error)})
