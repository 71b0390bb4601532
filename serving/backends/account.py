"""An account with a third-party API, and how long we wait for it."""

from __future__ import annotations

from dataclasses import dataclass

from models.provider import Provider


@dataclass(frozen=True, slots=True)
class Account:
    """One provider switched on."""

    row: Provider
    base_url: str
    api_key: str
    paid_by: str = "cash"
    """What it pays with, for the books: `cash`, `credit` or `prepaid`."""

    def __repr__(self) -> str:
        return f"Account({self.row.id})"


@dataclass(frozen=True, slots=True)
class Timers:
    """Seconds."""

    connect_s: float = 5.0
    first_content_s: float = 30.0
    """To the first content; thinking models stream reasoning well before this."""
    stall_s: float = 60.0
    """Between two reads after it."""
