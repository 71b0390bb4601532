"""One process's slice of a shared counter, a plan's rows, and the settings of Redis."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from ballast import limits_check
from ballast.doctor import Level
from benchmarks.redis_server import RedisServer
from serving.limits.base import Ask, Grant, Rule
from serving.limits.settings import RedisSettings
from serving.limits.slice import IDLE_S, Slice
from serving.limits.windows import Row, settle
from serving.settings import Gateway, Settings, SettingsError

MINUTE = Rule(600, 60.0, is_window=False)
PLAN = Rule(100, 5 * 3600.0, is_window=True)
NOW_MS = 1_800_000_000_000


def new(rule: Rule = MINUTE, pods: int = 4) -> Slice:
    return Slice("key:k requests", rule, pods, 0.0, lambda _: None)


def test_a_first_contact_lends_one_slice_and_no_more_until_the_store_answered():
    one = new()
    taken = 0
    while one.has(1, 0.0):
        one.take(1, 0.0)
        taken += 1
    assert taken == 600 // 16 // 4
    ask = one.ask(0.1)
    assert (ask.spent, ask.held, ask.is_known) == (taken, 0.0, False)
    assert ask.want >= taken
    one.granted(Grant(20.0, 500.0), one.window, 0.1)
    assert one.has(20, 0.1)
    assert one.left(0.1) == 520


def test_what_was_spent_while_the_store_was_asked_is_not_lent_twice():
    one = new()
    one.take(3, 0.0)
    one.ask(0.1)
    one.take(2, 0.1)
    one.granted(Grant(10.0, 0.0), one.window, 0.1)
    assert [one.has(8, 0.1), one.has(9, 0.1)] == [True, False]
    assert one.ask(0.2).spent == 2


def test_an_ask_without_an_answer_is_asked_again_whole():
    one = new(PLAN)
    one.take(3, 0.0)
    one.ask(0.5)
    one.unanswered(0.6)
    one.take(1, 0.7)
    assert one.ask(1.0).spent == 4


def test_an_idle_counter_gives_back_and_is_not_asked_for_any_more():
    one = new()
    one.take(1, 0.0)
    one.ask(0.1)
    one.granted(Grant(9.0, 500.0), one.window, 0.1)
    ask = one.ask(0.2 + IDLE_S)
    assert (ask.want, ask.held) == (0.0, 9.0)
    one.granted(Grant(0.0, 509.0), one.window, 0.2 + IDLE_S)
    assert one.ask(5.0) is None
    assert one.has(1, 6.0), "and lends itself a slice when somebody calls again"


def test_an_exhausted_counter_lends_nothing_however_often_it_is_asked():
    one = new()
    one.take(1, 0.0)
    for step in range(20):
        now_s = step * 0.5
        one.ask(now_s)
        one.granted(Grant(0.0, -5.0), one.window, now_s)
        assert not one.has(1, now_s)


def test_away_and_back_what_is_owed_is_what_is_missing_then():
    one = new()
    one.take(1, 0.0)
    one.ask(0.1)
    one.unanswered(0.1)
    assert one.has(100, 0.1)
    one.take(100, 0.1)
    one.take(50, 0.1)
    owed = one.ask(10.0).spent
    assert owed == pytest.approx(150 - 9.9 * 150 / 60, abs=40)
    one.granted(Grant(5.0, 100.0), one.window, 10.0)
    assert one.left(10.0) == 105


def test_one_process_alone_may_use_all_at_once_and_holds_nothing():
    one = new(PLAN, pods=1)
    assert one.has(100, 0.0)
    one.take(100, 0.0)
    ask = one.ask(0.5)
    assert (ask.spent, ask.want) == (100, 0.0)
    assert not one.has(1, 0.5)


def ask(**changes: float) -> Ask:
    values = {"key": "k", "rule": PLAN, "spent": 0.0, "held": 0.0, "want": 0.0, "is_known": False}
    return Ask(**values | changes)


def test_what_is_handed_out_counts_as_used_and_never_exceeds_the_limit():
    row, grant = settle(None, ask(spent=2.0, want=8.0), NOW_MS)
    assert (row.used, grant.held, grant.left) == (10.0, 8.0, 90.0)
    row, grant = settle(row, ask(want=1000.0), NOW_MS + 1)
    assert (row.used, grant.held, grant.left) == (100.0, 90.0, 0.0)
    row, grant = settle(row, ask(spent=1.0, held=90.0, began_ms=row.began_ms), NOW_MS + 2)
    assert (row.used, grant.held, grant.left) == (11.0, 0.0, 89.0)


def test_what_is_told_of_a_window_that_is_over_is_over_with_it():
    old = Row(NOW_MS - 18_000_001, 18_000_000, 50.0)
    row, grant = settle(old, ask(spent=3.0, held=9.0, began_ms=old.began_ms), NOW_MS)
    assert (row, grant) == (None, Grant(0.0, 100.0))
    row, grant = settle(old, ask(spent=3.0), NOW_MS)
    assert (row.began_ms, row.used, grant.ends_s) == (NOW_MS, 3.0, 18_000.0)


def test_nobody_s_window_begins_without_a_use():
    assert settle(None, ask(want=5.0), NOW_MS) == (None, Grant(0.0, 100.0))


@pytest.mark.parametrize("url", ["http://h", "redis://:word@h", "redis://h?password=word"])
def test_an_address_with_a_password_or_of_something_else_is_refused(url):
    with pytest.raises(ValidationError) as caught:
        RedisSettings(url=url)
    assert "word" not in str([e["msg"] for e in caught.value.errors()]).replace("password", "")


def test_a_password_comes_from_a_file_or_a_variable(tmp_path: Path):
    file = tmp_path / "password"
    file.write_text("word\n")
    assert RedisSettings(password_file=file).password() == "word"
    assert RedisSettings(password_env="P").password({"P": "word"}) == "word"
    assert RedisSettings().password() is None
    with pytest.raises(SettingsError, match="P is not set"):
        RedisSettings(password_env="P").password({})
    with pytest.raises(SettingsError, match="cannot read"):
        RedisSettings(password_file=tmp_path / "gone").password()
    with pytest.raises(ValidationError):
        RedisSettings(password_file=file, password_env="P")


def examined(**redis: object) -> list[tuple[str, Level, str]]:
    settings = Settings(redis=RedisSettings(**redis), gateway=Gateway(pods=2))
    return [(f.subject, f.level, f.text) for f in limits_check.examine(settings)]


@pytest.mark.server
def test_the_doctor_tries_redis_and_says_what_follows(tmp_path: Path):
    server = RedisServer(tmp_path, "a-secret-word")
    server.start()
    try:
        file = tmp_path / "password"
        file.write_text("a-secret-word")
        ((subject, level, _),) = examined(url=server.url, password_file=file)
        assert (subject, level) == ("redis", Level.OK)
        ((_, level, text),) = examined(url=server.url)
        assert level is Level.WARN
        assert "1/2" in text
        file.write_text("another-word")
        ((_, level, text),) = examined(url=server.url, password_file=file)
        assert level is Level.WARN
        assert "another-word" not in text
    finally:
        server.stop()
    ((_, level, _),) = examined(url=server.url)
    assert level is Level.WARN
    ((_, level, _),) = examined(url=server.url, password_env="NO_SUCH_VARIABLE_HERE")
    assert level is Level.STOP
    ((subject, level, text),) = examined()
    assert (subject, level) == ("limits", Level.OK)
    assert "1/2" in text
