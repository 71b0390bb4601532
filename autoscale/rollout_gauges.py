"""What the leading controller shows of rollouts at `/metrics`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import get_args

from prometheus_client import CollectorRegistry, Gauge

from serving.rollout.decide import Tally
from serving.rollout.values import Rollout, State


class RolloutGauges:
    """Names come from the directory: as many series as it holds rollouts, gone with their rows."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._percent = Gauge("ballast_rollout_percent", "Of a name's calls, the new model's",
                              ["name"], registry=registry)  # fmt: skip
        self._state = Gauge("ballast_rollout_state", "1 for the state that a rollout is in",
                            ["name", "state"], registry=registry)  # fmt: skip
        self._left = Gauge("ballast_rollout_left_seconds",
                           "Until the deadline of a running rollout's step; below 0 it is past",
                           ["name"], registry=registry)  # fmt: skip
        self._errors = Gauge("ballast_rollout_error_ratio", "Calls with errors in this step",
                             ["name", "side"], registry=registry)  # fmt: skip
        self._counted: set[str] = set()

    def show(self, rows: Iterable[Rollout], now_ms: int) -> None:
        """All rollouts there are, and no other."""
        for gauge in (self._percent, self._state, self._left):
            gauge.clear()
        names = set()
        for row in rows:
            names.add(row.id)
            self._percent.labels(row.id).set(row.percent)
            for state in get_args(State):
                self._state.labels(row.id, state).set(row.state == state)
            if row.state == "running":
                in_step_s = (now_ms - row.since_ms) / 1e3
                self._left.labels(row.id).set(row.checks.deadline_s - in_step_s)
        for gone in self._counted - names:
            for side in ("new", "old"):
                self._errors.remove(gone, side)
        self._counted &= names

    def counted(self, name: str, new: Tally, old: Tally) -> None:
        """What a step's calls showed."""
        self._counted.add(name)
        for side, tally in (("new", new), ("old", old)):
            self._errors.labels(name, side).set(tally.error_share)
