"""A vendor's invoice as CSV, read into lines. Pure; refuses what is not certain.

One header row, then a line each: `provider,period,model,tokens,currency,amount,tax` and, if wanted,
`credit`. `period` is a month, `tokens` a whole number, money a decimal with a dot, before tax;
`credit` is what the vendor took off already. Other columns are ignored. UTF-8, with or without BOM.
"""

from __future__ import annotations

import csv
import io
from decimal import Decimal, InvalidOperation
from typing import Any

from models.worded import Worded, of
from serving.finance.months import month
from serving.finance.values import AMOUNT_MAX, FinanceError, InvoiceLine

REQUIRED = ("provider", "period", "model", "tokens", "currency", "amount", "tax")
LINES_MAX = 100_000
BYTES_MAX = 32 << 20
CHARS_MAX = 200


def read(data: bytes) -> list[InvoiceLine]:
    """The lines of one file. Raises FinanceError naming the line and the column."""
    text = _decoded(data)
    rows = csv.DictReader(io.StringIO(text, newline=""))
    try:
        missing = [name for name in REQUIRED if name not in (rows.fieldnames or ())]
        if missing:
            raise FinanceError(
                Worded(
                    "finance.columns", "line 1: columns are missing: {missing}", missing=[*missing]
                )
            )
        found: list[InvoiceLine] = []
        for row in rows:
            if len(found) == LINES_MAX:
                raise FinanceError(
                    Worded(
                        "finance.invoice_lines",
                        "more than {lines_max} lines: cut it by provider",
                        lines_max=LINES_MAX,
                    )
                )
            found.append(_line(row, rows.line_num, len(found)))
    except csv.Error as error:
        raise FinanceError(
            Worded(
                "finance.line", "line {line_num}: {error}", line_num=rows.line_num, error=of(error)
            )
        ) from None
    if not found:
        raise FinanceError(
            Worded("finance.invoice_empty", "the invoice has no lines below its header")
        )
    return found


def _decoded(data: bytes) -> str:
    if len(data) > BYTES_MAX:
        raise FinanceError(
            Worded(
                "finance.invoice_large",
                "the invoice is larger than {value} MiB: cut it by provider",
                value=BYTES_MAX >> 20,
            )
        )
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise FinanceError(
            Worded(
                "finance.invoice_utf8",
                "the invoice is not UTF-8, byte {start}: save it so",
                start=error.start,
            )
        ) from None


def _line(row: dict[str | Any, str | Any], number: int, place: int) -> InvoiceLine:
    def text(name: str) -> str:
        return _text(row, number, name)

    def money(name: str) -> int:
        return _micro(number, name, text(name))

    provider, currency = text("provider"), text("currency").upper()
    if len(currency) != 3 or not (currency.isascii() and currency.isalpha()):
        raise FinanceError(
            Worded(
                "finance.line_currency",
                "line {number}: currency {currency}: write CNY, USD, ...",
                number=number,
                currency=repr(currency[:20]),
            )
        )
    tokens = text("tokens")
    if not (tokens.isascii() and tokens.isdigit()) or int(tokens) > AMOUNT_MAX:
        raise FinanceError(
            Worded(
                "finance.line_tokens",
                "line {number}: tokens {tokens} is no whole number of 0 or more",
                number=number,
                tokens=repr(tokens[:40]),
            )
        )
    try:
        period = month(text("period"))
    except FinanceError as error:
        raise FinanceError(
            Worded(
                "finance.line_period",
                "line {number}: period: {error}",
                number=number,
                error=of(error),
            )
        ) from None
    return InvoiceLine(
        id=f"{provider}:{period}:{place:06}", provider=provider, month=period, model=text("model"),
        tokens=int(tokens), currency=currency, micro=money("amount"), tax_micro=money("tax"),
        credit_micro=money("credit") if (row.get("credit") or "").strip() else 0,
    )  # fmt: skip


def _text(row: dict[str | Any, str | Any], number: int, name: str) -> str:
    value = (row.get(name) or "").strip()
    if not value or len(value) > CHARS_MAX:
        raise FinanceError(
            Worded(
                "finance.line_empty",
                "line {number}: {name} is empty or too long",
                number=number,
                name=name,
            )
        )
    return value


def _micro(number: int, name: str, text: str) -> int:
    """A decimal as micro-units, rounded half up; negative for a credit note."""
    try:
        value = Decimal(text)
        if not value.is_finite() or abs(value) * 1_000_000 > AMOUNT_MAX:
            raise FinanceError(
                Worded(
                    "finance.amount_range",
                    "line {number}: {name}: {text} is out of range",
                    number=number,
                    name=name,
                    text=repr(text[:40]),
                )
            )
    except InvalidOperation:
        raise FinanceError(
            Worded(
                "finance.amount",
                "line {number}: {name}: {text} is no amount: write it as 1234.56",
                number=number,
                name=name,
                text=repr(text[:40]),
            )
        ) from None
    scaled = abs(value) * 1_000_000
    whole = int(scaled + Decimal("0.5"))
    return -whole if value < 0 else whole
