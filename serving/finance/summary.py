"""The questions that finance asks of a period, answered in one currency. Pure.

Own engines cost what their GPUs were rented for: the part in use goes to those who used it, by
processed tokens, idle time by the same key, so that both add up to the rent. Saving is what their
tokens would have cost at the first offering of their model, less that rent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from models.prices import Rate
from serving.finance.allocation import PoolCost, shared_out, weight
from serving.finance.rates import total
from serving.finance.values import CostLine
from serving.ledger.costs import Answer, Cost
from serving.records import TENANT_MONEY, Price

BY = ("feature", "model", "tier")
"""How the answer that this is made from is grouped."""
_MTOK = 1_000_000
_NOT_GRANTED = ("cash", TENANT_MONEY)
Amounts = Sequence[tuple[str, int]]
"""Money by currency."""


class Facts(NamedTuple):
    """What a summary is made from; everything within the same period."""

    answer: Answer
    pools: Sequence[PoolCost]
    lines: Sequence[tuple[CostLine, int]]
    first: Mapping[str, Price]
    """By model: the price of its first offering."""


class Share(msgspec.Struct, frozen=True):
    """One feature's, or one model's on one tier; money in the summary's currency."""

    name: str
    tier: str
    """`own` or `api`; empty over both."""
    requests: int
    tokens: int
    tokens_per_request: float | None
    cash_micro: int
    """To vendors."""
    granted_micro: int
    """Paid by credits, free tiers, prepaid quotas and reservations, at list price."""
    used_micro: int
    """GPUs in use."""
    idle_micro: int
    shared_micro: int
    """Monthly lines."""
    tenant_micro: int = 0
    """Paid by tenants' own accounts: no cost of the house."""

    @property
    def micro(self) -> int:
        """What it costs the house: cash, GPUs and shared things."""
        return self.cash_micro + self.used_micro + self.idle_micro + self.shared_micro

    @property
    def micro_per_mtok(self) -> int | None:
        """Of all that, a million processed tokens; None without any."""
        return self.micro * _MTOK // self.tokens if self.tokens else None


class Saving(msgspec.Struct, frozen=True):
    """Own engines against their models' first offerings."""

    api_micro: int
    """What own tokens would have cost there."""
    own_micro: int
    """What the GPUs cost, idle included."""
    unpriced: tuple[str, ...]
    """Models whose first offering has no price, or that have none: left out of `api_micro`."""

    @property
    def micro(self) -> int:
        """Positive when own engines were cheaper."""
        return self.api_micro - self.own_micro


class Summary(msgspec.Struct, frozen=True):
    """All of it."""

    currency: str
    cny_per_usd: str
    rate_day: str
    own_request_share: float | None
    own_token_share: float | None
    cash_micro: int
    granted_micro: int
    allocation_micro: int
    usage_micro: int
    idle_micro: int
    shared_micro: int
    features: tuple[Share, ...]
    models: tuple[Share, ...]
    pools: tuple[PoolCost, ...]
    saving: Saving


def summary(facts: Facts, currency: str, rate: Rate) -> Summary:
    """The period's figures. Raises FinanceError for a currency that has no rate."""

    def worth(amounts: Amounts) -> int:
        return total(amounts, currency, rate)

    cells = facts.answer.costs
    used = _given_out(facts.pools, cells, lambda pool: worth([(pool.currency, pool.used_micro)]))
    idle = _given_out(facts.pools, cells, lambda pool: worth([(pool.currency, pool.idle_micro)]))
    shared = _lines(facts.lines, cells, worth)

    def group(of: Callable[[Cost], tuple[str, str]]) -> tuple[Share, ...]:
        names = sorted({of(cell) for cell in cells})
        found = [
            _share(name, [(n, c) for n, c in enumerate(cells) if of(c) == name], worth,
                   (used, idle, shared))
            for name in names
        ]  # fmt: skip
        return tuple(sorted(found, key=lambda share: (-share.micro, share.name)))

    features = group(lambda cell: (cell.key[0], ""))
    usage = sum(worth([(pool.currency, pool.used_micro)]) for pool in facts.pools)
    spare = sum(worth([(pool.currency, pool.idle_micro)]) for pool in facts.pools)
    requests, tokens = sum(c.requests for c in cells), sum(c.tokens for c in cells)
    return Summary(
        currency=currency,
        cny_per_usd=str(rate.cny_per_usd),
        rate_day=rate.day.isoformat(),
        own_request_share=sum(c.own_requests for c in cells) / requests if requests else None,
        own_token_share=sum(_own_tokens(c) for c in cells) / tokens if tokens else None,
        cash_micro=sum(share.cash_micro for share in features),
        granted_micro=sum(share.granted_micro for share in features),
        allocation_micro=usage + spare,
        usage_micro=usage,
        idle_micro=spare,
        shared_micro=sum(worth([(line.currency, micro)]) for line, micro in facts.lines),
        features=features,
        models=group(lambda cell: (cell.key[1], cell.key[2])),
        pools=tuple(facts.pools),
        saving=_saving(facts, worth, usage + spare),
    )


def _own_tokens(cost: Cost) -> int:
    return cost.own_prompt_tokens + cost.own_completion_tokens


def _given_out(
    pools: Iterable[PoolCost], cells: Sequence[Cost], micro: Callable[[PoolCost], int]
) -> dict[int, int]:
    """Each pool's amount over the cells that ran on it, by their own tokens."""
    found: dict[int, int] = {}
    for pool in pools:
        weights = {
            str(n): _own_tokens(cell)
            for n, cell in enumerate(cells)
            if cell.key[1] in pool.models and cell.key[2] == "own"
        }
        _add(found, shared_out(micro(pool), weights))
    return found


def _lines(
    lines: Iterable[tuple[CostLine, int]], cells: Sequence[Cost], worth: Callable[[Amounts], int]
) -> dict[int, int]:
    found: dict[int, int] = {}
    for line, micro in lines:
        weights = {str(n): weight(line.key, cell) for n, cell in enumerate(cells)}
        _add(found, shared_out(worth([(line.currency, micro)]), weights))
    return found


def _add(found: dict[int, int], parts: Mapping[str, int]) -> None:
    """What nobody used stays with nobody: it is in the summary's totals only."""
    for name, micro in parts.items():
        if name:
            found[int(name)] = found.get(int(name), 0) + micro


def _share(
    name: tuple[str, str],
    cells: Sequence[tuple[int, Cost]],
    worth: Callable[[Amounts], int],
    given: Sequence[Mapping[int, int]],
) -> Share:
    requests = sum(cell.requests for _, cell in cells)
    delivered = sum(
        cell.delivered_prompt_tokens + cell.delivered_completion_tokens for _, cell in cells
    )
    money = [one for _, cell in cells for one in cell.money]
    used, idle, shared = (sum(parts.get(n, 0) for n, _ in cells) for parts in given)
    return Share(
        *name, requests, sum(cell.tokens for _, cell in cells),
        delivered / requests if requests else None,
        worth([(one.currency, one.micro) for one in money if one.kind == "cash"]),
        worth([(one.currency, one.micro) for one in money if one.kind not in _NOT_GRANTED]),
        used, idle, shared,
        worth([(one.currency, one.micro) for one in money if one.kind == TENANT_MONEY]),
    )  # fmt: skip


def _saving(facts: Facts, worth: Callable[[Amounts], int], own_micro: int) -> Saving:
    amounts: list[tuple[str, int]] = []
    unpriced: set[str] = set()
    for cell in facts.answer.costs:
        if cell.key[2] != "own" or not cell.tokens:
            continue
        price = facts.first.get(cell.key[1])
        if price is None:
            unpriced.add(cell.key[1])
            continue
        fresh = max(0, cell.prompt_tokens - cell.cached_tokens)
        micro = (
            fresh * price.input_micro_per_mtok
            + min(cell.cached_tokens, cell.prompt_tokens) * price.cached_micro_per_mtok
            + cell.completion_tokens * price.output_micro_per_mtok
        ) // _MTOK
        amounts.append((price.currency, micro))
    return Saving(worth(amounts), own_micro, tuple(sorted(unpriced)))
