"""Log lines: one JSON object each, whatever is in them; a request's line never blocks a request."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import sys

import msgspec
import pytest

from serving import logs
from serving.logs import RECENT, JsonFormatter, RequestLog


class Line(msgspec.Struct):
    request_id: str


def lines(stream):
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def formatted(message, *args, extra=None, exc_info=None):
    record = logging.getLogger("x").makeRecord(
        "x", logging.WARNING, "f", 1, message, args, exc_info, extra=extra
    )
    return JsonFormatter().format(record)


def test_a_record_is_one_json_object_with_its_extra_fields():
    line = json.loads(formatted("event_name", extra={"target": "r1", "count": 3}))
    assert (line["event"], line["level"], line["logger"]) == ("event_name", "WARNING", "x")
    assert (line["target"], line["count"]) == ("r1", 3)
    assert "args" not in line


@pytest.mark.parametrize(
    "value",
    ['a"}\n{"event":"forged', "\x00\x1b[2J", {1, 2}, ValueError("x"), b"\xff", float("nan")],
    ids=repr,
)  # fmt: skip
def test_no_value_breaks_the_line(value):
    text = formatted("e", extra={"field": value})
    assert "\n" not in text
    assert json.loads(text)["event"] == "e"


def test_a_traceback_stays_within_its_line():
    try:
        raise ValueError("boom")
    except ValueError:
        text = formatted("fault", exc_info=sys.exc_info())
    assert "\n" not in text
    assert "boom" in json.loads(text)["traceback"]


def test_configure_sends_everything_to_the_stream():
    root, stream = logging.getLogger(), io.StringIO()
    handlers, level = root.handlers[:], root.level
    try:
        logs.configure(stream)
        logging.getLogger("any.where").info("hello")
        logging.getLogger("any.where").debug("silent")
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
    assert [line["event"] for line in lines(stream)] == ["hello"]


def test_request_lines_wait_for_the_flush_and_leave_in_order():
    stream = io.StringIO()

    async def run():
        log = RequestLog(stream)
        for n in range(3):
            log.write(Line(str(n)))
        assert stream.getvalue() == ""
        log.flush()
        log.flush()

    asyncio.run(run())
    assert [line["request_id"] for line in lines(stream)] == ["0", "1", "2"]


def test_the_timer_flushes_without_being_asked():
    stream = io.StringIO()

    async def run():
        log = RequestLog(stream)
        log.write(Line("1"))
        timer = log._timer
        log.write(Line("2"))
        assert log._timer is timer, "one timer for all"
        timer.cancel()
        log.flush()
        log.write(Line("3"))
        assert log._timer is not timer
        log._timer.cancel()

    asyncio.run(run())
    assert len(lines(stream)) == 2


def test_lines_and_memory_are_bounded(monkeypatch):
    monkeypatch.setattr(logs, "_BUFFER_MAX", 10)

    async def run():
        log = RequestLog(io.StringIO())
        for n in range(RECENT + 50):
            log.write(Line(str(n)))
        assert log.dropped == RECENT + 40
        assert len(log.recent) == RECENT
        assert log.recent[-1].request_id == str(RECENT + 49)
        log._timer.cancel()

    asyncio.run(run())


def test_now_is_utc_in_milliseconds():
    assert 1_700_000_000_000 < logs.utc_ms() < 10_000_000_000_000
