"""The entries that the books hold, as they were told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import msgspec

from serving.finance import statements
from serving.finance.base import Database, Work
from serving.finance.values import (
    Closing,
    Correction,
    CostLine,
    Entry,
    Grant,
    InvoiceLine,
    Rental,
)

ENTRIES_MAX = 100_000
KIND: Mapping[type[Entry], str] = {
    Grant: "grant", Rental: "rental", CostLine: "cost", InvoiceLine: "invoice",
    Closing: "closing", Correction: "correction",
}  # fmt: skip
Kind = TypeVar("Kind", Grant, Rental, CostLine, InvoiceLine, Closing, Correction)


def listed(
    work: Database | Work, kind: type[Kind], since: str = "", until: str = "9999"
) -> list[Kind]:
    """Entries of one kind of the months from `since` to `until`, both included."""
    values = {"kind": KIND[kind], "since": since, "until": until, "limit": ENTRIES_MAX}
    rows = work.rows(statements.GET_ENTRIES, values)
    return [msgspec.json.decode(row[0], type=kind) for row in rows]


def closed(work: Database | Work) -> list[str]:
    """Months that are closed, in their order."""
    return [row[0] for row in work.rows(statements.CLOSED)]
