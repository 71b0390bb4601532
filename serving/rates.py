"""Prices of a provider's row, or of the account's contract, as records. Pure."""

from __future__ import annotations

from msgspec.structs import replace

from models.provider import Sold
from models.tariff import Exceptional, When, micro, when
from serving.provider_access import Terms
from serving.records import Price, Rate

ALWAYS = When(0, 0, 1 << 30, (), frozenset())


class UnknownPrice(Exception):  # noqa: N818 - a state of our knowledge
    """Nobody has read it: what is bought blindly cannot be accounted for."""


def contracted(terms: Terms) -> tuple[Price, tuple[Rate, ...]] | None:
    """The contract's price; None where it names none."""
    fresh, out = micro(terms.input_per_mtok), micro(terms.output_per_mtok)
    if terms.hearing is not None and terms.hearing.by == "time":
        fresh, out = terms.hearing.micro_per_mtok, 0
    if terms.currency is None or fresh is None or out is None:
        return None
    cached = micro(terms.cached_per_mtok)
    price = Price(
        terms.currency, fresh, out, fresh if cached is None else cached, "settings", terms.as_of
    )
    return price, ()


def paid_by(kind: str, price: Price, rates: tuple[Rate, ...]) -> tuple[Price, tuple[Rate, ...]]:
    """The same prices, paid with credit or what was prepaid."""
    if kind == price.money_kind:
        return price, rates
    spent = (replace(rate, price=replace(rate.price, money_kind=kind)) for rate in rates)
    return replace(price, money_kind=kind), tuple(spent)


def listed(sold: Sold) -> tuple[Price, tuple[Rate, ...]]:
    """The dearest price of a model, and its rates where they differ. Raises UnknownPrice."""
    if sold.free:
        return Price(sold.currency, 0, 0, 0, sold.source, sold.as_of), ()
    if sold.hearing is not None and sold.hearing.by == "time":
        hour = sold.hearing.micro_per_mtok
        if hour is None:
            raise UnknownPrice("write `hearing: {..., per_hour: ...}`, currency and as_of")
        return Price(sold.currency, hour, 0, hour, sold.source, sold.as_of), ()
    plain = Rate(ALWAYS, _price(sold, None))
    if not sold.exceptions:
        return plain.price, ()
    special = [Rate(when(rule), _price(sold, rule)) for rule in sold.exceptions]
    every = [rate.price for rate in (*special, plain)]
    dearest = Price(
        sold.currency,
        max(price.input_micro_per_mtok for price in every),
        max(price.output_micro_per_mtok for price in every),
        max(price.cached_micro_per_mtok for price in every),
        sold.source,
        sold.as_of,
    )
    return dearest, (*special, plain)


def _price(sold: Sold, rule: Exceptional | None) -> Price:
    fresh, out, cached = sold.input_per_mtok, sold.output_per_mtok, sold.cached_per_mtok
    if rule is not None:
        fresh = fresh if rule.input_per_mtok is None else rule.input_per_mtok
        out = out if rule.output_per_mtok is None else rule.output_per_mtok
        if rule.cached_per_mtok is not None or rule.input_per_mtok is not None:
            cached = rule.cached_per_mtok  # unknown beside a new input price: that price counts
    new, said = micro(fresh), micro(out)
    if new is None or said is None:
        raise UnknownPrice("write one, or say `free: true` in a row of your own")
    old = micro(cached)
    return Price(sold.currency, new, said, new if old is None else old, sold.source, sold.as_of)
