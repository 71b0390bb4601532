"""Intervals against published figures, and against what groups do to them."""

from __future__ import annotations

import random
from math import isclose

import pytest

from serving.evaluation.intervals import (
    Interval,
    mean,
    means_differ,
    percentile,
    ratio,
    share,
    shares_differ,
    wilson,
)

# Newcombe 1998, Statistics in Medicine 17:857, table I, method 3.
WILSON = [
    (81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611),
    (1, 29, 0.0061, 0.1718),
]  # fmt: skip
# Newcombe 1998, Statistics in Medicine 17:873, table II, method 10.
DIFFERENCES = [
    (56, 70, 48, 80, 0.0524, 0.3339), (9, 10, 3, 10, 0.1705, 0.8090),
    (6, 7, 2, 7, 0.0582, 0.8062), (5, 56, 0, 29, -0.0381, 0.1926), (10, 10, 0, 10, 0.6075, 1.0),
]  # fmt: skip


@pytest.mark.parametrize(("found", "of", "low", "high"), WILSON)
def test_a_share_s_interval_is_wilson_s(found, of, low, high):
    got = wilson(found, of)
    assert got.value == found / of
    assert (round(got.low, 4), round(got.high, 4)) == (low, high)


@pytest.mark.parametrize(("a", "of_a", "b", "of_b", "low", "high"), DIFFERENCES)
def test_a_difference_of_shares_is_newcombe_s(a, of_a, b, of_b, low, high):
    got = shares_differ(wilson(a, of_a), wilson(b, of_b))
    assert (round(got.low, 4), round(got.high, 4)) == (low, high)


def test_groups_of_one_are_an_ordinary_sample():
    some = [(1.0, 1.0)] * 30 + [(0.0, 1.0)] * 70
    got, plain = share(some), wilson(30, 100)
    assert isclose(got.low, plain.low, abs_tol=2e-3)
    assert isclose(got.high, plain.high, abs_tol=2e-3)


def test_requests_that_are_alike_within_a_group_tell_less():
    alike = [(10.0, 10.0)] * 3 + [(0.0, 10.0)] * 7
    got, plain = share(alike), wilson(30, 100)
    assert got.value == plain.value
    assert got.high - got.low > 2 * (plain.high - plain.low)


def test_a_mean_s_interval_covers_the_truth_as_often_as_it_says():
    """400 samples of 60 groups of 1 to 9 requests that share an offset; about 95 % hold 5.0."""
    rng, hits = random.Random(7), 0
    for _ in range(400):
        groups = []
        for _ in range(60):
            count, offset = rng.randint(1, 9), rng.gauss(0, 1)
            groups.append((sum(rng.gauss(5 + offset, 1) for _ in range(count)), float(count)))
        got = mean(groups)
        hits += got.low <= 5 <= got.high
    assert 0.91 <= hits / 400 <= 0.98


def test_means_differ_by_both_spreads():
    got = means_differ(Interval(9, 10, 11), Interval(5, 7, 9))
    assert (got.value, round(got.high - got.value, 3)) == (3, round(5**0.5, 3))
    assert got.is_off_zero
    assert not means_differ(Interval(9, 10, 11), Interval(5, 9, 13)).is_off_zero


def test_nothing_and_a_single_group_are_said():
    assert (wilson(0, 0), share([]), mean([(0.0, 0.0)]), ratio([])) == (None,) * 4
    assert ratio([(4.0, 2.0)]).deviation == 0
    assert share([(0.0, 5.0)]) == wilson(0, 5)
    assert share([(5.0, 5.0), (5.0, 5.0)]) == wilson(10, 10)


def test_a_percentile_s_interval_is_of_ranks_and_needs_them_to_exist():
    counts = [(float(n), 1) for n in range(1, 101)]
    got = percentile(counts, 0.5)
    assert (got.low, got.value, got.high) == (40.0, 50.0, 60.0)
    assert percentile([(1.0, 50)], 0.95) is None
    assert percentile([], 0.5) is None
    assert percentile([(3.0, 1000)], 0.95) == Interval(3.0, 3.0, 3.0)
