"""The most an attempt can cost, what it did cost, and both in a budget's currency. Pure integers.

Rounded up wherever rounding is needed: a budget errs to the safe side by a millionth.
"""

from __future__ import annotations

from datetime import date
from decimal import Decimal

from models import prices
from serving.records import Charge, Price, Usage

MTOK = 1_000_000
RATE = 1_000_000
"""Exchange rates are integers, micro-yuan for a dollar."""
IMPLAUSIBLE = 8
"""An attempt that says it cost so many times its upper bound is not believed: the bound counts. A
prompt's bound is a guess and may be passed by a little; a provider that reports a million million
tokens would else end a tenant's month."""


def most(price: Price, prompt_tokens: int, answer_tokens: int) -> int:
    """Upper bound of an attempt's cost, micro-units of the price's currency."""
    dearest = max(price.input_micro_per_mtok, price.cached_micro_per_mtok)
    total = prompt_tokens * dearest + answer_tokens * price.output_micro_per_mtok
    return -(-total // MTOK)


def rate_micro(day: date) -> int:
    """Micro-yuan for a dollar on a day, by the dated rates of `models/exchange.yaml`: the latest on
    or before it."""
    return int(prices.load().rate(day).cny_per_usd * Decimal(RATE))


def converted(micro: int, currency: str, into: str, cny_per_usd_micro: int) -> int | None:
    """An amount in another currency; None where there is no rate, or no currency at all."""
    if currency == into:
        return micro
    if (currency, into) == ("USD", "CNY"):
        return -(-micro * cny_per_usd_micro // RATE)
    if (currency, into) == ("CNY", "USD"):
        return -(-micro * RATE // cny_per_usd_micro)
    return None


def believed(micro: int, reserved_micro: int) -> int:
    """What an attempt counts, by what it said and what it could cost at most."""
    if micro < 0 or micro > max(reserved_micro, 1) * IMPLAUSIBLE:
        return reserved_micro
    return micro


def of_engine(price: Price, usage: Usage) -> Charge:
    """What tokens of an owned engine count at an internal price; nothing where none is set."""
    total = (
        usage.prompt_tokens * price.input_micro_per_mtok
        + usage.completion_tokens * price.output_micro_per_mtok
    )
    return Charge(price.currency, -(-total // MTOK)) if total > 0 else Charge()
