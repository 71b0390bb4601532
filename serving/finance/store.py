"""Which database holds the finance books: the ledger's."""

from __future__ import annotations

from collections.abc import Callable

from serving.finance.base import Database
from serving.finance.postgres import PostgresDatabase
from serving.finance.sqlite import SqliteDatabase
from serving.ledger.address import address
from serving.ledger.store import sqlite_file
from serving.settings import Settings


def opener(settings: Settings) -> Callable[[], Database]:
    """Opens the books. Raises SettingsError at once, LedgerUnavailable when opened or asked."""
    if settings.ledger.url:
        found = address(settings.ledger)
        return lambda: PostgresDatabase.at(found, settings.ledger)
    path = sqlite_file(settings)
    return lambda: SqliteDatabase.open(path)


def open_to_read(settings: Settings) -> Database:
    """The books for questions only; makes none. Raises SettingsError or LedgerUnavailable."""
    if settings.ledger.url:
        return PostgresDatabase.to_read(address(settings.ledger, is_read_only=True))
    return SqliteDatabase.open_to_read(sqlite_file(settings))
