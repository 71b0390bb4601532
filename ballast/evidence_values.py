"""What compliance evidence is made of. Values only; pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from ballast.messages import Said
from models.provider import Provider
from serving.settings import Settings


class Line(msgspec.Struct, frozen=True):
    """One fact with the place it was read from."""

    what: str | Said
    value: str | Said
    source: str
    """A setting's key, a table, a file or a command."""
    needs: Said | None = None
    """What a person must add; None: nothing."""


class Section(msgspec.Struct, frozen=True):
    """Lines of one theme."""

    id: str
    lines: tuple[Line, ...]


class WordList(msgspec.Struct, frozen=True):
    """One list in force."""

    name: str
    terms: int
    sha256: str
    changed: str
    """Day of its file."""


class Asked(msgspec.Struct, frozen=True):
    """The guard's answers to the questions."""

    refuse: int
    refused: int
    allow: int
    over_refused: tuple[str, ...]
    """Harmless ones that were refused."""
    passed: tuple[str, ...]
    """Of those to refuse, what was let through: names of lists, never the terms."""


class Own(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What only people know: `--facts FILE`."""

    filing: dict[str, str] = {}
    """Filing number by model or provider."""
    algorithm_filing: str = ""
    officer: str = ""
    """Who answers for compliance."""
    complaints_contact: str = ""
    reviewed: str = ""
    """Day and name of the last review by people."""


class Stamp(NamedTuple):
    """When a report was made, and what it replaces."""

    at: str = ""
    seal: str = ""
    """Name of the signature beside it; empty for a draft."""
    revision: int = 1
    replaces: str = ""
    """Name of the seal before; empty for the first."""
    digest: str = ""
    """SHA-256 of that seal."""
    why: str = ""
    """Why it was written again, in a person's words."""


class Facts(msgspec.Struct, frozen=True):
    """All that the sections are made from; a `fault` says why a part could not be read."""

    month: str
    settings: Settings
    rows: Mapping[str, Provider]
    own: Own
    lists: tuple[WordList, ...]
    lists_before: tuple[WordList, ...] | None
    """Of the report before; None: there is none."""
    asked: Asked | None
    asked_fault: str
    cases: Mapping[str, int] | None
    """`kind.state`: how many; None when they could not be read."""
    left: int
    abroad: int
    requests: int | None
    """None: rows of that month are no longer kept, so nobody can count them."""
    blocked: int
    audit: Mapping[str, Any]
    """`entries`, `checkpoints`, `faults`; or `fault`."""
    changes: Mapping[str, int] | None
    """What administrators did, by action; None when it could not be read."""
    tenants: tuple[tuple[str, str], ...] | None
    """Each with its residency, of settings and directory; None when that could not be read."""
