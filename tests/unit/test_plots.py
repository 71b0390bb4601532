"""Axes and lines of pages: numbers enough to read by, names that stand where one can read them."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest

from models.plots import charts
from models.plots.axes import linear, powers
from models.plots.charts import BOTTOM, EACH, HEIGHT, Line


@pytest.mark.parametrize(
    ("values", "ticks"),
    [
        ([900.0, 19_000.0], [500.0, 1e3, 2e3, 5e3, 1e4, 2e4]),
        ([25.0, 480.0], [50.0, 100.0, 200.0, 500.0]),
        ([1.0, 9_000.0], [1.0, 10.0, 100.0, 1e3, 1e4]),
    ],
)
def test_a_logarithmic_axis_has_at_least_three_numbers(values, ticks):
    assert powers(values).ticks() == pytest.approx(ticks)


@pytest.mark.parametrize("ends", [[0, 0, 0, 9], [9, 9, 9, 9], [0, 0, 0, 0, 0, 0], [3, 3, 7]])
def test_names_at_the_ends_of_lines_overlap_neither_each_other_nor_the_axis(ends):
    curves = [Line(f"name{k}", [(0, 0), (1, end)], k) for k, end in enumerate(ends)]
    page = charts.lines("t", (linear([1]), linear([10])), curves)
    found = re.findall(r'y="([\d.]+)"[^>]*>name\d', page)
    places = sorted(float(y) for y in found)
    assert len(places) == len(ends)
    assert all(b - a >= EACH - 0.11 for a, b in pairwise(places))
    assert places[-1] <= HEIGHT - BOTTOM
