"""Least squares in plain Python: exact on exact data, never negative, honest about its errors."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.least_squares import solve

ROWS = [[1.0, b, b * c, b * c * c % 7] for b in (1.0, 2.0, 4.0, 8.0) for c in (0.5, 1.0, 3.0)]
positive = st.floats(0.01, 1e3)


@given(st.tuples(positive, positive, positive, positive))
def test_exact_data_gives_its_coefficients_back(truth):
    observed = [sum(c * x for c, x in zip(truth, row, strict=True)) for row in ROWS]
    found = solve(ROWS, observed)
    for got, wanted in zip(found.coefficients, truth, strict=True):
        assert got == pytest.approx(wanted, rel=1e-4, abs=1e-5)
    assert found.max_error < 1e-6


def test_a_coefficient_that_would_be_negative_is_zero_and_the_others_are_refitted():
    found = solve([[1.0, 1.0], [1.0, 2.0], [1.0, 3.0]], [3.0, 2.0, 1.0])
    assert found.coefficients[1] == 0.0
    assert found.coefficients[0] > 0.0
    assert 0.0 < found.mean_error <= found.max_error


def test_a_column_that_another_one_repeats_does_not_blow_up():
    found = solve([[1.0, 2.0], [2.0, 4.0], [3.0, 6.0]], [1.0, 2.0, 3.0])
    assert sum(c * x for c, x in zip(found.coefficients, (1.0, 2.0), strict=True)) == (
        pytest.approx(1.0)
    )


def test_fewer_observations_than_coefficients_are_refused():
    with pytest.raises(ValueError, match="1 observations for 2 coefficients"):
        solve([[1.0, 2.0]], [1.0])
    with pytest.raises(ValueError, match="0 observations"):
        solve([], [])
