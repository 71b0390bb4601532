"""A tick of the controller's `step` stays short when there is much to decide."""

from __future__ import annotations

from statistics import median

from benchmarks.scaling.ticks import ticks

BOUND_S = 0.05
"""Of CPU time; some ten times what a quiet machine takes (docs/autoscaler.md)."""


def test_a_tick_of_fifty_models_and_five_hundred_replicas_is_decided_in_time() -> None:
    rows = list(ticks(50, 500, 3, 80))[40:]
    assert max(replicas for _, replicas in rows) >= 500
    assert median(seconds for seconds, _ in rows) <= BOUND_S
