"""Amounts of money as text: exact for what was paid or set, rounded for tables and pages. Pure."""

from __future__ import annotations

from decimal import Decimal


def exact(micro: int) -> str:
    """`0.000017`: all digits, at least two decimals."""
    whole, part = divmod(abs(micro), 1_000_000)
    decimals = f"{part:06d}".rstrip("0").ljust(2, "0")
    return f"{'-' if micro < 0 else ''}{whole:,}.{decimals}"


def rounded(amount: float) -> str:
    """An amount for a table or a page: two decimals, and below one three digits that count, so that
    what is small does not read as nothing."""
    if abs(amount) >= 1 or not amount:
        return f"{amount:,.2f}"
    text = f"{Decimal(f'{amount:.3g}'):f}"
    return text if len(text.partition(".")[2]) >= 2 else f"{amount:.2f}"
