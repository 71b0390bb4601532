"""Money by what paid it: a settlement's parts laid over an answer's sums. Pure.

An attempt's row says what its account pays with; what grants paid of it stands in `burns` (0112).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from serving.ledger.costs import DIMENSIONS, ROWS_MAX, Answer, Money, Question, to_day

MOVES_MAX = 10 * ROWS_MAX


def asked(question: Question) -> tuple[str, dict[str, Any]]:
    """The query for what moved from one kind of money to another, and its parameters."""
    columns = [*(DIMENSIONS[name] for name in question.by), "b.currency", "a.money_kind", "b.kind"]
    group = ", ".join(str(place) for place in range(1, len(columns) + 1))
    query = (
        f"SELECT {', '.join(columns)}, sum(b.micro)"  # noqa: S608 - our own words
        " FROM burns b JOIN attempts a ON a.request_id = b.request_id AND a.attempt = b.attempt"
        " WHERE a.ended_ms >= :since_ms AND a.ended_ms < :until_ms AND b.kind <> a.money_kind"
        f" GROUP BY {group} ORDER BY {group} LIMIT :limit"
    )
    bounds = {"since_ms": question.since_ms, "until_ms": question.until_ms, "limit": MOVES_MAX}
    return query, bounds | ({"offset_ms": question.offset_ms} if "day" in question.by else {})


def moved(question: Question, answer: Answer, rows: Sequence[tuple[Any, ...]]) -> Answer:
    """The answer with each move made; sums of a currency stay what they were."""
    moves: dict[tuple[str, ...], list[tuple[str, str, str, int]]] = {}
    for row in rows:
        named = zip(question.by, row[:-4], strict=True)
        key = tuple(to_day(value) if name == "day" else value for name, value in named)
        moves.setdefault(key, []).append((row[-4], row[-3], row[-2], int(row[-1])))
    costs = tuple(
        msgspec.structs.replace(cost, money=_money(cost.money, moves[cost.key]))
        if cost.key in moves
        else cost
        for cost in answer.costs
    )
    return Answer(costs, answer.is_cut)


def _money(had: Sequence[Money], moves: Sequence[tuple[str, str, str, int]]) -> tuple[Money, ...]:
    sums = {(money.currency, money.kind): money.micro for money in had}
    for currency, old, new, micro in moves:
        sums[currency, old] = sums.get((currency, old), 0) - micro
        sums[currency, new] = sums.get((currency, new), 0) + micro
    return tuple(Money(*at, micro) for at, micro in sorted(sums.items()) if micro)
