"""The breaker: opens when it must, probes once, believes Retry-After within reason."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.breaker import (
    FAILED_MIN,
    IN_A_ROW,
    LIMITED_S,
    OPEN_S,
    OPEN_S_MAX,
    PROBE_S,
    UNPROVEN_S,
    WINDOW_S,
    Breaker,
)
from serving.errors import COUNTS, OPENS, OPENS_S_MAX, Kind
from serving.records import TargetState, Ticket

BAD = Kind.SERVER_ERROR


class Target:
    """A breaker, its state, and tickets to try with."""

    def __init__(self, make) -> None:
        self.state = TargetState()
        self.breaker = Breaker(self.state)
        self._target = make.replica()
        self._count = 0

    def send(self, now_s: float = 0.0) -> Ticket:
        self._count += 1
        ticket = Ticket("r", self._count, self._target, "x", now_s, 1, 1, 0.0, False)
        if self.state.open_until_s:
            self.breaker.sent(ticket)
        return ticket

    def fail(self, now_s: float, kind: Kind = BAD, retry_after_s: float | None = None) -> None:
        self.breaker.failed(self.send(now_s), kind, now_s, retry_after_s)

    def succeed(self, now_s: float) -> None:
        self.breaker.succeeded(self.send(now_s), now_s)

    def admits(self, now_s: float) -> bool:
        return self.state.open_until_s <= now_s


@pytest.fixture
def target(make):
    return Target(make)


def test_three_failures_in_a_row_open_it_for_ten_seconds(target):
    for _ in range(IN_A_ROW - 1):
        target.fail(1.0)
        assert target.admits(1.0)
    target.fail(1.0)
    assert not target.admits(1.0 + OPEN_S - 0.01)
    assert target.admits(1.0 + OPEN_S)


def test_a_success_between_them_starts_the_count_anew(target):
    for _ in range(2):
        target.fail(1.0)
        target.fail(1.0)
        target.succeed(1.0)
    assert target.admits(1.0)


def test_five_failures_of_the_last_ten_open_it(target):
    for second in range(FAILED_MIN - 1):
        target.fail(float(second))
        target.succeed(float(second))
    assert target.admits(5.0)
    target.fail(5.0)
    assert not target.admits(5.0)


def test_failures_older_than_the_window_do_not_count(target):
    for second in range(FAILED_MIN - 1):
        target.fail(float(second))
        target.succeed(float(second))
    target.fail(WINDOW_S + 1.5)
    assert target.admits(WINDOW_S + 1.5)


def test_the_eleventh_call_pushes_the_first_out(target):
    for _ in range(FAILED_MIN - 1):
        target.fail(0.0)
        target.succeed(0.0)
    for _ in range(3):
        target.succeed(0.0)
    target.fail(0.0)
    assert target.admits(0.0)


def test_a_target_that_never_failed_keeps_no_history(target):
    target.succeed(1.0)
    assert not target.breaker._recent


def test_failing_probes_double_the_time_up_to_two_minutes(target):
    for _ in range(IN_A_ROW):
        target.fail(0.0)
    now_s, waits = 0.0, []
    for _ in range(6):
        waits.append(target.state.open_until_s - now_s)
        now_s = target.state.open_until_s
        target.fail(now_s)
    assert waits == [10.0, 20.0, 40.0, 80.0, OPEN_S_MAX, OPEN_S_MAX]


def test_a_good_probe_closes_it_and_forgets_the_past(target):
    for _ in range(IN_A_ROW):
        target.fail(0.0)
    target.fail(10.0)
    target.succeed(30.0)
    assert target.state.open_until_s == 0.0
    for _ in range(IN_A_ROW):
        assert target.admits(31.0)
        target.fail(31.0)
    assert target.state.open_until_s == 31.0 + OPEN_S, "ten seconds again"


def test_only_one_probe_is_let_through(target):
    for _ in range(IN_A_ROW):
        target.fail(0.0)
    probe = target.send(OPEN_S)
    assert not target.admits(OPEN_S + PROBE_S - 0.01)
    target.breaker.neither(probe, 50.0)
    assert target.admits(50.0), "a probe that told nothing makes room for the next"


def test_a_probe_that_never_ends_does_not_keep_everybody_out(target):
    for _ in range(IN_A_ROW):
        target.fail(0.0)
    endless = target.send(OPEN_S)
    again_s = OPEN_S + PROBE_S
    assert target.admits(again_s)
    second = target.send(again_s)
    assert not target.admits(again_s + PROBE_S - 0.01), "one at a time, also after a lease"
    target.breaker.failed(endless, BAD, again_s + 1.0, None)
    target.breaker.neither(endless, again_s + 1.0)
    assert target.state.open_until_s == again_s + PROBE_S, "whose lease is over decides nothing"
    target.breaker.succeeded(second, again_s + 2.0)
    assert target.state.open_until_s == 0.0


def test_an_endless_probe_that_fails_late_opens_it_for_its_usual_time(target):
    for _ in range(IN_A_ROW):
        target.fail(0.0)
    probe = target.send(OPEN_S)
    target.breaker.failed(probe, BAD, 500.0, None)
    assert target.state.open_until_s == 500.0 + 2 * OPEN_S


def test_calls_sent_before_it_opened_are_not_its_probe(target):
    early = [target.send() for _ in range(4)]
    for _ in range(IN_A_ROW):
        target.fail(0.0)
    probe = target.send(10.0)
    target.breaker.succeeded(early[0], 11.0)
    target.breaker.neither(early[1], 11.0)
    target.breaker.failed(early[2], BAD, 11.0, None)
    target.breaker.failed(early[3], Kind.BAD_REQUEST, 11.0, None)
    assert target.state.open_until_s == 10.0 + PROBE_S, "the probe alone decides"
    target.breaker.failed(probe, BAD, 12.0, None)
    assert target.state.open_until_s == 12.0 + 20.0, "doubled once, not by the early call too"


def test_an_early_call_s_success_does_not_undo_a_retry_after(target):
    early = target.send()
    target.fail(0.0, Kind.RATE_LIMIT, 60.0)
    target.breaker.succeeded(early, 0.5)
    assert not target.admits(59.0)


def test_a_refusal_of_an_early_call_outlasts_the_probe(target):
    early = target.send()
    for _ in range(IN_A_ROW):
        target.fail(0.0)
    probe = target.send()
    target.breaker.failed(early, Kind.RATE_LIMIT, 11.0, 30.0)
    target.breaker.succeeded(probe, 12.0)
    assert not target.admits(40.0)


def test_the_later_of_two_deadlines_holds(target):
    early = target.send()
    target.fail(0.0, Kind.RATE_LIMIT, 60.0)
    target.breaker.failed(early, Kind.RATE_LIMIT, 1.0, 5.0)
    assert target.state.open_until_s == 60.0


@pytest.mark.parametrize(
    ("kind", "retry_after_s", "seconds"),
    [
        (Kind.RATE_LIMIT, None, OPENS[Kind.RATE_LIMIT]),
        (Kind.RATE_LIMIT, 2.0, 2.0),
        (Kind.RATE_LIMIT, 300.0, 300.0),
        (Kind.RATE_LIMIT, 0.0, OPENS[Kind.RATE_LIMIT]),
        (Kind.QUOTA_WINDOW, 30.0, 30.0),
        (Kind.ACCOUNT_DEAD, 1.0, OPENS[Kind.ACCOUNT_DEAD]),
        (Kind.KEY_DEAD, 1.0, OPENS[Kind.KEY_DEAD]),
        (Kind.TARGET_DEAD, 1200.0, 1200.0),
        (Kind.RATE_LIMIT, 1e12, OPENS_S_MAX),
        (Kind.RATE_LIMIT, math.inf, OPENS_S_MAX),
    ],
)
def test_one_telling_refusal_opens_it_for_as_long_as_the_target_says(
    target, kind, retry_after_s, seconds
):
    target.fail(100.0, kind, retry_after_s)
    assert target.state.open_until_s == 100.0 + seconds


@pytest.mark.parametrize("retry_after_s", [3.0, 50.0, 1e12, math.inf])
def test_retry_after_lengthens_a_counted_opening_within_reason(target, retry_after_s):
    for _ in range(IN_A_ROW):
        target.fail(0.0, Kind.OVERLOADED, retry_after_s)
    assert target.state.open_until_s == min(max(OPEN_S, retry_after_s), OPENS_S_MAX)


@pytest.mark.parametrize("kind", sorted(set(Kind) - COUNTS - set(OPENS)))
def test_the_caller_s_own_faults_never_open_it(target, kind):
    for _ in range(50):
        target.fail(0.0, kind)
    assert target.admits(0.0)


@settings(max_examples=60)
@given(st.data())
def test_it_is_never_stuck_and_never_lets_two_probes_through(make, data):
    target, now_s, out = Target(make), 0.0, []
    for _ in range(data.draw(st.integers(1, 40))):
        now_s += data.draw(st.sampled_from([0.0, 1.0, 12.0, 200.0]))
        if target.admits(now_s):
            was_open = target.state.open_until_s > 0.0
            out.append(target.send(now_s))
            if was_open:
                assert not target.admits(now_s + PROBE_S - 0.1), "it closes the door behind it"
        if out and data.draw(st.booleans()):
            ticket = out.pop(data.draw(st.integers(0, len(out) - 1)))
            how = data.draw(st.sampled_from(["good", "neither", *Kind]))
            if how == "good":
                target.breaker.succeeded(ticket, now_s)
            elif how == "neither":
                target.breaker.neither(ticket, now_s)
            else:
                wait_s = data.draw(st.none() | st.sampled_from([0.0, 1.0, 1e9]))
                target.breaker.failed(ticket, Kind(how), now_s, wait_s)
        assert target.admits(now_s + OPENS_S_MAX), "it always comes back, whatever is out"


def test_it_passes_for_shut_from_its_opening_until_a_probe_is_good(target):
    assert not target.breaker.is_shut(0.0)
    for _ in range(IN_A_ROW):
        target.fail(0.0)
    asked = [0.0, OPEN_S - 1.0, OPEN_S, OPEN_S + 5.0]
    assert all(target.breaker.is_shut(at_s) for at_s in asked), "half open is not proven yet"
    probe = target.send(OPEN_S + 6.0)
    lease_s = OPEN_S + 6.0 + PROBE_S
    assert target.breaker.is_shut(lease_s - 1.0), "a probe that hangs"
    assert target.breaker.is_shut(lease_s + 1.0), "and its lease's end proves nothing"
    target.breaker.succeeded(probe, lease_s + 2.0)
    assert not target.breaker.is_shut(lease_s + 2.0)


def test_a_probe_whose_caller_left_does_not_let_it_pass_for_open(target):
    for _ in range(IN_A_ROW):
        target.fail(0.0)
    for turn in range(5):
        at_s = OPEN_S + 20.0 * turn
        target.breaker.neither(target.send(at_s), at_s + 10.0)
        assert target.breaker.is_shut(at_s + 10.0)


def test_one_that_nobody_asks_does_not_pass_for_shut_for_ever(target):
    for _ in range(IN_A_ROW):
        target.fail(0.0)
    assert target.breaker.is_shut(OPEN_S + UNPROVEN_S - 0.1)
    assert not target.breaker.is_shut(OPEN_S + UNPROVEN_S)


def test_a_rate_limit_is_of_a_target_that_is_there(target):
    target.fail(0.0, Kind.RATE_LIMIT)
    assert not target.admits(10.0)
    assert not target.breaker.is_shut(10.0)
    target.fail(OPENS[Kind.RATE_LIMIT], Kind.RATE_LIMIT)
    assert not target.breaker.is_shut(20.0), "its window is a minute"


def test_one_that_only_limits_for_more_than_a_minute_is_absent(target):
    at_s = 0.0
    while at_s <= LIMITED_S:
        target.fail(at_s, Kind.RATE_LIMIT)
        at_s = target.state.open_until_s
    assert target.breaker.is_shut(LIMITED_S + 1.0)
    target.succeed(at_s)
    assert not target.breaker.is_shut(at_s)


def test_a_limited_one_that_takes_a_call_meanwhile_is_there(target):
    early = target.send(0.0)
    target.fail(0.0, Kind.RATE_LIMIT, 300.0)
    target.breaker.succeeded(early, LIMITED_S)
    assert not target.breaker.is_shut(LIMITED_S + 1.0)
    assert target.breaker.is_shut(2 * LIMITED_S + 1.0)


def test_a_limit_after_a_long_silence_is_a_new_one(target):
    target.fail(0.0, Kind.RATE_LIMIT)
    target.fail(3600.0, Kind.RATE_LIMIT)
    assert not target.breaker.is_shut(3601.0)


@pytest.mark.parametrize("kind", sorted({*OPENS, Kind.SERVER_ERROR} - {Kind.RATE_LIMIT}))
def test_what_is_more_than_a_limit_shuts_it_at_once(target, kind):
    target.fail(0.0, Kind.RATE_LIMIT)
    for _ in range(IN_A_ROW):
        target.fail(OPENS[Kind.RATE_LIMIT], kind)
    assert target.breaker.is_shut(OPENS[Kind.RATE_LIMIT])


def test_one_that_was_shut_from_outside_is_not_merely_limited(target):
    target.fail(0.0, Kind.RATE_LIMIT)
    target.breaker.shut(30.0)
    assert target.breaker.is_shut(1.0)
    target.breaker.shut(0.0)
    assert not target.breaker.is_shut(1.0)
