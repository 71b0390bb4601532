"""Ledger, credits and invoice side by side, with what explains a difference. Pure.

The ledger's list price less what grants paid is what the vendor should ask for, before tax. What is
left over is explained as far as the figures tell, else said to be unexplained.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from models.worded import Worded
from serving.finance.values import InvoiceLine, Sum

TOLERANCE = 1_000
"""Of an amount, one part: smaller differences are the vendor's rounding."""
CENT = 10_000
"""Vendors round a line to the cent, in micro-units."""


class Line(msgspec.Struct, frozen=True):
    """One provider's model in one month and currency."""

    provider: str
    model: str
    currency: str
    ledger_micro: int
    """At list price."""
    burnt_micro: int
    """Of it, paid by grants and prepaid accounts."""
    expected_micro: int
    """What the vendor should ask for."""
    invoice_micro: int
    tax_micro: int
    invoice_credit_micro: int
    difference_micro: int
    """Invoice less expected."""
    ledger_tokens: int
    invoice_tokens: int
    explanations: tuple[str, ...]
    """Empty where the difference is rounding."""

    @property
    def is_agreed(self) -> bool:
        """Whether nothing needs looking into."""
        return not self.explanations


def reconciled(sums: Iterable[Sum], lines: Iterable[InvoiceLine]) -> list[Line]:
    """A line for each provider, model and currency in either, the largest difference first."""
    held = {(s.provider, s.model, s.currency): s for s in sums}
    asked: dict[tuple[str, str, str], list[InvoiceLine]] = {}
    for line in lines:
        asked.setdefault((line.provider, line.model, line.currency), []).append(line)
    found = [
        _line(at, held.get(at), asked.get(at, [])) for at in sorted(held.keys() | asked.keys())
    ]
    return sorted(found, key=lambda line: -abs(line.difference_micro))


def _line(at: tuple[str, str, str], held: Sum | None, asked: list[InvoiceLine]) -> Line:
    provider, model, currency = at
    have = held or Sum(provider, model, currency, 0, 0, 0, 0, 0)
    expected = have.micro - have.burnt_micro
    micro = sum(line.micro for line in asked)
    bare = Line(
        provider, model, currency, have.micro, have.burnt_micro, expected, micro,
        sum(line.tax_micro for line in asked), sum(line.credit_micro for line in asked),
        micro - expected, have.tokens, sum(line.tokens for line in asked), (),
    )  # fmt: skip
    why = _why(bare, have, has_lines=bool(asked), is_held=held is not None)
    return msgspec.structs.replace(bare, explanations=why)


def _is_near(one: int, other: int, lines: int = 1) -> bool:
    return abs(one - other) <= max(CENT * lines, abs(other) // TOLERANCE)


def _why(line: Line, have: Sum, *, has_lines: bool, is_held: bool) -> tuple[str, ...]:
    if not has_lines:
        is_nothing = _is_near(0, line.expected_micro)
        return () if is_nothing else (Worded("reconcile.no_line", "the invoice has no such line"),)
    if not is_held:
        return (
            Worded(
                "reconcile.not_ours",
                "the ledger has no such attempts: another account, or calls that went around us",
            ),
        )
    if _is_near(line.invoice_micro, line.expected_micro):
        return ()
    found: list[str] = []
    if _is_near(line.invoice_micro - line.tax_micro, line.expected_micro):
        found.append(Worded("reconcile.tax", "the amount includes tax: import it before tax"))
    if line.burnt_micro and _is_near(line.invoice_micro, line.ledger_micro):
        found.append(
            Worded(
                "reconcile.credits",
                "the vendor did not take our credits off: claim them, or correct the grant",
            )
        )
    if line.invoice_credit_micro and not line.burnt_micro:
        found.append(
            Worded(
                "reconcile.unknown_credits",
                "the vendor took credits off that we do not know: tell us the grant",
            )
        )
    return (*found, *_of_tokens(line, have, is_explained=bool(found)))


def _of_tokens(line: Line, have: Sum, *, is_explained: bool) -> list[str]:
    found: list[str] = []
    more = line.invoice_tokens - line.ledger_tokens
    if line.ledger_tokens and abs(more) * 1_000 > line.ledger_tokens:
        part = line.ledger_micro * more // line.ledger_tokens
        found.append(
            Worded(
                "reconcile.tokens",
                "{more} tokens, at the ledger's mean price {value}",
                more=f"{more:+}",
                value=f"{part / 1e6:+.2f}",
            )
        )
    elif line.ledger_tokens and line.invoice_tokens and not is_explained:
        ours = line.expected_micro * 1_000_000 // line.ledger_tokens
        theirs = line.invoice_micro * 1_000_000 // line.invoice_tokens
        found.append(
            Worded(
                "reconcile.price",
                "the same tokens at another price: {theirs} a million, ours {ours}",
                theirs=f"{theirs / 1e6:.4f}",
                ours=f"{ours / 1e6:.4f}",
            )
        )
    if have.estimated_micro > CENT:
        found.append(
            Worded(
                "reconcile.estimated",
                "{value} of the ledger's money is estimated usage",
                value=f"{have.estimated_micro / 1e6:.2f}",
            )
        )
    return found or ([] if is_explained else [Worded("reconcile.unexplained", "unexplained")])
