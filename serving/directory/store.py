"""Which store the settings name: the ledger's database, else a file in the state folder."""

from __future__ import annotations

from collections.abc import Callable

from serving.directory.base import DirectoryStore
from serving.directory.postgres import PostgresDirectory
from serving.directory.sqlite import SqliteDirectory
from serving.ledger.address import address
from serving.settings import Settings

FILE = "directory.sqlite"


def opener(settings: Settings) -> Callable[[], DirectoryStore]:
    """Opens the directory. Raises SettingsError at once, DirectoryAway when opened."""
    if settings.ledger.url:
        found = address(settings.ledger)
        return lambda: PostgresDirectory.at(found, settings.ledger)
    path = settings.state_dir / FILE
    return lambda: SqliteDirectory.open(path)
