"""What finance told the books: written once, listed, refused in a closed month.

A grant told again with the same id replaces the one before and is settled anew; an invoice replaces
that provider's of the same month. What is in a closed month stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from models.worded import Worded
from serving.finance import grants, months, statements
from serving.finance.base import Database, Work
from serving.finance.listing import KIND, closed, listed
from serving.finance.settling import unsettle
from serving.finance.values import (
    AMOUNT_MAX,
    Closing,
    Correction,
    CostLine,
    Entry,
    FinanceError,
    Grant,
    InvoiceLine,
    Rental,
    Sum,
)

_encode = msgspec.json.Encoder().encode
_decode: msgspec.json.Decoder[Entry] = msgspec.json.Decoder(Entry)
Correcting = tuple[str, int, str]
"""Who corrects, when, and the open month it is booked in."""


def write(database: Database, entry: Grant | Rental | CostLine, offset_ms: int) -> None:
    """Book an entry. Raises FinanceError in a closed month, and for one that cannot be."""
    _checked(entry)

    def work(at: Work) -> None:
        before = _found(at, type(entry), entry.id)
        _put(at, entry, closed(at), offset_ms)
        if isinstance(entry, Grant):
            began_ms = before.begin_ms if isinstance(before, Grant) else entry.begin_ms
            _resettle(at, min(began_ms, entry.begin_ms), offset_ms)

    database.write(work)


def drop(database: Database, kind: type[Entry], id_: str, offset_ms: int) -> None:
    """Take an entry back. Raises FinanceError when there is none, or in a closed month."""

    def work(at: Work) -> None:
        entry = _found(at, kind, id_)
        if entry is None:
            raise FinanceError(
                Worded(
                    "finance.none", "there is no {kind} {id}", kind=KIND[kind], id=repr(id_[:80])
                )
            )
        months.need_open(entry, None, closed(at), offset_ms)
        at.run(statements.DROP_ENTRY, {"kind": KIND[kind], "id": id_})
        if isinstance(entry, Grant):
            _resettle(at, entry.begin_ms, offset_ms)

    database.write(work)


def import_invoice(
    database: Database, lines: Sequence[InvoiceLine], offset_ms: int
) -> tuple[int, int]:
    """Store an invoice; lines stored and lines of before that they replace. Raises FinanceError."""

    def work(at: Work) -> int:
        shut = closed(at)
        replaced = 0
        for provider, month in sorted({(line.provider, line.month) for line in lines}):
            first = f"{provider}:{month}:"
            values = {"month": month, "first": first, "last": f"{first}~"}
            for line in lines:
                months.need_open(line, None, shut, offset_ms)
            replaced += at.run(statements.DROP_INVOICE, values)
        at.run_many(statements.PUT_ENTRY, [_row(line, offset_ms) for line in lines])
        return replaced

    return len(lines), database.write(work)


def close(database: Database, closing: Closing, now_ms: int, offset_ms: int) -> None:
    """Close a month. Raises FinanceError for one that is, or cannot be yet."""

    def work(at: Work) -> None:
        months.may_close(closing.id, now_ms, offset_ms, closed(at))
        at.run(statements.PUT_ENTRY, _row(closing, offset_ms))

    database.write(work)


def correct(database: Database, month: str, told: Correcting, offset_ms: int) -> list[Correction]:
    """Book what came to a closed month since, in the open month `told` names; empty when nothing
    did. Raises FinanceError."""
    by, at_ms, into = told

    def work(at: Work) -> list[Correction]:
        closing = _found(at, Closing, months.month(month))
        if not isinstance(closing, Closing):
            raise FinanceError(
                Worded(
                    "finance.not_closed",
                    "{month} is not closed: its rows count as they are",
                    month=month,
                )
            )
        booked = listed(at, Correction)
        found = [
            msgspec.structs.replace(one, by=by, at_ms=at_ms)
            for one in months.late(closing, sums(at, month, offset_ms), booked, into)
        ]
        for one in found:
            _put(at, one, closed(at), offset_ms)
        return found

    return database.write(work)


def sums(work: Database | Work, month: str, offset_ms: int) -> list[Sum]:
    """What the ledger holds of a month by provider, model and currency."""
    since_ms, until_ms = months.bounds(month, offset_ms)
    rows = work.rows(statements.SUMS, {"since_ms": since_ms, "until_ms": until_ms})
    found = []
    for target, currency, *numbers in rows:
        provider, _, model = str(target or "").partition("/")
        micro, tokens, attempts, estimated, burnt = map(int, numbers)
        found.append(Sum(provider, model, currency, micro, tokens, attempts, estimated, burnt))
    return found


def _resettle(at: Work, since_ms: int, offset_ms: int) -> None:
    """A grant changed: what it could have paid in open months is decided anew."""
    shut = closed(at)
    unsettle(at, max(since_ms, months.bounds(shut[-1], offset_ms)[1] if shut else 0))


def _put(at: Work, entry: Entry, shut: Iterable[str], offset_ms: int) -> None:
    before = _found(at, type(entry), entry.id)
    months.need_open(entry, before, shut, offset_ms)
    at.run(statements.PUT_ENTRY, _row(entry, offset_ms))


def _found(at: Work, kind: type[Entry], id_: str) -> Entry | None:
    rows = at.rows(statements.GET_ENTRY, {"kind": KIND[kind], "id": id_})
    return _decode.decode(rows[0][0]) if rows else None


def _row(entry: Entry, offset_ms: int) -> dict[str, str]:
    touched = months.touched(entry, offset_ms)
    month = entry.id if isinstance(entry, Closing) else touched[0]
    data = _encode(entry).decode()
    return {"kind": KIND[type(entry)], "id": entry.id, "month": month, "data": data}


def _checked(entry: Grant | Rental | CostLine) -> None:
    match entry:
        case Grant():
            grants.checked(entry)
        case Rental():
            if not (entry.id and entry.gpus > 0 and entry.replicas > 0 and entry.currency):
                raise FinanceError(
                    Worded(
                        "finance.rental",
                        "rental {id}: name it, its GPUs, replicas and currency",
                        id=repr(entry.id[:80]),
                    )
                )
            if not 0 <= entry.micro_per_gpu_hour <= AMOUNT_MAX or entry.end_ms <= entry.begin_ms:
                raise FinanceError(
                    Worded(
                        "finance.rental_price",
                        "rental {id}: its price or its time is impossible",
                        id=repr(entry.id[:80]),
                    )
                )
        case CostLine():
            months.month(entry.month)
            if not entry.id or not entry.currency or abs(entry.micro) > AMOUNT_MAX:
                raise FinanceError(
                    Worded(
                        "finance.cost",
                        "cost {id}: name it, its currency and its amount",
                        id=repr(entry.id[:80]),
                    )
                )
