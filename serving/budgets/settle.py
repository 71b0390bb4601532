"""Leases of dead gateways: what they really spent takes the place of what they were granted.

The truth is their attempt rows, brought by whoever recovered their journal; attempts that were
under way count as estimated there. Blocking.
"""

from __future__ import annotations

from collections.abc import Sequence

from serving.budgets import money
from serving.budgets.base import BudgetStore, Scope, Sum
from serving.budgets.funds import Funds
from serving.budgets.period import span
from serving.budgets.values import Budget
from serving.records import Price, Usage


def settle_dead(store: BudgetStore, funds: Funds, now: tuple[int, int]) -> int:
    """Settle what is expired at the first of two times, or abandoned before the second; how many.
    Raises LedgerUnavailable."""
    budgets = funds.in_force
    settled = 0
    for lease in store.expired(*now):
        settled += 1
        budget = budgets.get(lease.budget)
        if budget is None:  # removed: nobody knows any more which attempts were its own
            store.settle(lease, lease.spent_micro, now[0])
            continue
        scope = Scope(budget.tenant, budget.project, budget.model, budget.provider)
        sums = store.truth(lease, scope, budget.created_ms)
        day = span(budget.period, budget.time_zone, lease.start_ms).day
        store.settle(lease, spent(sums, budget, funds.gpu, money.rate_micro(day)), now[0])
    return settled


def spent(sums: Sequence[Sum], budget: Budget, gpu: Price, rate_micro: int) -> int:
    """Money of all kinds in the budget's currency. What cannot be told there was none of: such a
    price never fitted. Pure."""
    total = 0
    for one in sums:
        micro, currency = one.micro, one.currency
        if not currency:
            if budget.provider:
                continue
            usage = Usage(one.prompt_tokens, one.completion_tokens)
            charge = money.of_engine(gpu, usage)
            micro, currency = charge.micro, charge.currency
        if currency:
            total += money.converted(micro, currency, budget.currency, rate_micro) or 0
    return total
