"""What was spent on what: the question, the one query behind it, and the answer's figures. Pure.

Money and processed tokens are those of the *attempts*, failed ones too, because they were paid.
A *request* is counted once, at its last attempt, with the tokens it was delivered; refused ones had
no attempt and cost nothing. *Own* means an engine of ours: its hour is paid, not its token, so it
shows no money here. Currencies and kinds of money are never added up.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Any

import msgspec

from models.worded import Worded

DAY_MS = 86_400_000
ROWS_MAX = 10_000
"""Groups one question may return."""
_OWN = "a.price_currency = ''"
"""Free is said in a currency, so only an engine of ours has none (`accounting.FREE`)."""
DIMENSIONS = {
    "day": f"(a.ended_ms + :offset_ms) / {DAY_MS}",
    "tenant": "coalesce(a.tenant, '')",
    "project": "coalesce(a.project, '')",
    "feature": "a.feature",
    "model": "coalesce(a.model, '')",
    "target": "coalesce(a.target, '')",
    "tier": f"CASE WHEN {_OWN} THEN 'own' ELSE 'api' END",
}
"""What rows can be grouped by, and the expression of it."""
_SUMS = (
    "count(*)",
    "count(*) FILTER (WHERE a.is_estimated)",
    "coalesce(sum(a.prompt_tokens), 0)",
    "coalesce(sum(a.completion_tokens), 0)",
    "coalesce(sum(a.cached_tokens), 0)",
    "coalesce(sum(a.reasoning_tokens), 0)",
    f"coalesce(sum(a.prompt_tokens) FILTER (WHERE {_OWN}), 0)",
    f"coalesce(sum(a.completion_tokens) FILTER (WHERE {_OWN}), 0)",
    "count(r.request_id)",
    f"count(r.request_id) FILTER (WHERE {_OWN})",
    "coalesce(sum(r.prompt_tokens), 0)",
    "coalesce(sum(r.completion_tokens), 0)",
)
"""In the order of Cost's fields, behind `money`."""
_FROM = (
    " FROM attempts a LEFT JOIN requests r"
    " ON r.request_id = a.request_id AND r.attempts = a.attempt"
    " WHERE a.ended_ms >= :since_ms AND a.ended_ms < :until_ms"
)


class Question(msgspec.Struct, frozen=True):
    """Attempts that ended in [since, until), grouped; by nothing gives the sum of all.

    Raises ValueError on an unknown dimension.
    """

    by: tuple[str, ...]
    since_ms: int
    until_ms: int
    offset_ms: int = 0
    """Local time less UTC: where days begin."""
    rows_max: int = 1_000

    def __post_init__(self) -> None:
        unknown = [name for name in self.by if name not in DIMENSIONS]
        if unknown or len(set(self.by)) < len(self.by):
            template, given = "group by some of {known}, each once; not {given}", ", ".join(self.by)
            raise ValueError(Worded("cost.group", template, known=[*DIMENSIONS], given=repr(given)))
        if not 1 <= self.rows_max <= ROWS_MAX:
            template = "between 1 and {most} rows, not {count}"
            raise ValueError(Worded("cost.rows", template, most=ROWS_MAX, count=self.rows_max))


class Money(msgspec.Struct, frozen=True):
    """An amount in micro-units of one currency and kind."""

    currency: str
    kind: str
    """`cash`, `credit` or `prepaid`."""
    micro: int


class Cost(msgspec.Struct, frozen=True):
    """One group's sums."""

    key: tuple[str, ...]
    """Values of the question's `by`."""
    money: tuple[Money, ...]
    attempts: int
    estimated: int
    """Attempts among them whose usage is an estimate."""
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    reasoning_tokens: int
    own_prompt_tokens: int
    own_completion_tokens: int
    requests: int
    own_requests: int
    """Whose last attempt ran on an engine of ours."""
    delivered_prompt_tokens: int
    delivered_completion_tokens: int

    @property
    def tokens(self) -> int:
        """Processed, by whatever target."""
        return self.prompt_tokens + self.completion_tokens

    @property
    def own_request_share(self) -> float | None:
        """Share of requests served by our engines, 0..1; None without requests."""
        return self.own_requests / self.requests if self.requests else None

    @property
    def own_token_share(self) -> float | None:
        """The same by processed tokens."""
        own = self.own_prompt_tokens + self.own_completion_tokens
        return own / self.tokens if self.tokens else None

    @property
    def tokens_per_request(self) -> float | None:
        """Delivered prompt and completion."""
        delivered = self.delivered_prompt_tokens + self.delivered_completion_tokens
        return delivered / self.requests if self.requests else None

    def micro_per_mtok(self, money: Money) -> int | None:
        """What a million processed tokens came to of this money, rounded half up."""
        if not self.tokens:
            return None
        return (2 * money.micro * 1_000_000 + self.tokens) // (2 * self.tokens)


class Answer(msgspec.Struct, frozen=True):
    """The groups: those with most money first, then those with most tokens; by day in the order of
    days."""

    costs: tuple[Cost, ...]
    is_cut: bool
    """There are more than were asked for."""


def asked(question: Question) -> tuple[str, dict[str, Any]]:
    """The query and its parameters. One row more than asked for tells that there are more."""
    keys = [DIMENSIONS[name] for name in question.by]
    columns = [*keys, *_SUMS, "coalesce(a.currency, '')", "a.money_kind", "sum(a.micro)"]
    spent, count = len(columns), len(keys)
    group = ", ".join(str(place) for place in (*range(1, count + 1), spent - 2, spent - 1))
    order = ", ".join([f"{spent} DESC", f"{count + 3} DESC", *map(str, range(1, count + 1))])
    query = f"SELECT {', '.join(columns)}{_FROM} GROUP BY {group} ORDER BY {order} LIMIT :limit"
    values = {
        "since_ms": question.since_ms,
        "until_ms": question.until_ms,
        "offset_ms": question.offset_ms,
        "limit": question.rows_max + 1,
    }
    return query, values


def to_answer(question: Question, rows: Sequence[tuple[Any, ...]]) -> Answer:
    """What the rows of the query say: one each for a group, a currency and a kind of money."""
    found: dict[tuple[str, ...], Cost] = {}
    count = len(question.by)
    for row in rows[: question.rows_max]:
        named = zip(question.by, row[:count], strict=True)
        key = tuple(to_day(value) if name == "day" else value for name, value in named)
        sums, (currency, kind, micro) = map(int, row[count:-3]), row[-3:]
        money = (Money(currency, kind, int(micro)),) if micro else ()
        fresh = Cost(key, money, *sums)
        found[key] = _sum(found[key], fresh) if key in found else fresh
    costs = tuple(found.values())
    if "day" in question.by:
        costs = tuple(sorted(costs, key=lambda cost: cost.key))
    return Answer(costs, len(rows) > question.rows_max)


def _sum(one: Cost, other: Cost) -> Cost:
    names = [name for name in Cost.__struct_fields__ if name not in ("key", "money")]
    sums = [getattr(one, name) + getattr(other, name) for name in names]
    money: dict[tuple[str, str], int] = {}
    for part in (*one.money, *other.money):
        at = (part.currency, part.kind)
        money[at] = money.get(at, 0) + part.micro
    parts = tuple(Money(currency, kind, micro) for (currency, kind), micro in sorted(money.items()))
    return Cost(one.key, parts, *sums)


_EPOCH_DAY = date(1970, 1, 1).toordinal()


def to_day(number: int) -> str:
    """ISO date of a day counted from 1970."""
    return date.fromordinal(_EPOCH_DAY + number).isoformat()


def begin_ms(day: date, offset_ms: int) -> int:
    """UTC milliseconds at which a local day begins."""
    return (day.toordinal() - _EPOCH_DAY) * DAY_MS - offset_ms
