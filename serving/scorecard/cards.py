"""One third party's month, from its sums. Pure.

Times are those of streams, money is at list price; a card of few attempts says so and gives no
percentiles, because they would tell of chance.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any

import msgspec

from serving.scorecard.statements import FAULTS, bucket_ms

ROWS_MAX = 200_000
"""Sums of one month: some hundreds of a target."""
FEW = 100
"""Attempts below which a card says `few`, and streams below which it gives no percentile: of 100
the slowest five make the 95th."""
MINUTES_FEW = 60
"""Minutes with a call below which availability is not given."""
_LIMITS = {"rate_limit": "limited", "quota_window": "limited", "content_filter": "refused"}
_ACCOUNT = {"account_dead", "key_dead", "target_dead"}
_CALLER = {"bad_request", "context_too_long"}


class Promise(msgspec.Struct, frozen=True):
    """What a provider's row says of its availability."""

    percent: float
    source: str
    as_of: str


class Sum(msgspec.Struct, frozen=True):
    """Money of one currency, micro-units, at list price."""

    currency: str
    micro: int


class Card(msgspec.Struct, frozen=True):
    """One account and model in one month. Rates are 0..1."""

    provider: str
    """The account's id in the settings."""
    model: str
    """Its name there."""
    attempts: int
    ok: int
    limited: int
    """Answered 429 because we were too fast or a window was used up; 429 that means "no money" is
    `account`."""
    refused: int
    """Its content filter said no before anything reached the client."""
    faulty: int
    """It did not answer, broke off, or said that it is ill."""
    account: int
    """The account, its key or the model there does not work."""
    caller: int
    """The request was wrong."""
    other: int
    """Told nothing of it: the client left, its own deadline passed, a second try won."""
    streams: int
    """Attempts whose time to first content is known."""
    first_p50_ms: float | None
    first_p95_ms: float | None
    """None of fewer than 100 streams."""
    minutes_up: int
    minutes_down: int
    """Every attempt that told of its health failed; with silence of at most two minutes between
    two of them, in which a breaker keeps calls away."""
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    estimated: int
    """Attempts whose usage is an estimate."""
    money: tuple[Sum, ...]
    promised: Promise | None = None
    """None: its row does not say."""
    month_minutes: int = 0
    """Of the month so far."""

    @property
    def is_few(self) -> bool:
        """Too few attempts to judge by."""
        return self.attempts < FEW

    @property
    def limited_rate(self) -> float | None:
        """Share of attempts."""
        return self.limited / self.attempts if self.attempts else None

    @property
    def refused_rate(self) -> float | None:
        """Share of attempts."""
        return self.refused / self.attempts if self.attempts else None

    @property
    def seen_percent(self) -> float | None:
        """Availability in the minutes that told of its health; None of too few."""
        minutes = self.minutes_up + self.minutes_down
        return 100 * self.minutes_up / minutes if minutes >= MINUTES_FEW else None

    @property
    def month_percent(self) -> float | None:
        """The same over the whole month so far, as vendors count: silence is up."""
        if self.seen_percent is None or not self.month_minutes:
            return None
        return 100 * max(0.0, 1 - self.minutes_down / self.month_minutes)

    @property
    def is_kept(self) -> bool | None:
        """Whether the promise held over the month; None where one of the two is unknown."""
        if self.promised is None or self.month_percent is None:
            return None
        return self.month_percent >= self.promised.percent


Row = Sequence[Any]
"""Of `statements.MONTH`."""


def cards(rows: Iterable[Row]) -> list[Card]:
    """A card for each target, in the order of the rows."""
    return [_card(target, list(own)) for target, own in groupby(rows, lambda row: row[0])]


def _card(target: str, rows: Sequence[Row]) -> Card:
    provider, _, model = target.partition("/")
    ends = [row for row in rows if row[1] == "end"]
    counts: Counter[str] = Counter()
    money: dict[str, int] = {}
    for row in ends:
        counts[_class(row[2])] += int(row[4])
        if row[9]:
            money[row[3]] = money.get(row[3], 0) + int(row[9])
    times = sorted((int(row[2]), int(row[4])) for row in rows if row[1] == "first")
    minutes = {row[2]: int(row[4]) for row in rows if row[1] == "minutes"}
    estimated, prompt, completion, cached = (
        sum(int(row[place]) for row in ends) for place in (5, 6, 7, 8)
    )
    return Card(
        provider, model, counts.total(), counts["ok"], counts["limited"], counts["refused"],
        counts["faulty"], counts["account"], counts["caller"], counts["other"],
        streams=sum(n for _, n in times),
        first_p50_ms=quantile(times, 0.5), first_p95_ms=quantile(times, 0.95),
        minutes_up=minutes.get("up", 0), minutes_down=minutes.get("down", 0),
        prompt_tokens=prompt, completion_tokens=completion, cached_tokens=cached,
        estimated=estimated, money=tuple(Sum(*one) for one in sorted(money.items())),
    )  # fmt: skip


def _class(name: str) -> str:
    """What `outcome:error` tells of a target."""
    outcome, _, error = name.partition(":")
    if outcome == "ok":
        return "ok"
    if error in FAULTS:
        return "faulty"
    if error in _ACCOUNT:
        return "account"
    if error in _CALLER:
        return "caller"
    return _LIMITS.get(error, "other")


def quantile(times: Sequence[tuple[int, int]], share: float) -> float | None:
    """Of buckets in order with their counts, milliseconds; None of fewer than `FEW`."""
    total = sum(count for _, count in times)
    if total < FEW:
        return None
    return next(_reached(times, share * total))


def _reached(times: Sequence[tuple[int, int]], rank: float) -> Iterator[float]:
    before = 0
    for bucket, count in times:
        before += count
        if before >= rank:
            yield bucket_ms(bucket)


def csv_rows(month: str, found: Iterable[Card]) -> Iterator[list[Any]]:
    """A head, then a line for each card and currency; money in whole units."""
    counts = ("attempts", "ok", "limited", "refused", "faulty", "account", "caller", "other")
    sums = ("prompt_tokens", "completion_tokens", "cached_tokens")
    yield [
        "month", "provider", "model", *counts, "few", "limited_rate", "first_p50_ms",
        "first_p95_ms", "minutes_up", "minutes_down", "seen_percent", "month_percent",
        "promised_percent", *sums, "currency", "amount",
    ]  # fmt: skip
    for card in found:
        facts = [getattr(card, name) for name in counts]
        tokens = [getattr(card, name) for name in sums]
        promised = card.promised.percent if card.promised is not None else ""
        shown = [card.limited_rate, card.first_p50_ms, card.first_p95_ms]
        seen = [card.seen_percent, card.month_percent]
        for paid in card.money or (Sum("", 0),):
            yield [
                month, card.provider, card.model, *facts, "few" if card.is_few else "",
                *("" if one is None else round(one, 4) for one in shown), card.minutes_up,
                card.minutes_down, *("" if one is None else round(one, 4) for one in seen),
                promised, *tokens, paid.currency, f"{paid.micro / 1e6:.6f}",
            ]  # fmt: skip
