"""Which store the settings name."""

from __future__ import annotations

from collections.abc import Callable

from serving.batch.base import BatchStore
from serving.batch.postgres import PostgresBatches
from serving.batch.sqlite import SqliteBatches
from serving.ledger.address import address
from serving.settings import Settings

FILE = "batches.sqlite"


def opener(settings: Settings) -> Callable[[], BatchStore]:
    """Opens the store. Raises SettingsError at once, BatchesAway when opened."""
    if settings.ledger.url:
        found = address(settings.ledger)
        return lambda: PostgresBatches.at(found, settings.ledger)
    path = settings.state_dir / FILE
    return lambda: SqliteBatches.open(path)
