"""When an engine may be expected: as learnt, then ever later the longer it is overdue."""

from __future__ import annotations

import json

import pytest

from serving.ready_times import BLIND_S_MAX, LATE_S, ReadyTimes
from serving.settings import Model

MODELS = (Model(name="m", time_to_ready_s=50.0),)


def look(times: ReadyTimes, begin_s: float, until_s: float, *, is_blind: bool = False) -> None:
    """Ask each second, as the fleet does."""
    for second in range(int(begin_s), int(until_s)):
        times.expected("m", float(second), is_blind=is_blind)


@pytest.mark.parametrize(
    ("now_s", "in_s"),
    [(0.0, 50.0), (49.0, 1.0), (50.0, LATE_S), (60.0, LATE_S), (100.0, 25.0), (3650.0, 1800.0)],
)
def test_what_is_overdue_is_expected_ever_later(now_s, in_s):
    times = ReadyTimes(MODELS)
    assert times.expected("m", 0.0).expected_s == 50.0
    look(times, 0.0, now_s)
    assert times.expected("m", now_s).expected_s == pytest.approx(now_s + in_s)


def test_the_next_engine_is_expected_as_soon_as_the_last_one_came():
    times = ReadyTimes(MODELS)
    times.ready("m", 1.0)
    assert times.expected("m", 10.0).expected_s == 60.0
    times.ready("m", 40.0)
    times.ready("m", 41.0)
    assert times.expected("m", 100.0).expected_s == 130.0


def expected_next(times: ReadyTimes, at_s: float = 10_000.0) -> float:
    """Seconds in which the engine is expected after a loss at that time."""
    return times.expected("m", at_s).expected_s - at_s


def test_an_outage_of_ray_teaches_nothing():
    times = ReadyTimes(MODELS)
    look(times, 0, 10)
    look(times, 10, 3600, is_blind=True)
    assert times.expected("m", 3600.0).expected_s == 3650.0, "counted from Ray's return"
    look(times, 3600, 3640)
    times.ready("m", 3640.0)
    assert expected_next(times) == 50.0


def test_a_gateway_that_did_not_look_for_an_hour_learns_nothing():
    times = ReadyTimes(MODELS)
    look(times, 0, 30)
    times.ready("m", 3630.0)
    assert expected_next(times) == 50.0
    look(times, 20_000, 20_030)
    assert times.expected("m", 23_630.0).expected_s == 23_680.0
    times.ready("m", 23_640.0)
    assert expected_next(times, 30_000.0) == 50.0


def test_the_start_of_ray_is_part_of_the_time_to_ready():
    times = ReadyTimes(MODELS)
    look(times, 0, BLIND_S_MAX, is_blind=True)
    look(times, BLIND_S_MAX, 80)
    times.ready("m", 80.0)
    assert expected_next(times) == 80.0


def test_one_long_outage_at_most_doubles_what_is_expected():
    times = ReadyTimes(MODELS)
    look(times, 0, 3600)
    times.ready("m", 3600.0)
    assert expected_next(times) == 100.0
    times.ready("m", 10_040.0)
    assert expected_next(times, 20_000.0) == 40.0, "the next start is believed at once"


def test_times_to_ready_outlive_the_process(tmp_path):
    path = tmp_path / "ready.json"
    times = ReadyTimes(MODELS)
    times.remember(path)
    times.save(path)
    assert json.loads(path.read_bytes()) == {}, "a first guess is not an observation"
    for text in ('{"m": 33.0, "x": 1.0}', '{"m": -1.0}', '{"m": 1e9}', "[]", "no"):
        path.write_text(text)
        times.remember(path)
    assert times.expected("m", 0.0).expected_s == 33.0
    times.save(path)
    assert json.loads(path.read_bytes()) == {"m": 33.0}


def test_a_disk_that_refuses_to_keep_them_stops_nothing(tmp_path, caplog):
    ReadyTimes(MODELS).save(tmp_path / "missing" / "ready.json")
    assert [r.message for r in caplog.records] == ["ready_times_not_saved"]
