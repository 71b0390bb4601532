"""Yuan and dollars at a dated rate, with and without tax: for reports, never for rows. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import ROUND_HALF_UP, Decimal

from models.prices import Rate
from models.worded import Worded
from serving.finance.values import FinanceError

CURRENCIES = ("CNY", "USD")
PERCENT_MAX = 100


def converted(micro: int, currency: str, into: str, rate: Rate) -> int:
    """An amount in another currency, rounded half up. Raises FinanceError without a rate."""
    if currency == into:
        return micro
    if {currency, into} != set(CURRENCIES):
        raise FinanceError(
            Worded(
                "finance.no_rate",
                "there is no rate from {value} to {into}",
                value=currency or "no currency",
                into=into,
            )
        )
    value = micro * rate.cny_per_usd if into == "CNY" else micro / rate.cny_per_usd
    return int(value.to_integral_value(ROUND_HALF_UP))


def total(amounts: Iterable[tuple[str, int]], into: str, rate: Rate) -> int:
    """The sum of amounts by currency, each rounded once."""
    return sum(converted(micro, currency, into, rate) for currency, micro in amounts)


def with_tax(micro: int, percent: Decimal) -> int:
    """An amount before tax with it, rounded half up. Raises FinanceError out of 0..100 %."""
    if not (percent.is_finite() and 0 <= percent <= PERCENT_MAX):
        raise FinanceError(
            Worded(
                "finance.tax",
                "tax is between 0 and {percent_max} percent, not {percent}",
                percent_max=PERCENT_MAX,
                percent=percent,
            )
        )
    return int((micro * (1 + percent / 100)).to_integral_value(ROUND_HALF_UP))
