"""The sides of a percentage split, compared by what the ledger has of their requests. Pure.

A request counts for the side it was assigned to, wherever it ran at last: else a side would be
praised for what it shed. Refused content, finish reasons, retries, lengths and JSON are signs of
quality, no judgement of it: `ballast evaluate` asks for that.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Literal

import msgspec

from serving.evaluation import intervals
from serving.evaluation.intervals import GROUPS_FEW, Interval
from serving.scorecard.statements import bucket_ms, bucketed

ROWS_MAX: Final = 300_000
"""Sixteen sides of ten thousand parts, and what a change of the percentages adds."""
REQUESTS_FEW: Final = 100
_WHERE = (
    "FROM requests r WHERE r.name = :name AND r.part >= 0"
    " AND r.ended_ms >= :since_ms AND r.ended_ms < :until_ms"
)
_FAILED = "'upstream_error', 'timeout', 'cut', 'internal', 'full', 'gateway_lost'"
_COUNTS = {
    "requests": "count(*)",
    "ok": "count(*) FILTER (WHERE r.outcome = 'ok')",
    "failed": f"count(*) FILTER (WHERE r.outcome IN ({_FAILED}))",
    "refused": "count(*) FILTER (WHERE r.finish = 'content_filter' OR r.code = 'content_filter')",
    "retried": "count(*) FILTER (WHERE r.attempts > 1)",
    "finished": "count(*) FILTER (WHERE r.outcome = 'ok' AND r.finish <> '')",
    "cut": "count(*) FILTER (WHERE r.outcome = 'ok' AND r.finish = 'length')",
    "tools": "count(*) FILTER (WHERE r.outcome = 'ok' AND r.finish = 'tool_calls')",
    "json": "count(*) FILTER (WHERE r.json_found IN ('valid', 'invalid'))",
    "json_bad": "count(*) FILTER (WHERE r.json_found = 'invalid')",
    "tokens": "coalesce(sum(r.completion_tokens) FILTER (WHERE r.outcome = 'ok'), 0)",
    "streams": "count(*) FILTER (WHERE r.is_stream AND r.first_token_ms >= 0)",
    "first_ms": "coalesce(sum(r.first_token_ms)"
    " FILTER (WHERE r.is_stream AND r.first_token_ms >= 0), 0)",
    "whole_ms": "coalesce(sum(r.ended_ms - r.received_ms) FILTER (WHERE r.outcome = 'ok'), 0)",
}
PARTS = (
    f"SELECT r.route, r.part, {', '.join(_COUNTS.values())} {_WHERE}"
    " GROUP BY r.route, r.part ORDER BY r.route, r.part LIMIT :limit"
)
MONEY = (
    "SELECT r.route, r.part, a.currency, sum(a.micro) FROM requests r"
    " JOIN attempts a ON a.request_id = r.request_id"
    " WHERE r.name = :name AND r.part >= 0 AND r.ended_ms >= :since_ms AND r.ended_ms < :until_ms"
    " AND a.currency <> '' GROUP BY r.route, r.part, a.currency"
    " ORDER BY r.route, r.part, a.currency LIMIT :limit"
)
TARGETS = (
    f"SELECT r.route, r.target, count(*) {_WHERE}"
    " GROUP BY r.route, r.target ORDER BY r.route, r.target LIMIT :limit"
)
TIMES = (
    "SELECT route, bucket, count(*) FROM"  # noqa: S608 - our words
    f" (SELECT r.route, {bucketed('r.first_token_ms')} AS bucket"
    f" {_WHERE} AND r.is_stream AND r.first_token_ms >= 0) AS seen"
    " GROUP BY route, bucket ORDER BY route, bucket LIMIT :limit"
)
_OWN = re.compile(r"@[^/@]+:\d+$")
"""Replicas are named `model@host:port`."""
Kind = Literal["share", "mean"]
MEASURES: Mapping[str, tuple[Kind, str, str]] = {
    "failed": ("share", "failed", "requests"),
    "refused": ("share", "refused", "requests"),
    "retried": ("share", "retried", "requests"),
    "cut at max_tokens": ("share", "cut", "finished"),
    "called a tool": ("share", "tools", "finished"),
    "JSON invalid": ("share", "json_bad", "json"),
    "answer tokens": ("mean", "tokens", "ok"),
    "first token ms": ("mean", "first_ms", "streams"),
    "whole answer ms": ("mean", "whole_ms", "ok"),
}
"""Name -> what it is, and the sums it is made of."""


class Compared(msgspec.Struct, frozen=True):
    """One figure of one side."""

    name: str
    kind: str
    """`share` (0..1), `mean`, or `percentile`."""
    found: Interval | None
    """None where nothing tells of it."""
    more: Interval | None = None
    """Than the first side, where both are known."""


class Side(msgspec.Struct, frozen=True):
    """One side of a split."""

    name: str
    percent: int | None
    """By the settings of now; None: they do not have it."""
    requests: int
    parts: int
    """Ten-thousandths of the callers seen: what counts as independent."""
    targets: tuple[tuple[str, int], ...]
    """Where its requests ended, most first."""
    figures: tuple[Compared, ...]

    @property
    def is_few(self) -> bool:
        """Too few to judge by."""
        return self.requests < REQUESTS_FEW or self.parts < GROUPS_FEW


class Report(msgspec.Struct, frozen=True):
    """All sides, in the order of the settings; then those that they no longer have."""

    name: str
    sides: tuple[Side, ...]
    moved: int
    """Parts that were seen on two sides: their callers were not kept on one."""
    elsewhere: int
    """Parts seen on another side than the settings of now would give them."""


class Found(msgspec.Struct, frozen=True):
    """Rows of the four questions."""

    parts: Sequence[Sequence[Any]]
    money: Sequence[Sequence[Any]] = ()
    targets: Sequence[Sequence[Any]] = ()
    times: Sequence[Sequence[Any]] = ()


Sums = dict[str, float]


def report(
    name: str, percents: Mapping[str, int], assigned: Callable[[int], str], found: Found
) -> Report:
    """What the rows say. `assigned`: the side of a part by the settings of now."""
    groups = _groups(found)
    seen = list(dict.fromkeys([*percents, *groups]))
    sides: list[Side] = []
    for arm in seen:
        base = sides[0].figures if sides else ()
        figures = tuple(_figures(arm, groups.get(arm, {}), found, base))
        sides.append(_side(arm, percents.get(arm), groups.get(arm, {}), figures, found))
    homes: dict[int, set[str]] = defaultdict(set)
    for arm, parts in groups.items():
        for part in parts:
            homes[part].add(arm)
    moved = sum(len(arms) > 1 for arms in homes.values())
    elsewhere = sum(arms != {assigned(part)} for part, arms in homes.items())
    return Report(name, tuple(sides), moved, elsewhere)


def _groups(found: Found) -> dict[str, dict[int, Sums]]:
    """Side -> part -> its sums, money as `micro:CNY`."""
    groups: dict[str, dict[int, Sums]] = {}
    for route, part, *sums in found.parts:
        named = zip(_COUNTS, map(float, sums), strict=True)
        groups.setdefault(_arm(route), {})[int(part)] = dict(named)
    for route, part, currency, micro in found.money:
        own = groups.get(_arm(route), {}).get(int(part))
        if own is not None:
            own[f"micro:{currency}"] = float(micro)
    return groups


def _arm(route: str) -> str:
    return route.removeprefix("split:")


def _side(
    arm: str, percent: int | None, parts: Mapping[int, Sums], figures: tuple[Compared, ...],
    found: Found,
) -> Side:  # fmt: skip
    requests = round(sum(one["requests"] for one in parts.values()))
    targets: Counter[str] = Counter()
    for route, target, count in found.targets:
        if _arm(route) == arm:
            targets["own" if _OWN.search(target) else target or "none"] += int(count)
    return Side(arm, percent, requests, len(parts), tuple(targets.most_common()), figures)


def _figures(
    arm: str, parts: Mapping[int, Sums], found: Found, base: Sequence[Compared]
) -> Iterable[Compared]:
    before = {one.name: one.found for one in base}
    for name, (kind, upper, lower) in MEASURES.items():
        groups = [(one[upper], one[lower]) for one in parts.values()]
        value = intervals.share(groups) if kind == "share" else intervals.mean(groups)
        yield _against(Compared(name, kind, value), before.get(name))
    currencies = sorted({name for one in _all(found) for name in one})
    for currency in currencies:
        groups = [(one.get(f"micro:{currency}", 0.0), one["requests"]) for one in parts.values()]
        name = f"{currency} micro a request"
        yield _against(Compared(name, "mean", intervals.mean(groups)), before.get(name))
    counts = [(bucket_ms(int(b)), int(n)) for route, b, n in found.times if _arm(route) == arm]
    for at in (0.5, 0.95):
        name = f"first token p{round(at * 100)} ms"
        yield Compared(name, "percentile", intervals.percentile(counts, at))


def _all(found: Found) -> Iterable[set[str]]:
    return ({str(currency)} for _, _, currency, _ in found.money)


def _against(one: Compared, other: Interval | None) -> Compared:
    if one.found is None or other is None:
        return one
    differ = intervals.shares_differ if one.kind == "share" else intervals.means_differ
    return msgspec.structs.replace(one, more=differ(one.found, other))
