"""Which store the settings name: the ledger's."""

from __future__ import annotations

from collections.abc import Callable

from serving.budgets.base import BudgetStore
from serving.budgets.postgres import PostgresBudgets
from serving.budgets.sqlite import SqliteBudgets
from serving.ledger.address import address
from serving.ledger.store import sqlite_file
from serving.settings import Settings


def opener(settings: Settings) -> Callable[[], BudgetStore]:
    """Opens the store. Raises SettingsError at once, LedgerUnavailable when opened."""
    if settings.ledger.url:
        found = address(settings.ledger)
        return lambda: PostgresBudgets.at(found, settings.ledger)
    path = sqlite_file(settings)
    return lambda: SqliteBudgets.open(path)
