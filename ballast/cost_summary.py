"""The summary below `ballast cost`: what each feature and model came to, GPUs, and the saving."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ballast.admin_words import clean
from serving.finance.rates import with_tax
from serving.finance.summary import Share, Summary


def tables(found: Summary, tax_percent: Decimal = Decimal(0)) -> Group:
    """For a person; amounts in the summary's currency, before tax but for the last line."""
    parts: list[RenderableType] = [
        Text(f"SUMMARY in {found.currency} at {found.cny_per_usd} CNY/USD of {found.rate_day}"),
        _shares("feature", found.features, has_tier=False),
        "",
        _shares("model", found.models, has_tier=True),
        "",
    ]
    if found.pools:
        parts += [_pools(found), ""]
    return Group(*parts, *(Text(line) for line in _lines(found, tax_percent)))


def _shares(name: str, shares: Iterable[Share], *, has_tier: bool) -> Table:
    heads = [name, *(["tier"] if has_tier else [])]
    table = Table(*heads, box=None, pad_edge=False)
    for head in ("tokens/request", "cash", "granted", "GPU used", "GPU idle", "shared", "total",
                 "per M tokens"):  # fmt: skip
        table.add_column(head, justify="right")
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


def _pools(found: Summary) -> Table:
    table = Table("pool", "GPU", box=None, pad_edge=False)
    for head in ("GPU-hours", "in use", "allocated", "used", "idle"):
        table.add_column(head, justify="right")
    for pool in found.pools:
        amounts = (pool.micro, pool.used_micro, pool.idle_micro)
        table.add_row(
            Text(clean(pool.pool)), Text(clean(pool.gpu)), f"{pool.gpu_hours:,.1f}",
            f"{pool.use:.0%}",
            *(f"{pool.currency} {_amount(micro)}" for micro in amounts),
        )  # fmt: skip
    return table


def _lines(found: Summary, tax_percent: Decimal) -> list[str]:
    saving = found.saving
    total = found.cash_micro + found.allocation_micro + found.shared_micro
    shares = (found.own_request_share, found.own_token_share)
    lines = [
        "self-hosted: {} of requests, {} of tokens".format(*map(_share, shares)),
        "own tokens at their models' first offerings {}, our GPUs {}: saving {}".format(
            *map(_amount, (saving.api_micro, saving.own_micro, saving.micro))
        ),
        "in all {}: APIs {}, GPUs {} (idle {}), shared {}; granted besides {}".format(
            *map(_amount, (total, found.cash_micro, found.allocation_micro, found.idle_micro,
                           found.shared_micro, found.granted_micro))
        ),
    ]  # fmt: skip
    if saving.unpriced:
        lines.append(f"no price to compare with: {', '.join(map(clean, saving.unpriced))}")
    if tax_percent:
        lines.append(f"in all with {tax_percent} % tax: {_amount(with_tax(total, tax_percent))}")
    return lines


def _amount(micro: int) -> str:
    return f"{micro / 1e6:,.4f}"


def _share(share: float | None) -> str:
    return "-" if share is None else f"{share:.0%}"
