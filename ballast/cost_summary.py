"""The summary below `ballast cost`: what each feature and model came to, GPUs, and the saving."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Any, TypeAlias

import msgspec
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ballast.admin_words import clean
from ballast.messages import Language, Words, words
from ballast.problem import worded
from models.worded import packed
from serving.finance import asking
from serving.finance.base import Database
from serving.finance.rates import with_tax
from serving.finance.summary import Share, Summary
from serving.finance.values import FinanceError
from serving.ledger.costs import Answer, Question
from serving.records import Price


class Lacking(msgspec.Struct, frozen=True):
    """There is none: something in the period has no rate to the summary's currency."""

    why: str


Said: TypeAlias = Summary | Lacking


def said(
    sources: tuple[Callable[[Question], Answer], Database], question: Question,
    first: dict[str, Price], currency: str,
) -> Said:  # fmt: skip
    """The period in one currency, or why it cannot be. Raises LedgerUnavailable."""
    try:
        return asking.asked(sources, question, first, currency)
    except FinanceError as error:
        return Lacking(worded(error))


def as_object(found: Said) -> dict[str, Any]:
    """For a program: `summary`, null where `no_summary` says why."""
    if isinstance(found, Lacking):
        return {"summary": None, "no_summary": packed(found.why) or {"text": found.why}}
    return {"summary": asking.as_object(found)}


def tables(
    found: Said, tax_percent: Decimal = Decimal(0), language: Language = "en"
) -> RenderableType:
    """For a person; amounts in the summary's currency, before tax but for the last line."""
    say = words(language)
    if isinstance(found, Lacking):
        return Text(say("cost.no_summary", why=found.why))
    title = say("cost.summary", currency=found.currency, rate=found.cny_per_usd, day=found.rate_day)
    parts: list[RenderableType] = [
        Text(title),
        _shares("feature", found.features, say),
        "",
        _shares("model", found.models, say),
        "",
    ]
    if found.pools:
        parts += [_pools(found, say), ""]
    return Group(*parts, *(Text(line) for line in _lines(found, tax_percent, say)))


def _table(names: Iterable[str], numbers: Iterable[str], say: Words) -> Table:
    table = Table(*(say(f"cost.column.{n}") for n in names), box=None, pad_edge=False)
    for name in numbers:
        table.add_column(say(f"cost.column.{name}"), justify="right")
    return table


def _shares(name: str, shares: Iterable[Share], say: Words) -> Table:
    has_tier = name == "model"
    heads = [name, *(["tier"] if has_tier else [])]
    numbers = ("tokens_per_request", "cash", "granted", "gpu_used", "gpu_idle", "shared", "total",
               "per_mtok")  # fmt: skip
    table = _table(heads, numbers, say)
    for share in shares:
        amounts = (share.cash_micro, share.granted_micro, share.used_micro, share.idle_micro,
                   share.shared_micro, share.micro)  # fmt: skip
        mean = share.tokens_per_request
        table.add_row(
            Text(clean(share.name) or "-"), *([share.tier] if has_tier else []),
            "-" if mean is None else f"{mean:,.0f}", *map(_amount, amounts),
            "-" if share.micro_per_mtok is None else _amount(share.micro_per_mtok),
        )  # fmt: skip
    return table


def _pools(found: Summary, say: Words) -> Table:
    table = _table(("pool", "gpu"), ("gpu_hours", "in_use", "allocated", "used", "idle"), say)
    for pool in found.pools:
        amounts = (pool.micro, pool.used_micro, pool.idle_micro)
        table.add_row(
            Text(clean(pool.pool)), Text(clean(pool.gpu)), f"{pool.gpu_hours:,.1f}",
            f"{pool.use:.0%}",
            *(f"{pool.currency} {_amount(micro)}" for micro in amounts),
        )  # fmt: skip
    return table


def _lines(found: Summary, tax_percent: Decimal, say: Words) -> list[str]:
    saving = found.saving
    total = found.cash_micro + found.allocation_micro + found.shared_micro
    requests, tokens = _share(found.own_request_share), _share(found.own_token_share)
    lines = [
        say("cost.self_hosted", requests=requests, tokens=tokens),
        say(
            "cost.saving", api=_amount(saving.api_micro), own=_amount(saving.own_micro),
            saving=_amount(saving.micro),
        ),
        say(
            "cost.in_all", total=_amount(total), cash=_amount(found.cash_micro),
            gpus=_amount(found.allocation_micro), idle=_amount(found.idle_micro),
            shared=_amount(found.shared_micro), granted=_amount(found.granted_micro),
        ),
    ]  # fmt: skip
    if saving.unpriced:
        lines.append(say("cost.unpriced", names=[*map(clean, saving.unpriced)]))
    if tax_percent:
        taxed = _amount(with_tax(total, tax_percent))
        lines.append(say("cost.taxed", percent=tax_percent, total=taxed))
    return lines


def _amount(micro: int) -> str:
    return f"{micro / 1e6:,.4f}"


def _share(share: float | None) -> str:
    return "-" if share is None else f"{share:.0%}"
