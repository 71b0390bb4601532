"""The predictions against what was measured, and the page that says so, in step with the facts."""

from __future__ import annotations

from pathlib import Path

import pytest

from models import measured, report, sizing, validation

KNOWN = sizing.load()
MEASURED = measured.load()
PAGE = Path(__file__).parents[2] / "docs" / "capacity.md"
POINTS = validation.points(KNOWN, MEASURED)
LEFT = list(validation.left_out(KNOWN))


def mean(rows: list[validation.Left]) -> float:
    return sum(row.mean_error for row in rows) / len(rows)


def test_the_page_is_in_step_with_the_facts():
    text = report.markdown(KNOWN, MEASURED)
    assert PAGE.read_text(encoding="utf-8") == text, (
        "write it anew: python -m ballast models check --markdown > docs/capacity.md"
    )


def test_every_published_point_is_compared_or_says_why_not():
    skipped = [point for point in MEASURED.points if point.not_compared]
    assert len(POINTS) + len(skipped) == len(MEASURED.points) == 28


def test_fitted_configurations_are_met_within_five_percent_on_average():
    fitted = [row for row in POINTS if row.is_fitted]
    assert len(fitted) == 16
    assert validation.mean_error(fitted) <= validation.TARGET_FITTED


def test_extrapolated_points_are_met_within_the_target_but_for_one_that_cannot_be():
    scaled = [row for row in POINTS if not row.is_fitted]
    possible = [row for row in scaled if not row.point.note.startswith("not possible")]
    assert len(scaled) - len(possible) == 1
    assert validation.mean_error(possible) <= validation.TARGET_SCALED


@pytest.mark.parametrize("how", ["itself", "its model", "its GPU"])
def test_dense_models_left_out_are_met_within_six_percent(how):
    rows = [
        row for row in LEFT
        if row.left_out == how and not KNOWN.configurations[row.calibration].bulk.is_moe
    ]  # fmt: skip
    assert len(rows) == 10
    assert mean(rows) <= 0.04
    assert max(row.mean_error for row in rows) <= 0.065


def test_experts_left_out_alone_are_met_within_the_target_on_average():
    rows = [
        row for row in LEFT
        if row.left_out == "itself" and KNOWN.configurations[row.calibration].bulk.is_moe
    ]  # fmt: skip
    assert mean(rows) <= validation.TARGET_SCALED


def test_the_expected_error_covers_nine_of_ten_left_out_configurations():
    covered = [row.mean_error <= row.expected_error for row in LEFT]
    assert sum(covered) / len(covered) >= 0.9


def test_what_leans_on_itself_is_never_called_left_out():
    assert all(row.calibration != row.leaned_on for row in LEFT)


def test_a_rate_stands_for_the_time_it_leaves_each_token():
    (point,) = [p for p in MEASURED.points if p.card == "qwen3.5-35b-a3b"]
    assert point.per_token_ms is None
    assert point.token_ms == pytest.approx(1e3 * 128 / 6942)
