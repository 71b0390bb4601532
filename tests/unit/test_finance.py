"""Splitting money, reading invoices, reconciling, allocating and converting: pure rules."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.prices import Rate
from serving.finance import allocation, grants, invoices, months, rates, reconcile
from serving.finance.values import (
    DAY_MS,
    HOUR_MS,
    CostLine,
    FinanceError,
    Grant,
    InvoiceLine,
    Rental,
    Spent,
    Sum,
)

HEADER = "provider,period,model,tokens,currency,amount,tax\n"


def grant(name: str, amount: int | None = 1000, **more: Any) -> Grant:
    facts: dict[str, Any] = {
        "id": name, "kind": "credit", "unit": "micro", "amount": amount, "currency": "USD",
        "provider": "p", "begin_ms": 0, "end_ms": 100 * DAY_MS,
    }  # fmt: skip
    return Grant(**facts | more)


def spent(micro: int, tokens: int = 100, at_ms: int = 5, **more: Any) -> Spent:
    facts: dict[str, Any] = {"target": "p/big", "model": "m", "currency": "USD", "kind": "cash"}
    return Spent("r", 1, at_ms, micro=micro, tokens=tokens, **facts | more)


def paid(one: Spent, *have: Grant) -> list[tuple[str, int]]:
    return [(burn.grant_id, burn.micro) for burn in grants.settled([one], have, {}, 0)]


def test_what_was_free_burns_before_what_was_bought_and_the_soonest_lapsing_first() -> None:
    bought = grant("bought", 500, paid_micro=450, end_ms=9 * DAY_MS, kind="prepaid")
    late, soon = grant("late", 100), grant("soon", 100, end_ms=10 * DAY_MS)
    assert paid(spent(650), bought, late, soon) == [("soon", 100), ("late", 100), ("bought", 450)]
    assert paid(spent(900), bought, late, soon)[-1] == ("", 200)


@pytest.mark.parametrize(
    "more",
    [
        {"provider": "q"}, {"model": "other"}, {"currency": "CNY"}, {"begin_ms": 6}, {"end_ms": 5},
    ],
    ids=["provider", "model", "currency", "not begun", "lapsed"],
)  # fmt: skip
def test_a_grant_pays_only_within_its_scope(more: dict[str, Any]) -> None:
    assert paid(spent(10), grant("g", **more)) == [("", 10)]


@pytest.mark.parametrize("model", ["m", "big", ""])
def test_a_model_is_named_as_we_or_as_its_provider_does(model: str) -> None:
    assert paid(spent(10), grant("g", model=model)) == [("g", 10)]


def test_a_token_pack_pays_the_share_of_the_money_that_its_tokens_are() -> None:
    pack = grant("pack", 40, unit="tokens", currency="")
    burns = grants.settled([spent(1000), spent(1000)], [pack], {}, 0)
    assert [(b.grant_id, b.micro, b.units) for b in burns] == [
        ("pack", 400, 40), ("", 600, 0), ("", 1000, 0)
    ]  # fmt: skip


def test_a_free_tier_is_filled_again_each_day() -> None:
    tier = grant("tier", 100, kind="free", every="day")
    days = [spent(80, at_ms=1), spent(80, at_ms=2), spent(80, at_ms=DAY_MS)]
    burns = grants.settled(days, [tier], {}, 0)
    assert [b.micro for b in burns if b.grant_id] == [80, 20, 80]


def test_a_reservation_pays_without_end() -> None:
    assert paid(spent(10**9), grant("r", None, kind="reservation")) == [("r", 10**9)]


_amounts = st.integers(1, 2000)
_grants = st.lists(
    st.builds(
        lambda n, amount, unit, paid: grant(
            f"g{n}", amount, unit=unit, currency="USD" if unit == "micro" else "", paid_micro=paid
        ),
        st.integers(0, 9), _amounts, st.sampled_from(["micro", "tokens"]), st.integers(0, 3),
    ),
    max_size=5, unique_by=lambda g: g.id,
)  # fmt: skip


@given(st.lists(st.builds(spent, st.integers(-50, 900), st.integers(0, 300)), max_size=12), _grants)
def test_parts_add_up_and_no_grant_is_overdrawn(all_spent: list[Spent], have: list[Grant]) -> None:
    burns = grants.settled(all_spent, have, {}, 0)
    assert sum(b.micro for b in burns) == sum(one.micro for one in all_spent)
    for one in have:
        assert one.amount is not None
        assert 0 <= sum(b.units for b in burns if b.grant_id == one.id) <= one.amount
    assert all(b.micro > 0 for b in burns if b.grant_id)


@pytest.mark.parametrize(
    ("days", "threshold"), [(46, None), (45, 45), (16, 45), (15, 15), (4, 15), (3, 3), (1, 3)]
)
def test_alerts_come_45_15_and_3_days_before_a_grant_lapses(
    days: int, threshold: int | None
) -> None:
    one = grant("g", end_ms=days * DAY_MS)
    found = grants.lapsing([one], {}, 0, 0)
    assert [lapse.threshold for lapse in found] == ([] if threshold is None else [threshold])
    assert grants.lapsing([one], {("g", ""): 1000}, 0, 0) == []
    assert grants.lapsing([grant("r", None, kind="reservation", end_ms=1)], {}, 0, 0) == []


def test_an_invoice_is_read_with_or_without_bom_and_with_other_columns() -> None:
    text = "provider,period,model,tokens,currency,amount,tax,credit,note\n"
    text += "p,2026-11,big,1000,usd,12.345678,1.10,2,x\np,2026-11,big,0,USD,-5,0,,\n"
    lines = invoices.read(b"\xef\xbb\xbf" + text.encode())
    assert [(x.micro, x.tax_micro, x.credit_micro, x.currency) for x in lines] == [
        (12_345_678, 1_100_000, 2_000_000, "USD"), (-5_000_000, 0, 0, "USD")
    ]  # fmt: skip
    assert len({x.id for x in lines}) == 2


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("p,2026-11,big,1,,1,0", "line 2: currency is empty"),
        ("p,2026-11,big,1,dollars,1,0", "line 2: currency"),
        ("p,2026-11,big,-1,USD,1,0", "tokens '-1'"),
        ("p,2026-11,big,NaN,USD,1,0", "tokens 'NaN'"),
        ("p,2026-11,big,1.5,USD,1,0", "tokens '1.5'"),
        ("p,2026-11,big,1,USD,NaN,0", "amount: 'NaN' is out of range"),
        ("p,2026-11,big,1,USD,Infinity,0", "out of range"),
        ("p,2026-11,big,1,USD,1e30,0", "out of range"),
        ('p,2026-11,big,1,USD,"1,50",0', "no amount"),
        ("p,2026-13,big,1,USD,1,0", "line 2: period"),
        ("p,2026-11,big,1,USD", "amount is empty"),
        (",2026-11,big,1,USD,1,0", "provider is empty"),
    ],
)
def test_an_uncertain_invoice_is_refused_with_its_line(row: str, says: str) -> None:
    with pytest.raises(FinanceError, match=says):
        invoices.read((HEADER + row + "\n").encode())


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "columns are missing"), (b"a,b\n", "columns are missing"),
        (HEADER.encode(), "no lines"), (b"\xff\xfe", "not UTF-8"),
        (b"x" * (invoices.BYTES_MAX + 1), "larger"),
    ],
)  # fmt: skip
def test_what_is_no_invoice_is_refused(data: bytes, says: str) -> None:
    with pytest.raises(FinanceError, match=says):
        invoices.read(data)


def of_invoice(micro: int, tokens: int = 1_000_000, **more: Any) -> InvoiceLine:
    facts: dict[str, Any] = {"id": "i", "provider": "p", "month": "2026-11", "model": "big"}
    facts |= {"tokens": tokens, "currency": "USD", "micro": micro, "tax_micro": 0}
    return InvoiceLine(**facts | more)


def held(micro: int = 100_000_000, burnt: int = 0, estimated: int = 0) -> Sum:
    return Sum("p", "big", "USD", micro, 1_000_000, 10, estimated, burnt)


@pytest.mark.parametrize(
    ("sums", "lines", "says"),
    [
        ([held()], [of_invoice(100_004_000)], ()),
        ([held()], [], ("the invoice has no such line",)),
        ([held(0)], [], ()),
        ([], [of_invoice(1)], ("the ledger has no such attempts",)),
        ([held()], [of_invoice(106_000_000, tax_micro=6_000_000)], ("the amount includes tax",)),
        ([held(burnt=40_000_000)], [of_invoice(100_000_000)], ("the vendor did not take our",)),
        ([held()], [of_invoice(60_000_000, credit_micro=40_000_000)], ("the vendor took credits",)),
        ([held()], [of_invoice(110_000_000, 1_100_000)], ("+100000 tokens",)),
        ([held()], [of_invoice(120_000_000)], ("the same tokens at another price",)),
        ([held(estimated=9_000_000)], [of_invoice(120_000_000)], ("the same tokens", "9.00 of")),
        ([held()], [of_invoice(120_000_000, 0)], ("-1000000 tokens",)),
    ],
)
def test_differences_are_explained(sums: Any, lines: Any, says: tuple[str, ...]) -> None:
    (line,) = reconcile.reconciled(sums, lines)
    assert len(line.explanations) == len(says)
    assert all(got.startswith(want) for got, want in zip(line.explanations, says, strict=True))
    assert line.is_agreed == (not says)


def rental(**more: Any) -> Rental:
    facts: dict[str, Any] = {
        "id": "r", "pool": "a", "gpu": "h20", "gpus": 2, "replicas": 2, "begin_ms": 0,
        "end_ms": 10 * HOUR_MS, "micro_per_gpu_hour": 10_000_000, "currency": "CNY", "source": "x",
        "models": ("m",),
    }  # fmt: skip
    return Rental(**facts | more)


def test_usage_and_idle_add_up_to_the_allocation() -> None:
    (pool,) = allocation.pools([rental()], {"m": 5 * HOUR_MS}, 0, 10 * HOUR_MS)
    assert (pool.gpu_hours, pool.micro) == (20.0, 200_000_000)
    assert (pool.used_micro, pool.idle_micro, pool.use) == (50_000_000, 150_000_000, 0.25)
    (half,) = allocation.pools([rental()], {"m": 99 * HOUR_MS}, 5 * HOUR_MS, 99 * HOUR_MS)
    assert (half.micro, half.idle_micro) == (100_000_000, 0)
    assert allocation.pools([rental()], {}, 10 * HOUR_MS, 11 * HOUR_MS) == []


@given(
    st.lists(
        st.builds(
            lambda n, gpus, begin, length, price: rental(
                id=f"r{n}", pool=f"p{n % 2}", gpus=gpus, begin_ms=begin, end_ms=begin + length,
                micro_per_gpu_hour=price,
            ),
            st.integers(0, 9), st.integers(1, 8), st.integers(0, 10**8), st.integers(1, 10**8),
            st.integers(0, 10**8),
        ),
        max_size=6,
    ),
    st.integers(0, 10**9),
)  # fmt: skip
def test_usage_and_idle_always_reconcile(rentals: list[Rental], busy_ms: int) -> None:
    for pool in allocation.pools(rentals, {"m": busy_ms}, 0, 10**8):
        assert pool.used_micro + pool.idle_micro == pool.micro
        assert 0 <= pool.used_micro <= pool.micro


@given(st.integers(-(10**9), 10**12), st.dictionaries(st.text(max_size=3), st.integers(0, 10**9)))
def test_a_shared_cost_is_given_out_to_the_last_micro(micro: int, weights: dict[str, int]) -> None:
    assert sum(allocation.shared_out(micro, weights).values()) == micro


def test_a_part_of_a_month_bears_that_part_of_its_lines() -> None:
    begin_ms, end_ms = months.bounds("2026-11", 8 * HOUR_MS)
    line = CostLine(
        id="c", month="2026-11", what="people", micro=30_000, currency="CNY", key="requests"
    )
    within = allocation.lines_within([line], begin_ms, begin_ms + 10 * DAY_MS, 8 * HOUR_MS)
    assert within == [(line, 10_000)]
    assert allocation.lines_within([line], end_ms, end_ms + 1, 8 * HOUR_MS) == []


def test_months_turn_at_local_midnight_and_years_follow() -> None:
    begin_ms, end_ms = months.bounds("2026-12", 8 * HOUR_MS)
    assert months.of(begin_ms, 8 * HOUR_MS) == "2026-12"
    assert months.of(begin_ms - 1, 8 * HOUR_MS) == "2026-11"
    assert list(months.between(begin_ms, end_ms + 1, 8 * HOUR_MS)) == ["2026-12", "2027-01"]


RATE = Rate(date(2026, 11, 21), Decimal("7.0"), "test")


def test_money_is_converted_at_the_day_s_rate_and_rounded_once() -> None:
    assert rates.converted(3, "USD", "CNY", RATE) == 21
    assert rates.converted(10, "CNY", "USD", RATE) == 1
    assert rates.converted(11, "CNY", "USD", RATE) == 2
    assert rates.converted(5, "EUR", "EUR", RATE) == 5
    assert rates.total([("USD", 1), ("CNY", 1)], "CNY", RATE) == 8
    with pytest.raises(FinanceError, match="no rate from EUR"):
        rates.converted(5, "EUR", "CNY", RATE)
    with pytest.raises(FinanceError, match="no currency"):
        rates.converted(5, "", "CNY", RATE)


def test_tax_comes_on_top() -> None:
    assert rates.with_tax(1_000_000, Decimal(6)) == 1_060_000
    for percent in ("-1", "101", "NaN"):
        with pytest.raises(FinanceError, match="tax"):
            rates.with_tax(1, Decimal(percent))
