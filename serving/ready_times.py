"""When a model's first engine may be expected: learnt from how long the last ones took.

Two sources: what this gateway saw (the whole absence), and the stages that the launcher on the same
machine put down (`start_record`), which also tell how far starts differ: the median is what callers
are told, and a call is held only if nine starts of ten would end in time.

Only loading is learnt from, so that an hour's outage does not become the time to expect: a wait
during which nobody could look teaches nothing, and one wait at most doubles what was expected.
Kept in a small file between lives; only what was observed is kept, never the settings' first guess.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path

import msgspec

from models import start_time
from serving import start_record
from serving.records import Pending
from serving.settings import Model

LATE_S = 10.0
"""An engine later than expected is expected again after this, or after half of what it is late
already if that is more: callers of a long outage are sent elsewhere at once."""
BLIND_S_MAX = 60.0
"""Ray itself starts in less. When nobody looked for longer (Ray was away, the machine slept), the
engine begins to load some time after that: it is counted from there, and not learnt from."""
GROWTH_MAX = 2.0
"""A long outage that looks like loading (crash loops, a first download) is forgotten by the next
start; a model that became slower is known after a few."""
_PLAUSIBLE_S = 7200.0
_log = logging.getLogger(__name__)


class _Absence:
    """A stretch without an engine."""

    __slots__ = ("is_whole", "looked_s", "since_s")

    def __init__(self, now_s: float) -> None:
        self.since_s = self.looked_s = now_s
        self.is_whole = True
        """Somebody looked all the time."""

    def look(self, now_s: float) -> None:
        if now_s - self.looked_s > BLIND_S_MAX:
            self.since_s, self.is_whole = now_s, False
        self.looked_s = now_s


class ReadyTimes:
    """How long each model's engines take to become ready."""

    def __init__(self, models: Iterable[Model]) -> None:
        self._ready_s = {m.name: m.time_to_ready_s for m in models}
        self._late_s = dict.fromkeys(self._ready_s, 0.0)
        """What one start of ten takes longer than that."""
        self._starts: Path | None = None
        self._observed_s: dict[str, float] = {}
        self._absences: dict[str, _Absence] = {}

    def ready(self, model: str, now_s: float) -> None:
        """The model has an engine: learn how long it took, if it had none before."""
        absence = self._absences.pop(model, None)
        if absence is None:
            return
        absence.look(now_s)
        if absence.is_whole:
            took_s = min(now_s - absence.since_s, GROWTH_MAX * self._ready_s[model])
            self._ready_s[model] = self._observed_s[model] = took_s

    def expected(
        self, model: str, now_s: float, *, is_blind: bool = False, is_asleep: bool = False
    ) -> Pending:
        """The model has no engine but should get one: when. `is_blind`: nobody can look now.
        `is_asleep`: nobody wants one yet; it takes as long as ever from when somebody does."""
        absence = self._absences.get(model)
        if absence is None:
            absence = self._absences[model] = _Absence(now_s)
            self._reread(model)
        if is_asleep:
            absence = self._absences[model] = _Absence(now_s)
        if not is_blind:
            absence.look(now_s)
        due_s = absence.since_s + self._ready_s[model]
        late_s = now_s - due_s
        due_s = due_s if late_s < 0 else now_s + max(LATE_S, late_s / 2)
        return Pending(model, due_s, due_s + self._late_s[model])

    def follow(self, starts: Path) -> None:
        """Learn from the stages that a launcher puts down there, whenever an absence begins."""
        self._starts = starts

    def _reread(self, model: str) -> None:
        if self._starts is None:
            return
        found = start_time.upcoming(start_record.read(self._starts), model)
        if found is not None:
            ready = found.ready
            self._late_s[model] = max(0.0, ready.p90_s - ready.median_s)
            if model not in self._observed_s:
                self._ready_s[model] = ready.median_s

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
