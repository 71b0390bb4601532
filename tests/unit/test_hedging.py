"""The money of second tries, hour by hour."""

from __future__ import annotations

from serving.hedge_purse import Purse


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
