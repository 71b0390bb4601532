"""Money: integers, one rounding an attempt, half up; and the rows that replay needs."""

from __future__ import annotations

from fractions import Fraction

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.tokens import UPPER
from serving import accounting
from serving.admission import Admission
from serving.records import (
    Burst,
    Charge,
    DataLabel,
    Outcome,
    Price,
    Residency,
    ResidencyLevel,
    Usage,
)
from serving.rows import AttemptBegin

tokens = st.integers(0, 10**9)
prices = st.builds(
    Price, st.just("CNY"), *[st.integers(0, 10**10)] * 3, st.just("here"), st.just("2026-01-01")
)
usages = st.builds(Usage, tokens, tokens, tokens, tokens)


def price(fresh=0, out=0, cached=0):
    return Price("USD", fresh, out, cached, "here", "2026-01-01")


@pytest.mark.parametrize(
    ("usage", "micro"),
    [
        (Usage(0, 0), 0),
        (Usage(1_000_000, 0), 2_000_000),
        (Usage(0, 1_000_000), 10_000_000),
        (Usage(1_000_000, 0, cached_tokens=1_000_000), 100_000),
        (Usage(1_000_000, 0, cached_tokens=400_000), 1_240_000),
        (Usage(1000, 500, cached_tokens=0, reasoning_tokens=500), 7000),
        (Usage(10, 0, cached_tokens=20), 2),
    ],
    ids=["nothing", "input", "output", "all cached", "part cached", "reasoning is in the output",
         "more cached than sent"],
)  # fmt: skip
def test_usage_costs_what_the_price_says(make, usage, micro):
    assert accounting.charge(make.price, usage) == Charge("USD", micro)


@pytest.mark.parametrize(
    ("fresh", "micro"), [(499_999, 0), (500_000, 1), (1_499_999, 1), (1_500_000, 2)]
)
def test_money_is_rounded_half_up(fresh, micro):
    assert accounting.charge(price(fresh), Usage(1, 0)).micro == micro


@given(prices, usages)
def test_a_charge_is_the_exact_sum_rounded_once(price, usage):
    cached = usage.cached_tokens
    exact = Fraction(
        max(0, usage.prompt_tokens - cached) * price.input_micro_per_mtok
        + cached * price.cached_micro_per_mtok
        + usage.completion_tokens * price.output_micro_per_mtok,
        10**6,
    )
    charged = accounting.charge(price, usage)
    assert type(charged.micro) is int
    assert charged.micro >= 0
    assert charged.micro - Fraction(1, 2) <= exact < charged.micro + Fraction(1, 2)


@given(prices, usages, usages)
def test_more_usage_never_costs_less(price, one, more):
    both = Usage(
        one.prompt_tokens + more.prompt_tokens, one.completion_tokens + more.completion_tokens
    )
    alone = Usage(one.prompt_tokens, one.completion_tokens)
    assert accounting.charge(price, both).micro >= accounting.charge(price, alone).micro


def test_an_owned_gpu_s_tokens_cost_nothing_and_no_currency(make):
    admission = Admission()
    from_own = admission.issue(make.call(), _run(make), 1, 0.0)
    assert accounting.price_of(from_own) is accounting.FREE
    assert accounting.charge(accounting.FREE, Usage(10**9, 10**9)) == Charge("", 0)


def test_an_api_s_ticket_carries_its_price(make):
    ticket = _burst(make)
    assert accounting.price_of(ticket) == make.price


def test_a_free_api_costs_nothing_in_its_own_currency():
    assert accounting.charge(price(), Usage(10**9, 10**9)) == Charge("USD", 0)


@pytest.mark.parametrize(("upper", "mean"), [(0, 0), (1, 0), (13, 10), (1300, 1000)])
def test_usage_nobody_told_is_the_mean_not_the_upper_bound_and_marked(upper, mean):
    assert pytest.approx(1.3) == UPPER
    assert accounting.estimated(upper, 3) == Usage(mean, 3, is_estimated=True)


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        (Residency(ResidencyLevel.ANYWHERE), "anywhere"),
        (Residency(ResidencyLevel.MAINLAND), "mainland"),
        (Residency(ResidencyLevel.NAMED, frozenset({"us", "sg"})), "named:sg,us"),
    ],
)
def test_an_intent_states_the_rule_and_where_the_data_goes(make, rule, text):
    row = accounting.intent(make.call(), make.caller(rule), _burst(make), 5, 2)
    assert (row.rule, row.jurisdiction, row.provider, row.upstream_model) == (
        text, "us", "api", "big",
    )  # fmt: skip
    assert (row.request_id, row.attempt, row.tenant, row.sensitivity) == (f"{1:032x}", 1, "acme", 2)


def test_an_intent_states_the_rule_that_a_call_tightened(make):
    call = make.call(residency=Residency(ResidencyLevel.NAMED, frozenset({"us"})))
    assert accounting.intent(call, make.caller(), _burst(make), 5, 0).rule == "named:us"


def test_an_intent_for_our_own_pool_abroad_names_its_operator(make):
    pool = make.replica(label=DataLabel("sg", "a cloud"))
    ticket = Admission().issue(make.call(), _run(make, pool), 1, 0.0)
    row = accounting.intent(make.call(), make.caller(), ticket, 5, 0)
    assert (row.jurisdiction, row.provider, row.upstream_model) == ("sg", "a cloud", "m")


def test_a_lost_attempt_is_billed_from_what_begin_wrote(make):
    call, ticket = make.call(prompt_tokens=1000, max_tokens=100), _burst(make, tokens=100)
    begin = accounting.begin(call, make.caller(), ticket, 7)
    attempt, request = accounting.lost(begin, 9)
    assert attempt.usage == request.usage == Usage(int(10 / UPPER), 100, is_estimated=True)
    assert attempt.charge == accounting.charge(make.price, attempt.usage)
    assert (attempt.outcome, request.outcome) == (Outcome.GATEWAY_LOST, Outcome.GATEWAY_LOST)
    assert (request.request_id, request.attempts, request.tenant) == (call.request_id, 1, "acme")
    assert (begin.is_egress, begin.currency, begin.target) == (True, "USD", "api/big")
    assert begin.cached_micro_per_mtok == make.price.cached_micro_per_mtok
    assert (begin.price_source, begin.price_as_of) == (make.price.source, make.price.as_of)


def test_a_row_of_before_the_cached_price_was_kept_is_settled_as_fresh_input(make):
    begin = accounting.begin(make.call(stream=False), make.caller(), _burst(make, tokens=100), 7)
    told = msgspec.msgpack.encode(begin)
    old = msgspec.msgpack.encode(msgspec.msgpack.decode(told)[:-7])
    read = msgspec.msgpack.decode(old, type=AttemptBegin)
    assert read.cached_micro_per_mtok is None
    assert accounting.lost(read, 9) == accounting.lost(begin, 9)


@pytest.mark.parametrize("kind", ["cash", "credit", "prepaid"])
def test_a_lost_attempt_is_paid_as_its_account_pays(make, kind):
    """Else an attempt that its gateway's death cut short would be cash that no invoice asks for."""
    price = msgspec.structs.replace(make.price, money_kind=kind)
    ticket = _burst(make, tokens=100)
    ticket = msgspec.structs.replace(
        ticket, target=msgspec.structs.replace(ticket.target, price=price)
    )
    begin = accounting.begin(make.call(), make.caller(), ticket, 7)
    attempt, _ = accounting.lost(begin, 9)
    assert attempt.money_kind == begin.paid_by == kind


def test_a_lost_attempt_on_an_own_engine_costs_nothing(make):
    ticket = Admission().issue(make.call(), _run(make), 1, 0.0)
    attempt, _ = accounting.lost(accounting.begin(make.call(), make.caller(), ticket, 7), 9)
    assert attempt.charge == Charge("", 0)


def _run(make, replica=None):
    from models.capacity import Load, estimate
    from serving.records import Run

    replica = replica or make.replica()
    return Run(replica, "local", estimate(replica.profile, Load(), 1, 1))


def _burst(make, tokens=16):
    placement = Burst(make.offering(), "overflow:full")
    return Admission().issue(make.call(max_tokens=tokens), placement, 1, 0.0)
