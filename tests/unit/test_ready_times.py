"""When an engine may be expected: as learnt, then ever later the longer it is overdue."""

from __future__ import annotations

import json

import pytest

from serving.ready_times import LATE_S, ReadyTimes
from serving.settings import Model

MODELS = (Model(name="m", time_to_ready_s=50.0),)


@pytest.mark.parametrize(
    ("now_s", "in_s"),
    [(0.0, 50.0), (49.0, 1.0), (50.0, LATE_S), (60.0, LATE_S), (100.0, 25.0), (3650.0, 1800.0)],
)
def test_what_is_overdue_is_expected_ever_later(now_s, in_s):
    times = ReadyTimes(MODELS)
    assert times.expected("m", 0.0).expected_s == 50.0
    assert times.expected("m", now_s).expected_s == pytest.approx(now_s + in_s)


def test_the_next_engine_is_expected_as_soon_as_the_last_one_came():
    times = ReadyTimes(MODELS)
    times.ready("m", 1.0)
    assert times.expected("m", 10.0).expected_s == 60.0
    times.ready("m", 40.0)
    times.ready("m", 41.0)
    assert times.expected("m", 100.0).expected_s == 130.0


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
