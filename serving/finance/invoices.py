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

from serving.finance.months import month
from serving.finance.values import AMOUNT_MAX, FinanceError, InvoiceLine

REQUIRED = ("provider", "period", "model", "tokens", "currency", "amount", "tax")
LINES_MAX = 100_000
BYTES_MAX = 32 << 20
CHARS_MAX = 200


def read(data: bytes) -> list[InvoiceLine]:
    """The lines of one file. Raises FinanceError naming the line and the column."""
    if len(data) > BYTES_MAX:
        raise FinanceError(f"the invoice is larger than {BYTES_MAX >> 20} MiB: cut it by provider")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise FinanceError(f"the invoice is not UTF-8, byte {error.start}: save it so") from None
    rows = csv.DictReader(io.StringIO(text, newline=""))
    try:
        missing = [name for name in REQUIRED if name not in (rows.fieldnames or ())]
        if missing:
            raise FinanceError(f"line 1: columns are missing: {', '.join(missing)}")
        found: list[InvoiceLine] = []
        for row in rows:
            if len(found) == LINES_MAX:
                raise FinanceError(f"more than {LINES_MAX} lines: cut it by provider")
            found.append(_line(row, rows.line_num, len(found)))
    except csv.Error as error:
        raise FinanceError(f"line {rows.line_num}: {error}") from None
    if not found:
        raise FinanceError("the invoice has no lines below its header")
    return found


def _line(row: dict[str | Any, str | Any], number: int, place: int) -> InvoiceLine:
    def text(name: str) -> str:
        value = (row.get(name) or "").strip()
        if not value or len(value) > CHARS_MAX:
            raise FinanceError(f"line {number}: {name} is empty or too long")
        return value

    def money(name: str) -> int:
        return _micro(f"line {number}: {name}", text(name))

    provider, currency = text("provider"), text("currency").upper()
    if len(currency) != 3 or not (currency.isascii() and currency.isalpha()):
        raise FinanceError(f"line {number}: currency {currency[:20]!r}: write CNY, USD, ...")
    tokens = text("tokens")
    if not (tokens.isascii() and tokens.isdigit()) or int(tokens) > AMOUNT_MAX:
        raise FinanceError(f"line {number}: tokens {tokens[:40]!r} is no whole number of 0 or more")
    try:
        period = month(text("period"))
    except FinanceError as error:
        raise FinanceError(f"line {number}: period: {error}") from None
    return InvoiceLine(
        id=f"{provider}:{period}:{place:06}", provider=provider, month=period, model=text("model"),
        tokens=int(tokens), currency=currency, micro=money("amount"), tax_micro=money("tax"),
        credit_micro=money("credit") if (row.get("credit") or "").strip() else 0,
    )  # fmt: skip


def _micro(where: str, text: str) -> int:
    """A decimal as micro-units, rounded half up; negative for a credit note."""
    try:
        value = Decimal(text)
        if not value.is_finite() or abs(value) * 1_000_000 > AMOUNT_MAX:
            raise FinanceError(f"{where}: {text[:40]!r} is out of range")
    except InvalidOperation:
        raise FinanceError(f"{where}: {text[:40]!r} is no amount: write it as 1234.56") from None
    scaled = abs(value) * 1_000_000
    whole = int(scaled + Decimal("0.5"))
    return -whole if value < 0 else whole
