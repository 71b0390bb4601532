"""Accounts that are down for all their models, and APIs that answer but crawl."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from models.api_pace import USUAL_SEEN_MIN
from serving.admission import Admission
from serving.breaker import PROBE_S
from serving.errors import Kind
from serving.health import OF_LAST, REST_S, SLOW_MIN, Health
from serving.records import Burst, FleetView, Offering


class House:
    """Two models of one account, and another provider."""

    def __init__(self, make):
        base = make.offering()
        self.one = replace(base, id="a/one", provider="a", first_token_s=0.5)
        self.two = replace(base, id="a/two", provider="a", first_token_s=0.5)
        self.other = replace(base, id="b/one", provider="b", first_token_s=0.5)
        self.admission = Admission()
        self.call = make.call(stream=True)
        view = FleetView(offerings={"m": (self.one, self.other), "n": (self.two,)})
        self.health = Health(self.admission, lambda: view)

    def send(self, offering: Offering, now_s: float, prompt_tokens: int = 10):
        call = replace(self.call, prompt_tokens=prompt_tokens)
        ticket = self.admission.issue(call, Burst(offering, "t"), 1, now_s)
        self.health.sent(ticket)
        return ticket

    def fail(self, ticket, kind, now_s):
        self.admission.failed(ticket, kind, None, now_s)
        self.health.failed(ticket, kind, now_s)
        self.admission.release(ticket, self.call)

    def answer(self, ticket, now_s, tenant="acme"):
        self.admission.opened(ticket, now_s, is_stream=True)
        self.health.opened(ticket, now_s, tenant=tenant, is_stream=True)
        self.admission.release(ticket, self.call)

    def shut_until(self, offering):
        return self.admission.know(offering.id).open_until_s


@pytest.fixture
def house(make):
    return House(make)


@pytest.mark.parametrize("kind", [Kind.ACCOUNT_DEAD, Kind.KEY_DEAD])
def test_a_dead_account_keeps_calls_from_all_its_models(house, kind):
    house.fail(house.send(house.one, 1.0), kind, 2.0)
    assert house.shut_until(house.one) == house.shut_until(house.two) == 602.0
    assert house.shut_until(house.other) == 0.0


def test_what_is_wrong_with_one_model_is_wrong_with_it_alone(house):
    house.fail(house.send(house.one, 1.0), Kind.TARGET_DEAD, 2.0)
    assert house.shut_until(house.one) == 602.0
    assert house.shut_until(house.two) == 0.0


def test_one_probe_finds_out_for_the_whole_account(house):
    house.fail(house.send(house.one, 1.0), Kind.ACCOUNT_DEAD, 2.0)
    probe = house.send(house.two, 700.0)
    assert house.shut_until(house.one) == 700.0 + PROBE_S
    house.answer(probe, 701.0)
    assert house.shut_until(house.one) == house.shut_until(house.two) == 0.0


def test_a_probe_that_fails_shuts_all_again_and_one_that_tells_nothing_passes_the_turn(house):
    house.fail(house.send(house.one, 1.0), Kind.ACCOUNT_DEAD, 2.0)
    house.fail(house.send(house.two, 700.0), Kind.ACCOUNT_DEAD, 701.0)
    assert house.shut_until(house.one) == 1301.0
    left = house.send(house.one, 1400.0)
    house.admission.undecided(left, 1401.0)
    house.health.undecided(left, 1401.0)
    house.admission.release(left, house.call)
    assert house.shut_until(house.two) == 1401.0
    house.answer(house.send(house.two, 1402.0), 1403.0)
    assert house.shut_until(house.one) == 0.0


def test_an_api_that_crawls_rests_and_is_tried_again_by_one_call(house):
    for at_s in range(SLOW_MIN):
        assert house.shut_until(house.one) == 0.0
        house.answer(house.send(house.one, float(at_s)), at_s + 6.0)
    assert house.shut_until(house.one) == SLOW_MIN - 1 + 6.0 + REST_S
    probe = house.send(house.one, 60.0)
    house.answer(probe, 67.0)
    assert house.shut_until(house.one) == 67.0 + REST_S
    for at_s in range(100, 106):
        house.answer(house.send(house.one, float(at_s)), at_s + 0.2)
    house.answer(house.send(house.one, 110.0), 117.0)
    assert house.shut_until(house.one) == 0.0, "mostly well again"


def test_four_times_what_the_row_says_is_not_slow_below_five_seconds(house):
    for at_s in range(12):
        house.answer(house.send(house.one, float(at_s)), at_s + 4.9)
    assert house.shut_until(house.one) == 0.0


def answered(house, seconds: float, count: int, from_s: float = 0.0) -> float:
    """So many answers a second apart, each after `seconds`; when the last one came."""
    for at in range(count):
        house.answer(house.send(house.one, from_s + at), from_s + at + seconds)
    return from_s + count - 1 + seconds


def test_what_is_usual_there_counts_once_it_is_known_and_the_row_before(house):
    house.one = replace(house.one, first_token_s=3.0)
    answered(house, 0.5, USUAL_SEEN_MIN - SLOW_MIN - 1)
    answered(house, 9.0, SLOW_MIN, 50.0)
    assert house.shut_until(house.one) == 0.0, "its row allows 12 s"
    answered(house, 0.5, OF_LAST, 100.0)
    last_s = answered(house, 9.0, SLOW_MIN, 150.0)
    assert house.shut_until(house.one) == last_s + REST_S, "half a second is usual"


def test_an_api_that_is_slower_than_its_row_says_is_left_alone_once_that_is_usual(house):
    answered(house, 4.0, USUAL_SEEN_MIN)
    answered(house, 12.0, OF_LAST, 50.0)
    assert house.shut_until(house.one) == 0.0
    last_s = answered(house, 17.0, OF_LAST, 100.0)
    assert house.shut_until(house.one) == last_s + REST_S


def test_a_brown_out_does_not_become_usual_by_its_first_slow_answers(house):
    answered(house, 0.5, 64)
    for start_s in (100.0, 200.0, 300.0):
        last_s = answered(house, 6.0, SLOW_MIN, start_s)
        assert house.shut_until(house.one) == last_s + REST_S


def test_a_long_prompt_may_take_as_long_as_reading_it_does(house):
    for at_s in range(12):
        house.answer(house.send(house.one, float(at_s), prompt_tokens=60_000), at_s + 34.9)
    assert house.shut_until(house.one) == 0.0
    for at_s in range(SLOW_MIN):
        house.answer(house.send(house.one, float(at_s), prompt_tokens=60_000), at_s + 35.1)
    assert house.shut_until(house.one) > 0.0


def test_one_tenant_s_slow_answers_do_not_shut_an_api_that_serves_others_well(house):
    house.answer(house.send(house.one, 0.0), 1.0, "beta")
    for at_s in range(OF_LAST + SLOW_MIN):
        house.answer(house.send(house.one, float(at_s)), at_s + 9.0, f"acme/{at_s}")
    assert house.shut_until(house.one) == 0.0
    house.answer(house.send(house.one, 40.0), 49.0, "beta")
    assert house.shut_until(house.one) == 0.0, "beta may have had one long answer"
    house.answer(house.send(house.one, 41.0), 50.0, "beta")
    assert house.shut_until(house.one) == 50.0 + REST_S


def test_three_tenants_that_all_wait_are_enough_with_five_answers(house):
    for at_s, tenant in enumerate(("a", "a", "b", "b")):
        house.answer(house.send(house.one, float(at_s)), at_s + 9.0, tenant)
    assert house.shut_until(house.one) == 0.0
    house.answer(house.send(house.one, 5.0), 14.0, "c")
    assert house.shut_until(house.one) == 14.0 + REST_S


def test_what_another_tenant_was_told_long_ago_says_nothing_of_now(house):
    house.answer(house.send(house.one, 0.0), 1.0, "beta")
    for at_s in range(700, 700 + SLOW_MIN):
        house.answer(house.send(house.one, float(at_s)), at_s + 9.0)
    assert house.shut_until(house.one) > 700.0
