"""Which store the settings name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from serving.ledger.address import address
from serving.ledger.base import Ledger
from serving.ledger.postgres import PostgresLedger
from serving.ledger.sqlite import SqliteLedger
from serving.settings import Settings

FILE = "ledger.sqlite"


def opener(settings: Settings) -> Callable[[], Ledger]:
    """Opens the ledger: in PostgreSQL where `ledger.url` says so, else a file in the state folder.

    Raises SettingsError at once, LedgerUnavailable when opened.
    """
    if settings.ledger.url:
        found = address(settings.ledger)
        return lambda: PostgresLedger.at(found, settings.ledger)
    path = sqlite_file(settings)
    return lambda: SqliteLedger.open(path)


def open_to_read(settings: Settings) -> Ledger:
    """The ledger for questions only; makes none. Raises SettingsError or LedgerUnavailable, that
    of PostgreSQL when it is first asked."""
    if settings.ledger.url:
        return PostgresLedger.to_read(address(settings.ledger, is_read_only=True), settings.ledger)
    return SqliteLedger.open_to_read(sqlite_file(settings))


def place(settings: Settings) -> str:
    """Where the ledger is, for messages. Raises SettingsError."""
    return address(settings.ledger).name if settings.ledger.url else str(sqlite_file(settings))


def sqlite_file(settings: Settings) -> Path:
    """Where the embedded store is."""
    return settings.state_dir.expanduser() / FILE
