"""What an hour of a GPU costs: published offers by date, in yuan. Pure but for reading its files.

Amounts are integer micro-units of their currency; yuan appear only in reports, with a dated rate.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from datetime import date, timedelta
from decimal import Decimal
from functools import cache
from pathlib import Path
from statistics import median_low
from typing import Final, Literal, TypeAlias

import msgspec
import yaml

from models.gpu import Gpus, UnknownGpuError
from models.gpu import load as load_gpus
from models.worded import Worded

FILE: Final = Path(__file__).parent / "gpu_prices.csv"
EXCHANGE: Final = Path(__file__).parent / "exchange.yaml"
AGE_MAX: Final = timedelta(days=365)
"""An older offer is history, not a price. Offers without a date are of late 2025 to 2026."""
MICRO: Final = 1_000_000
SOURCE: Final = (
    "{count} x {gpu} {terms}: {provider}, median of {offers} offers; {rate} CNY/USD of {day}"
)
Terms: TypeAlias = Literal["on_demand", "spot"]


class Offer(msgspec.Struct, frozen=True):
    """One published offer: so many GPUs in one machine."""

    provider: str
    region: str
    instance: str
    gpu: str
    """Key of `gpus.yaml`."""
    count: int
    currency: Literal["CNY", "USD"]
    on_demand_micro: int | None
    """An hour of the whole machine."""
    spot_micro: int | None
    day: date | None
    source: str

    def micro(self, terms: Terms) -> int | None:
        """The price on those terms; None where it is not offered."""
        return self.on_demand_micro if terms == "on_demand" else self.spot_micro


class Rate(msgspec.Struct, frozen=True):
    """Yuan for one US dollar."""

    day: date
    cny_per_usd: Decimal
    source: str


class Price(msgspec.Struct, frozen=True):
    """One GPU-hour, and where it comes from."""

    cny_micro: int
    terms: Terms
    offers: int
    """Offers it is the median of; 0 when the user named it."""
    source: str


class Prices(msgspec.Struct, frozen=True):
    """All offers and rates."""

    offers: tuple[Offer, ...]
    rates: tuple[Rate, ...]

    def rate(self, today: date) -> Rate:
        """The latest rate on or before `today`, else the earliest there is."""
        past = [rate for rate in self.rates if rate.day <= today]
        return max(past, key=lambda r: r.day) if past else min(self.rates, key=lambda r: r.day)

    def price(self, gpu: str, count: int, terms: Terms, today: date) -> Price | None:
        """The median offer for one GPU-hour when `count` are rented in one machine; None when
        nobody offers it. Smaller machines of the same provider are taken as parts of one."""
        rate = self.rate(today)
        found = sorted(
            (cny_micro(amount, offer.currency, rate) // offer.count, offer.provider)
            for offer in self._current(today)
            if offer.gpu == gpu and count % offer.count == 0
            if (amount := offer.micro(terms)) is not None
        )
        if not found:
            return None
        cny, provider = median_low(found)
        return Price(
            cny_micro=cny,
            terms=terms,
            offers=len(found),
            source=Worded(
                "prices.source", SOURCE, count=count, gpu=gpu, terms=terms, provider=provider,
                offers=len(found), rate=rate.cny_per_usd, day=rate.day,
            ),
        )  # fmt: skip

    def _current(self, today: date) -> Iterable[Offer]:
        for offer in self.offers:
            if offer.day is None or today - AGE_MAX <= offer.day <= today:
                yield offer


def cny_micro(amount_micro: int, currency: str, rate: Rate) -> int:
    """An amount in micro-yuan, rounded half up."""
    if currency == "CNY":
        return amount_micro
    return int(amount_micro * rate.cny_per_usd + Decimal("0.5"))


def parse(rows: Sequence[dict[str, str]], gpus: Gpus) -> tuple[Offer, ...]:
    """Offers of the kinds that we know; others are left out. Raises ValueError for a bad row."""
    found = []
    for number, row in enumerate(rows, 2):
        try:
            kind = gpus.gpu(row["gpu"])
        except UnknownGpuError:
            continue
        try:
            found.append(_offer(row, kind.id))
        except (ValueError, ArithmeticError, KeyError) as error:
            raise ValueError(f"{FILE.name}: line {number}: {error!r}") from None
    return tuple(found)


def _offer(row: dict[str, str], gpu: str) -> Offer:
    currency = row["currency"]
    if currency not in ("CNY", "USD"):
        raise ValueError(f"currency {currency!r}")
    return Offer(
        provider=row["provider"],
        region=row["region"],
        instance=row["instance"],
        gpu=gpu,
        count=int(row["count"]),
        currency="CNY" if currency == "CNY" else "USD",
        on_demand_micro=_micro(row["on_demand"]),
        spot_micro=_micro(row["spot"]),
        day=date.fromisoformat(row["date"]) if row["date"] else None,
        source=row["source"],
    )


def _micro(text: str) -> int | None:
    return int(Decimal(text) * MICRO) if text else None


@cache
def load() -> Prices:
    """The packaged offers and rates, read once."""
    with FILE.open(encoding="utf-8", newline="") as file:
        offers = parse(list(csv.DictReader(file)), load_gpus())
    rates = tuple(
        Rate(row["date"], Decimal(str(row["cny_per_usd"])), row["source"])
        for row in yaml.safe_load(EXCHANGE.read_text(encoding="utf-8"))
    )
    return Prices(offers, rates)
