"""When an engine may be expected: as learnt, then ever later the longer it is overdue."""

from __future__ import annotations

import json

import pytest

from models.start_time import Row
from serving import start_record
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


def test_an_engine_that_nobody_wanted_is_not_late_once_somebody_does():
    times = ReadyTimes(MODELS)
    for second in range(3600):
        asleep = times.expected("m", float(second), is_asleep=True)
        assert asleep.expected_s == second + 50.0
    look(times, 3600, 3630)
    assert times.expected("m", 3630.0).expected_s == 3649.0
    times.ready("m", 3630.0)
    assert expected_next(times) == 31.0


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


def put_down(path, *starts, gpu="cpu", cache="warm"):
    """Starts of so many seconds each, in two stages."""
    rows = [
        Row("m", gpu, cache, stage, seconds / 2, number)
        for number, seconds in enumerate(starts)
        for stage in ("load", "probe")
    ]
    start_record.append(path, rows)


def test_the_first_engine_is_expected_as_the_launchers_starts_were(tmp_path):
    path = tmp_path / "start-times.jsonl"
    put_down(path, 20.0, 22.0, 24.0, 80.0)
    times = ReadyTimes(MODELS)
    times.follow(path)
    found = times.expected("m", 0.0)
    assert (found.expected_s, found.by_s) == (22.0, 80.0)


def test_what_this_gateway_saw_counts_before_the_launchers_sum(tmp_path):
    path = tmp_path / "start-times.jsonl"
    put_down(path, 20.0, 30.0)
    times = ReadyTimes(MODELS)
    times.follow(path)
    times.expected("m", 0.0)
    look(times, 0.0, 26.0)
    times.ready("m", 26.0)
    found = times.expected("m", 100.0)
    assert found.expected_s == 126.0
    assert found.by_s == 136.0, "later by what one start of ten takes longer"


def test_starts_put_down_since_are_read_when_the_next_absence_begins(tmp_path):
    path = tmp_path / "start-times.jsonl"
    times = ReadyTimes(MODELS)
    times.follow(path)
    assert times.expected("m", 0.0).expected_s == 50.0
    put_down(path, 10.0)
    assert times.expected("m", 1.0).expected_s == 50.0
    times.ready("m", 1.5)
    assert times.expected("m", 9.0).by_s == pytest.approx(10.5)


def test_a_start_that_finds_no_cache_is_expected_as_such_starts_were(tmp_path):
    path = tmp_path / "start-times.jsonl"
    put_down(path, 20.0)
    start_record.append(path, [Row("m", "", "cold", "fetch", 100.0, 9)])
    put_down(path, 40.0, cache="cold")
    times = ReadyTimes(MODELS)
    times.follow(path)
    assert times.expected("m", 0.0).expected_s == 140.0
