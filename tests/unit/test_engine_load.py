"""Load report, meter and watchdog of a replica."""

from __future__ import annotations

from serving.engine.load import EngineMeter, LoadReport, Watchdog


def test_the_header_and_the_json_say_the_same() -> None:
    report = LoadReport(waiting=3, running=2, queued_tokens=512, kv_use=0.12345, at_ms=1700)
    assert report.header() == b"w=3,r=2,q=512,kv=0.1235,at=1700"
    assert report.fields() == {"w": 3, "r": 2, "q": 512, "kv": 0.1235, "at": 1700}


def test_what_the_core_has_not_seen_yet_is_waiting() -> None:
    meter = EngineMeter()
    meter.record(running=2, kv_use=0.5)
    assert meter.report(unfinished=5, queued_tokens=10, at_ms=1) == LoadReport(3, 2, 10, 0.5, 1)


def test_a_finished_request_is_not_running_although_the_core_has_not_said_so() -> None:
    meter = EngineMeter()
    meter.record(running=4, kv_use=0.5)
    report = meter.report(unfinished=1, queued_tokens=0, at_ms=1)
    assert (report.waiting, report.running) == (0, 1)


def test_an_output_without_statistics_is_progress_and_changes_no_number() -> None:
    meter = EngineMeter()
    meter.record(running=4, kv_use=0.5)
    meter.record(running=None, kv_use=None)
    assert meter.steps == 2
    assert meter.report(unfinished=4, queued_tokens=0, at_ms=1).running == 4


def test_work_without_output_for_the_limit_is_death() -> None:
    watchdog = Watchdog(limit_s=30.0)
    assert not watchdog.is_dead(0.0, unfinished=1, steps=7)
    assert not watchdog.is_dead(29.9, unfinished=1, steps=7)
    assert watchdog.is_dead(30.0, unfinished=1, steps=7)


def test_any_output_is_progress() -> None:
    watchdog = Watchdog(limit_s=30.0)
    for second in range(0, 300, 20):
        assert not watchdog.is_dead(float(second), unfinished=1, steps=second)


def test_an_idle_engine_is_never_dead() -> None:
    watchdog = Watchdog(limit_s=30.0)
    assert not watchdog.is_dead(0.0, unfinished=0, steps=7)
    assert not watchdog.is_dead(10_000.0, unfinished=0, steps=7)


def test_idle_time_does_not_count_against_the_next_request() -> None:
    watchdog = Watchdog(limit_s=30.0)
    watchdog.is_dead(0.0, unfinished=0, steps=7)
    assert not watchdog.is_dead(10_000.0, unfinished=0, steps=7)
    assert not watchdog.is_dead(10_002.0, unfinished=1, steps=7)
    assert watchdog.is_dead(10_030.0, unfinished=1, steps=7)
