"""How an attempt's money is split over grants, credits, prepaid quotas and cash. Pure.

What was free or cheapest to get burns first; of equals the one that lapses soonest; then by id, so
that every run of the books decides alike. Currencies are never converted: a grant in dollars pays
no charge in yuan.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from models.worded import Worded
from serving.finance.months import day_of, of
from serving.finance.values import AMOUNT_MAX, DAY_MS, Burn, FinanceError, Grant, Spent

ALERT_DAYS = (45, 15, 3)
"""Before a grant lapses, and with something left."""
Counter = Mapping[tuple[str, str], int]
"""(grant, period) -> units used."""


class Lapse(NamedTuple):
    """A grant that will lapse with something left."""

    grant: Grant
    left: int
    days: int
    """Until it lapses, rounded up."""
    threshold: int
    """The alert it is in: 45, 15 or 3 days."""


def checked(grant: Grant) -> Grant:
    """The grant if it can be booked. Raises FinanceError."""
    where = Worded("finance.grant", "grant {id}", id=repr(grant.id[:80]))
    if not grant.id or not grant.provider:
        raise FinanceError(
            Worded("finance.grant_name", "{where}: name it and its provider", where=where)
        )
    if grant.end_ms <= grant.begin_ms:
        raise FinanceError(
            Worded("finance.grant_lapses", "{where}: it lapses before it begins", where=where)
        )
    if (grant.unit == "micro") != bool(grant.currency):
        raise FinanceError(
            Worded(
                "finance.grant_currency",
                "{where}: money needs a currency, tokens have none",
                where=where,
            )
        )
    if grant.amount is None and grant.kind != "reservation":
        raise FinanceError(
            Worded("finance.grant_amount", "{where}: say how much it is", where=where)
        )
    if grant.amount is not None and not 0 < grant.amount <= AMOUNT_MAX:
        raise FinanceError(
            Worded(
                "finance.grant_range",
                "{where}: between 1 and {amount_max} units, not {amount}",
                where=where,
                amount_max=AMOUNT_MAX,
                amount=grant.amount,
            )
        )
    return grant


def period(grant: Grant, at_ms: int, offset_ms: int) -> str:
    """Which filling of the grant a time falls into; empty for one that is filled once."""
    if grant.every == "day":
        return day_of(at_ms, offset_ms)
    return of(at_ms, offset_ms) if grant.every == "month" else ""


def settled(
    spent: Iterable[Spent], grants: Sequence[Grant], used: Counter, offset_ms: int
) -> list[Burn]:
    """The parts of each attempt's money, in the order given. They add up to it exactly."""
    counted = dict(used)
    ordered = sorted(grants, key=_order)
    found: list[Burn] = []
    for one in spent:
        parts = _parts(one, ordered, counted, offset_ms)
        for part in parts:
            at = (part.grant_id, part.period)
            counted[at] = counted.get(at, 0) + part.units
        found += parts
    return found


def _order(grant: Grant) -> tuple[float, int, str]:
    rate = 0.0 if grant.amount is None else grant.paid_micro / grant.amount
    return rate, grant.end_ms, grant.id


def _parts(one: Spent, ordered: Sequence[Grant], used: Counter, offset_ms: int) -> list[Burn]:
    parts: list[Burn] = []
    owed, tokens = one.micro, one.tokens
    for grant in ordered:
        if owed <= 0:
            break
        if not pays(grant, one):
            continue
        when = period(grant, one.ended_ms, offset_ms)
        left = AMOUNT_MAX if grant.amount is None else grant.amount - used.get((grant.id, when), 0)
        micro, units = _taken(grant, left, owed, tokens)
        if micro > 0:
            parts.append(
                Burn(
                    one.request_id, one.attempt, grant.id, grant.kind, when, one.ended_ms,
                    one.currency, micro, units,
                )
            )  # fmt: skip
            owed -= micro
            tokens -= units if grant.unit == "tokens" else tokens * micro // (owed + micro)
    if owed > 0 or not parts:
        own = (one.request_id, one.attempt, "", one.kind, "", one.ended_ms, one.currency, owed, 0)
        parts.append(Burn(*own))
    return parts


def pays(grant: Grant, one: Spent) -> bool:
    """Whether an attempt is within a grant's time, scope and currency."""
    provider, _, upstream = one.target.partition("/")
    return (
        grant.begin_ms <= one.ended_ms < grant.end_ms
        and grant.provider == provider
        and grant.model in ("", one.model, upstream)
        and (grant.unit == "tokens" or grant.currency == one.currency)
    )


def _taken(grant: Grant, left: int, owed: int, tokens: int) -> tuple[int, int]:
    """Money that the grant pays and units that it takes: as far as it reaches."""
    if left <= 0:
        return 0, 0
    if grant.unit == "micro":
        paid = min(left, owed)
        return paid, paid
    if tokens <= 0:
        return 0, 0
    units = min(left, tokens)
    return (owed, units) if units == tokens else (owed * units // tokens, units)


def lapsing(grants: Iterable[Grant], used: Counter, now_ms: int, offset_ms: int) -> list[Lapse]:
    """Grants that lapse within 45 days with something left, the soonest first."""
    found = []
    for grant in grants:
        days = -(-(grant.end_ms - now_ms) // DAY_MS)
        due = [days_ for days_ in ALERT_DAYS if days <= days_]
        if grant.amount is None or not due or not grant.begin_ms <= now_ms < grant.end_ms:
            continue
        left = grant.amount - used.get((grant.id, period(grant, now_ms, offset_ms)), 0)
        if left > 0:
            found.append(Lapse(grant, left, days, min(due)))
    return sorted(found, key=lambda lapse: (lapse.days, lapse.grant.id))
