"""A placement stays cheap. Counted in bytecodes, which a busy machine does not change; the times
are `python -m benchmarks.placement`'s."""

from __future__ import annotations

from functools import partial

import pytest

from benchmarks.placement import BUDGET_US, CALL, CALLER, NOW_S, bytecodes, cases, timed
from serving.routing import place

FIFTY, ONE = 14_000, 1_150
"""About 60 us where this was measured is 12,000 of them; the usual call took 1,060."""


@pytest.mark.parametrize("case", cases(), ids=lambda case: case.name)
def test_a_decision_over_fifty_targets_takes_bounded_work(case):
    assert bytecodes(partial(place, CALL, CALLER, case.view, NOW_S)) <= FIFTY


def test_the_usual_call_pays_for_what_it_meets_only():
    usual = cases()[0]
    assert bytecodes(partial(place, CALL, CALLER, usual.view, NOW_S)) <= ONE


def test_the_benchmark_times_single_decisions():
    median_us, high_us = timed(cases()[0], turns=200)
    assert 0.0 < median_us <= high_us
    assert BUDGET_US == 60.0
