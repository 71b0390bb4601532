"""Prices by day, hour and size: what holds when, what is reserved, what is billed."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from models.provider import FOLDER, Sold, load
from models.tariff import Exceptional, when
from serving import accounting
from serving.rates import listed
from serving.records import Usage

ROWS = load(FOLDER)


def sold(provider: str, model: str) -> Sold:
    return next(row for row in ROWS[provider].models if row.id == model)


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


def price_at(make, row: Sold, at: str, prompt_tokens: int = 100):
    price, rates = listed(row)
    offering = make.offering(price=price, rates=rates)
    return accounting.price_at(offering, ms(at), prompt_tokens)


PEAK = [
    ("2026-11-26T00:59", "0.15"), ("2026-11-26T01:00", "0.3"), ("2026-11-26T03:59", "0.3"),
    ("2026-11-26T04:00", "0.15"), ("2026-11-26T06:00", "0.3"), ("2026-11-26T10:00", "0.15"),
    ("2026-11-28T02:00", "0.15"), ("2026-11-29T02:00", "0.15"), ("2026-11-30T02:00", "0.3"),
]  # fmt: skip


@pytest.mark.parametrize(("at", "price"), PEAK, ids=[at for at, _ in PEAK])
def test_deepseek_is_dearer_in_beijing_s_office_hours(make, at, price):
    found = price_at(make, sold("deepseek", "deepseek-flash"), at)
    assert found.input_micro_per_mtok == Decimal(price) * 1_000_000


@pytest.mark.parametrize(
    ("at", "price"), [("2026-11-30T23:59", 2), ("2026-12-01T00:00", 4), ("2027-06-01T00:00", 4)]
)
def test_an_announced_price_holds_from_its_day_on(make, at, price):
    found = price_at(make, sold("gemini", "gemini-4-argon"), at)
    assert found.input_micro_per_mtok == price * 1_000_000


@pytest.mark.parametrize(
    ("prompt", "fresh", "out", "cached"),
    [(272_000, 2, 10, "0.1"), (272_001, 4, 15, "0.2")],
)
def test_a_large_prompt_costs_more_for_the_whole_call(make, prompt, fresh, out, cached):
    found = price_at(make, sold("openai", "gpt-6.1-sol"), "2026-11-26T00:00", prompt)
    assert (found.input_micro_per_mtok, found.output_micro_per_mtok) == (
        fresh * 1_000_000, out * 1_000_000,
    )  # fmt: skip
    assert found.cached_micro_per_mtok == Decimal(cached) * 1_000_000


@given(st.integers(0, 2_000_000), st.integers(ms("2026-01-01"), ms("2028-01-01")))
def test_no_call_ever_costs_more_than_what_is_reserved(make, prompt, at_ms):
    for row in (model for provider in ROWS.values() for model in provider.models):
        if row.exceptions:
            price, rates = listed(row)
            offering = make.offering(price=price, rates=rates)
            usage = Usage(prompt, 1000, prompt // 2)
            billed = accounting.charge(accounting.price_at(offering, at_ms, prompt), usage)
            assert billed.micro <= accounting.charge(price, usage).micro


def test_a_price_not_given_stays_and_a_cached_one_is_never_guessed_low():
    row = Sold.model_validate({
        "id": "m", "context_tokens": 9, "source": "here", "as_of": "2026-01-01",
        "input_per_mtok": "1", "output_per_mtok": "2", "cached_per_mtok": "0.5",
        "exceptions": [{"above_tokens": 5, "input_per_mtok": "3"},
                       {"above_tokens": 3, "output_per_mtok": "4"}],
    })  # fmt: skip
    price, rates = listed(row)
    assert (price.input_micro_per_mtok, price.output_micro_per_mtok) == (3_000_000, 4_000_000)
    assert [rate.price.cached_micro_per_mtok for rate in rates] == [3_000_000, 500_000, 500_000]
    assert rates[-1].price.input_micro_per_mtok == 1_000_000


@pytest.mark.parametrize(
    "rule",
    [
        {"input_per_mtok": "1"},
        {"above_tokens": 5},
        {"hours_utc": ["22:00-02:00"], "input_per_mtok": "1"},
        {"hours_utc": ["25:00-26:00"], "input_per_mtok": "1"},
        {"weekdays": ["someday"], "input_per_mtok": "1"},
        {"since": "soon", "input_per_mtok": "1"},
    ],
    ids=str,
)
def test_an_exception_without_its_time_or_its_price_is_refused(rule):
    with pytest.raises(ValidationError):
        Exceptional.model_validate(rule)


@given(st.integers(0, 60_000_000))
def test_weekdays_are_those_of_the_calendar(minute):
    day = datetime.fromtimestamp(minute * 60, UTC).strftime("%a").lower()
    rule = Exceptional.model_validate({"weekdays": [day], "input_per_mtok": "1"})
    assert when(rule).holds(minute, 0)
