"""Grants, rentals and monthly costs as people write them, turned into entries. Pure.

A list of mappings, each with one key that says what it is: `grant`, `rental` or `cost`. Money is a
decimal of its currency, days are ISO dates in the books' time zone; `until` is the first day after.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import date
from decimal import Decimal
from typing import Annotated, Any, Literal, TypeVar

import msgspec

from models.worded import Worded, of
from serving.finance.values import (
    AMOUNT_MAX,
    CostLine,
    FinanceError,
    Grant,
    GrantKind,
    Key,
    Rental,
    What,
)
from serving.ledger.costs import begin_ms

ENTRIES_MAX = 10_000
Id = Annotated[str, msgspec.Meta(min_length=1, max_length=120)]
Currency = Annotated[str, msgspec.Meta(pattern="^[A-Z]{3}$")]
Count = Annotated[int, msgspec.Meta(ge=1, le=10**6)]
_Row = TypeVar("_Row", bound=msgspec.Struct)


class _Grant(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    id: Id
    kind: GrantKind
    provider: Id
    model: str = ""
    amount: Decimal | None = None
    currency: Currency | None = None
    tokens: int | None = None
    since: date
    until: date
    every: Literal["", "day", "month"] = ""
    paid: Decimal = Decimal(0)
    why: str = ""


class _Rental(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    id: Id
    pool: Id
    gpu: Id
    gpus: Count
    replicas: Count = 1
    since: date
    until: date
    gpu_hour: Decimal
    currency: Currency
    source: Id
    models: tuple[Id, ...]
    why: str = ""


class _Cost(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    id: Id
    month: str
    what: What
    amount: Decimal
    currency: Currency
    key: Key = "tokens"
    why: str = ""


Teller = tuple[str, int]
"""Who tells, and when."""


def entries(told: object, teller: Teller, offset_ms: int) -> list[Grant | Rental | CostLine]:
    """The entries. Raises FinanceError naming the one that is wrong and its field."""
    if not isinstance(told, Sequence) or isinstance(told, str | bytes) or not told:
        raise FinanceError(Worded("finance.list", "write a list of grants, rentals and costs"))
    if len(told) > ENTRIES_MAX:
        raise FinanceError(
            Worded(
                "finance.entries",
                "more than {entries_max} entries: write several files",
                entries_max=ENTRIES_MAX,
            )
        )
    return [
        _entry(Worded("finance.entry", "entry {number}", number=number), one, teller, offset_ms)
        for number, one in enumerate(told, 1)
    ]


def _entry(where: str, one: Any, teller: Teller, offset_ms: int) -> Grant | Rental | CostLine:
    if not isinstance(one, Mapping) or len(one) != 1 or next(iter(one)) not in _READ:
        raise FinanceError(
            Worded(
                "finance.one_key",
                "{where}: one key of {read}, with the facts below it",
                where=where,
                read=[*_READ],
            )
        )
    ((kind, facts),) = one.items()
    return _READ[kind](
        Worded("finance.of_kind", "{where}: {kind}", where=where, kind=kind),
        facts,
        teller,
        offset_ms,
    )


def _read(where: str, facts: Any, row: type[_Row]) -> _Row:
    try:
        return msgspec.convert(facts, row, strict=False)
    except (msgspec.ValidationError, ArithmeticError) as error:
        raise FinanceError(
            Worded("finance.of_error", "{where}: {error}", where=where, error=of(error))
        ) from None


def _grant(where: str, facts: Any, teller: Teller, offset_ms: int) -> Grant:
    row = _read(where, facts, _Grant)
    is_money = row.amount is not None
    if is_money and row.tokens is not None:
        raise FinanceError(
            Worded(
                "finance.not_both",
                "{where}: an amount of money or of tokens, not both",
                where=where,
            )
        )
    if row.currency is None and (is_money or row.paid):
        raise FinanceError(
            Worded("finance.currency", "{where}: money needs a currency", where=where)
        )
    is_tokens = row.tokens is not None or not is_money
    return Grant(
        id=row.id, kind=row.kind, unit="tokens" if is_tokens else "micro",
        amount=row.tokens if is_tokens else _micro(where, row.amount),
        currency="" if is_tokens else row.currency or "", provider=row.provider, model=row.model,
        begin_ms=begin_ms(row.since, offset_ms), end_ms=begin_ms(row.until, offset_ms),
        every=row.every, paid_micro=_micro(where, row.paid), why=row.why, by=teller[0],
        at_ms=teller[1],
    )  # fmt: skip


def _rental(where: str, facts: Any, teller: Teller, offset_ms: int) -> Rental:
    row = _read(where, facts, _Rental)
    return Rental(
        id=row.id, pool=row.pool, gpu=row.gpu, gpus=row.gpus, replicas=row.replicas,
        begin_ms=begin_ms(row.since, offset_ms), end_ms=begin_ms(row.until, offset_ms),
        micro_per_gpu_hour=_micro(where, row.gpu_hour), currency=row.currency, source=row.source,
        models=row.models, why=row.why, by=teller[0], at_ms=teller[1],
    )  # fmt: skip


def _cost(where: str, facts: Any, teller: Teller, offset_ms: int) -> CostLine:  # noqa: ARG001
    row = _read(where, facts, _Cost)
    return CostLine(
        id=row.id, month=row.month, what=row.what, micro=_micro(where, row.amount),
        currency=row.currency, key=row.key, why=row.why, by=teller[0], at_ms=teller[1],
    )  # fmt: skip


_READ: Mapping[str, Callable[[str, Any, Teller, int], Grant | Rental | CostLine]] = {
    "grant": _grant,
    "rental": _rental,
    "cost": _cost,
}


def _micro(where: str, amount: Decimal | None) -> int:
    if amount is None or not amount.is_finite() or abs(amount) * 1_000_000 > AMOUNT_MAX:
        raise FinanceError(
            Worded(
                "finance.no_money",
                "{where}: {amount} is no amount of money",
                where=where,
                amount=amount,
            )
        )
    return int((amount * 1_000_000).to_integral_value())
