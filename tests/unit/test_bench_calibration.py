"""How true predictions were, read off a gateway's metrics."""

from __future__ import annotations

import pytest

from benchmarks.calibration.live import Truth, look, truths
from serving.metrics import Metrics

KEY = ("m", "own")


def shown(ratios, late) -> str:
    metrics = Metrics(lambda: ())
    for ratio in ratios:
        metrics.first_ratio.observe(KEY, ratio)
    for _ in range(late):
        metrics.beyond.add((*KEY, "first_token"))
    return metrics.render().decode()


def test_what_came_between_two_looks_is_told_and_nothing_before():
    before = look(shown([9.0] * 50, 50))
    after = look(shown([9.0] * 50 + [0.8] * 10 + [1.0] * 20 + [1.2] * 10, 54))
    found = truths(before, after)
    assert found.keys() == {("first_token", KEY)}
    truth = found["first_token", KEY]
    assert truth.calls == 40
    assert truth.median == pytest.approx(1.0, abs=0.05)
    assert truth.covered == pytest.approx(0.9)


def test_a_gateway_that_served_nothing_meanwhile_says_nothing():
    same = look(shown([1.0] * 9, 1))
    assert truths(same, same) == {}
    assert truths(look(""), same)["first_token", KEY] == Truth(9, pytest.approx(1.0), 8 / 9)
