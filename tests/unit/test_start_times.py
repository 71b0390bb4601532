"""Learning how long starts take: the estimator, and the file behind it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from models.start_time import Cache, Row, Spread, Stage, cache_state, expected, spread
from serving import start_record
from serving.engine.failed_starts import FailedStarts, pause_s
from serving.engine.spec import EngineSpec


def row(stage: Stage, seconds: float, at_ms: int = 0, **changes: Any) -> Row:
    values = {"model": "m", "gpu": "cpu", "cache": "warm"} | changes
    if stage == "fetch":
        values["gpu"] = ""
    return Row(stage=stage, seconds=seconds, at_ms=at_ms, **values)


def test_nothing_is_expected_before_the_first_start() -> None:
    assert expected([], "m", "cpu", "warm") is None
    assert expected([row("fetch", 9.0, cache="cold")], "m", "cpu", "cold") is None
    assert expected([row("load", 9.0)], "other", "cpu", "warm") is None


@pytest.mark.parametrize(
    ("seconds", "wanted"),
    [
        ([5.0], Spread(5.0, 5.0, 1)),
        ([9.0, 1.0, 5.0], Spread(5.0, 9.0, 3)),
        ([float(n) for n in range(1, 11)], Spread(5.0, 9.0, 10)),
    ],
)
def test_a_spread_is_median_and_ninetieth_percentile(seconds: list[float], wanted: Spread) -> None:
    assert spread(seconds) == wanted


def test_a_start_is_the_sum_of_its_stages() -> None:
    rows = [row("start", s, i) for i, s in enumerate((40.0, 50.0, 60.0))]
    rows += [row("load", s, i) for i, s in enumerate((2.0, 3.0))]
    found = expected(rows, "m", "cpu", "warm")
    assert found is not None
    assert found.ready == Spread(52.0, 63.0, 2)
    assert set(found.stages) == {"start", "load"}


def test_only_the_last_starts_count() -> None:
    rows = [row("load", 100.0, at_ms=i) for i in range(5)]
    rows += [row("load", 1.0, at_ms=10 + i) for i in range(8)]
    found = expected(rows, "m", "cpu", "warm")
    assert found is not None
    assert found.ready.p90_s == 1.0


def test_a_cold_start_adds_the_fetch_and_borrows_what_it_has_not_seen() -> None:
    rows = [row("fetch", 600.0, cache="cold"), row("fetch", 0.1), row("load", 30.0)]
    cold, warm = (expected(rows, "m", "cpu", c) for c in ("cold", "warm"))
    assert cold is not None
    assert warm is not None
    assert cold.ready.median_s == 630.0
    assert warm.ready.median_s == pytest.approx(30.1)


def test_a_warm_start_expects_no_fetch_it_never_saw_warm() -> None:
    rows = [row("fetch", 600.0, cache="cold"), row("load", 30.0)]
    found = expected(rows, "m", "cpu", "warm")
    assert found is not None
    assert found.ready.median_s == 30.0


def test_gpus_are_kept_apart_unless_any_will_do() -> None:
    rows = [row("load", 10.0, gpu="1x A"), row("load", 90.0, gpu="1x B")]
    one = expected(rows, "m", "1x A", "warm")
    any_gpu = expected(rows, "m", None, "warm")
    assert one is not None
    assert any_gpu is not None
    assert one.ready.median_s == 10.0
    assert any_gpu.ready.starts == 2


@pytest.mark.parametrize(
    ("rows", "state"),
    [
        ([], "cold"),
        ([row("load", 1.0, 5)], "warm"),
        ([row("load", 1.0, 5, gpu="1x A")], "cold"),
        ([row("load", 1.0, 5), row("fetch", 9.0, 6, cache="cold")], "cold"),
        ([row("load", 1.0, 7), row("fetch", 9.0, 6, cache="cold")], "warm"),
        ([row("load", 1.0, 5), row("fetch", 0.1, 6)], "warm"),
    ],
    ids=["never", "again", "other-gpu", "fetched-since", "fetched-before", "checked-only"],
)
def test_the_first_start_after_a_fetch_is_cold(rows: list[Row], state: Cache) -> None:
    assert cache_state(rows, "m", "cpu") == state


def test_rows_are_kept_between_lives(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "start-times.jsonl"
    assert start_record.read(path) == []
    start_record.append(path, [row("load", 1.5, 1)])
    start_record.append(path, [row("probe", 0.5, 2)])
    with path.open("ab") as file:
        file.write(b"half a li")
    assert start_record.read(path) == [row("load", 1.5, 1), row("probe", 0.5, 2)]


def test_the_file_stays_small_and_keeps_the_latest(tmp_path: Path) -> None:
    path = tmp_path / "start-times.jsonl"
    for start in range(0, 4000, 500):
        start_record.append(path, [row("load", 1.0, at_ms=start + i) for i in range(500)])
    assert path.stat().st_size <= start_record.BYTES_MAX
    assert start_record.read(path)[-1].at_ms == 3999


def test_a_disk_that_refuses_costs_only_the_memory(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    start_record.append(tmp_path / "file" / "below", [row("load", 1.0)])


def spec(tmp_path: Path, **changes: Any) -> EngineSpec:
    fields = {"model_name": "m", "model_path": "/m", "secret_path": "/s",
              "start_times": str(tmp_path / "start-times.jsonl")} | changes  # fmt: skip
    return EngineSpec(**fields)


def test_failed_starts_are_counted_until_one_succeeds(tmp_path: Path) -> None:
    for wanted in (0, 1, 2):
        assert FailedStarts(spec(tmp_path)).count() == wanted
        FailedStarts(spec(tmp_path)).failed()
    assert FailedStarts(spec(tmp_path, max_num_seqs=3)).count() == 0, "a changed spec starts anew"
    FailedStarts(spec(tmp_path)).succeeded()
    assert FailedStarts(spec(tmp_path)).count() == 0
    nowhere = FailedStarts(spec(tmp_path, start_times=""))
    nowhere.failed()
    nowhere.succeeded()
    assert nowhere.count() == 0


@pytest.mark.parametrize(
    ("failures", "wait_s"), [(0, 0), (2, 0), (3, 15), (4, 30), (7, 240), (8, 300), (500, 300)]
)
def test_starts_that_keep_failing_wait_longer_and_longer(failures: int, wait_s: float) -> None:
    assert pause_s(failures, 3) == wait_s
