"""The money of second tries, hour by hour, and how long a first one has."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from serving.admission import Admission
from serving.hedge_purse import Purse
from serving.hedging import Hedger
from serving.records import Burst
from serving.settings_rescue import Hedge


def patience_s(ticket) -> float:
    stages = SimpleNamespace(loop=asyncio.new_event_loop())
    try:
        return Hedger(stages, None, Hedge(hour_max="1", after_s=1.0)).patience_s(ticket)
    finally:
        stages.loop.close()


def test_an_api_has_the_time_that_nine_of_ten_of_its_answers_took(make):
    admission, call = Admission(), make.call(stream=True)
    offering = make.offering(first_token_s=3.0)
    first = admission.issue(call, Burst(offering, "t"), 1, 0.0)
    assert patience_s(first) == 6.0, "twice the median that its row states"
    for at_s in range(64):
        ticket = admission.issue(call, Burst(offering, "t"), 1, float(at_s))
        admission.opened(ticket, at_s + (4.0 if at_s % 5 else 2.0), is_stream=True)
    learnt = admission.issue(call, Burst(offering, "t"), 1, 65.0)
    assert patience_s(learnt) == pytest.approx(4.0)
    assert patience_s(make.ticket(offering)) == 1.0, "no less than the setting says"


def test_a_second_try_has_as_much_time_left_as_the_first_had(make):
    """Nobody waits what was learnt in a bad hour when the caller's own deadline comes first."""
    stages = SimpleNamespace(loop=SimpleNamespace(time=lambda: 100.0))
    hedger = Hedger(stages, None, Hedge(hour_max="1", after_s=1.0))
    for due_s, patience_s, waits_s in (
        (110.0, 30.0, 5.0), (110.0, 3.0, 3.0), (101.5, 30.0, 1.0), (99.0, 30.0, 1.0),
        (float("inf"), 30.0, 30.0),
    ):  # fmt: skip
        call = make.call(stream=True, first_token_by_s=due_s)
        assert hedger.in_time_s(patience_s, call) == waits_s, (due_s, patience_s)


def test_an_hour_s_money_is_never_passed_and_comes_anew():
    purse = Purse(100)
    assert purse.take(60, 10.0)
    assert not purse.take(60, 20.0)
    assert purse.take(40, 30.0)
    assert not purse.take(1, 3599.0)
    assert purse.take(100, 3600.0)


def test_what_a_try_did_not_cost_after_all_may_be_spent_again():
    purse = Purse(100)
    assert purse.take(100, 0.0)
    purse.settle(100, 30)
    assert purse.take(70, 1.0)
    assert not purse.take(1, 2.0)
