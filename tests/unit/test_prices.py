"""What a GPU-hour costs: offers by date, medians, yuan at a dated rate."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import pytest

from models import gpu, prices
from models.prices import Offer, Prices, Rate, cny_micro, parse

TODAY = date(2026, 11, 25)
RATES = (
    Rate(date(2025, 6, 30), Decimal("7.25"), "then"),
    Rate(date(2026, 11, 21), Decimal("7.0"), "now"),
)


def offer(provider: str, usd: str | None, count: int = 1, **more: object) -> Offer:
    given = {
        "provider": provider, "region": "", "instance": "", "gpu": "h100-80", "count": count,
        "currency": "USD", "spot_micro": None, "day": date(2026, 9, 6), "source": "test",
        "on_demand_micro": None if usd is None else int(Decimal(usd) * 1_000_000),
    }  # fmt: skip
    return Offer(**(given | more))  # type: ignore[arg-type]


def price(*offers: Offer, count: int = 1, terms: str = "on_demand", today: date = TODAY):
    return Prices(offers, RATES).price("h100-80", count, terms, today)  # type: ignore[arg-type]


def test_the_median_offer_counts_and_is_named_with_the_rate():
    found = price(offer("a", "2"), offer("b", "3"), offer("c", "12"))
    assert found is not None
    assert found.cny_micro == 21_000_000
    assert found.offers == 3
    assert found.source == (
        "1 x h100-80 on_demand: b, median of 3 offers; 7.0 CNY/USD of 2026-11-21"
    )


def test_a_machine_s_price_is_shared_by_its_gpus_and_larger_machines_are_not_cut():
    eight = offer("a", "24", count=8)
    assert price(eight, count=8).cny_micro == 21_000_000
    assert price(eight, count=2) is None


def test_spot_and_on_demand_are_never_mixed():
    both = offer("a", "3", spot_micro=1_000_000)
    assert price(both, terms="spot").cny_micro == 7_000_000
    assert price(offer("b", "3"), terms="spot") is None


def test_old_and_future_offers_are_not_today_s_price():
    old = offer("old", "9", day=date(2025, 6, 30), currency="CNY")
    assert price(old) is None
    assert price(old, today=date(2025, 7, 1)).cny_micro == 9_000_000
    assert price(offer("next", "1", day=date(2027, 1, 1))) is None
    assert price(offer("undated", "2", day=None)).cny_micro == 14_000_000


def test_the_rate_is_the_latest_before_the_day():
    table = Prices((), RATES)
    assert table.rate(date(2026, 1, 1)).cny_per_usd == Decimal("7.25")
    assert table.rate(TODAY).cny_per_usd == Decimal("7.0")
    assert table.rate(date(2020, 1, 1)).cny_per_usd == Decimal("7.25")


def test_amounts_are_rounded_half_up_once():
    rate = Rate(TODAY, Decimal("7.0173"), "test")
    assert cny_micro(1_000_000, "USD", rate) == 7_017_300
    assert cny_micro(5_000, "USD", rate) == 35_087
    assert cny_micro(123, "CNY", rate) == 123


ROW = {
    "provider": "p", "region": "", "instance": "", "gpu": "H100-80GB", "count": "1",
    "currency": "USD", "on_demand": "2.5", "spot": "", "date": "", "source": "s",
}  # fmt: skip


def test_rows_of_kinds_that_we_do_not_know_are_left_out():
    rows = [ROW, ROW | {"gpu": "H100-NVL-94GB"}]
    assert [o.gpu for o in parse(rows, gpu.load())] == ["h100-80"]


@pytest.mark.parametrize("wrong", [{"count": "x"}, {"currency": "EUR"}, {"on_demand": "cheap"}])
def test_a_wrong_row_is_named_by_its_line(wrong):
    with pytest.raises(ValueError, match="line 3"):
        parse([ROW, ROW | wrong], gpu.load())


def test_the_packaged_table_prices_every_supported_kind():
    table = prices.load()
    for kind in gpu.load().gpus.values():
        found = table.price(kind.id, 8, "on_demand", TODAY)
        assert (found is not None) == (kind.support == "supported"), kind.id
