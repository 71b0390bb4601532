"""Questions about what left the premises, heads of chains, signed checkpoints. Values only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from serving.directory.chain import Entry
from serving.records import Sensitivity
from serving.rows import EgressIntent

DIRECTORY = "directory"
"""The writer of the directory's history."""
PAGE_MAX = 10_000
_LATER = (
    "(i.at_ms > :at_ms OR (i.at_ms = :at_ms AND (i.request_id > :request_id"
    " OR (i.request_id = :request_id AND i.attempt > :attempt))))"
)
_CALLED_BY = (
    "EXISTS (SELECT 1 FROM attempts k WHERE k.request_id = i.request_id"
    " AND k.attempt = i.attempt AND k.key_id = :key)"
)
CLASSES = tuple(level.name.lower() for level in Sensitivity)


class Head(NamedTuple):
    """The last entry of one writer's chain."""

    writer: str
    """A journal's life, or `directory`."""
    number: int
    hash: bytes


class Chained(NamedTuple):
    """An entry of a journal's chain, and its row in the table that listings come from."""

    entry: Entry
    row: EgressIntent | None


class Question(NamedTuple):
    """Which egress to list; empty is any. In order of time."""

    since_ms: int = 0
    until_ms: int = 1 << 62
    tenant: str = ""
    """With its customers."""
    sensitivity: int | None = None
    jurisdiction: str = ""
    provider: str = ""
    after: tuple[int, str, int] = (-1, "", 0)
    """Time, request and attempt of the last one seen."""
    limit: int = 1000
    key: str = ""
    """Id of the API key that called; known as long as the attempt's row is kept."""
    after_key: str = ""
    """For `keys_asked`: the last id seen."""


class Signed(msgspec.Struct, frozen=True):
    """A checkpoint: heads that moved since the one before, signed together with that one's mark."""

    number: int
    """From 1, without gaps."""
    at_ms: int
    heads: tuple[tuple[str, int, str], ...]
    """Writer, number, hash in hexadecimal."""
    before: str
    """SHA-256 of the checkpoint before, as it stands at the anchor; empty for the first."""
    key: str
    """Which public key, by its fingerprint."""
    signature: str = ""
    """Ed25519 over the rest, hexadecimal."""


class Egress(NamedTuple):
    """One row of a listing."""

    intent: EgressIntent

    @property
    def told(self) -> dict[str, Any]:
        """As JSON shows it."""
        found: dict[str, Any] = {
            name: getattr(self.intent, name) for name in EgressIntent.__struct_fields__
        }
        found["class"] = class_name(self.intent.sensitivity)
        del found["sensitivity"]
        return found


def class_name(sensitivity: int) -> str:
    """`personal`, ...; a number nobody knows stays one."""
    is_known = 0 <= sensitivity < len(CLASSES)
    return CLASSES[sensitivity] if is_known else f"class {sensitivity}"


def class_of(name: str) -> int:
    """The number of a class. Raises ValueError."""
    if name not in CLASSES:
        raise ValueError(f"no class {name!r}: {', '.join(CLASSES)}")
    return CLASSES.index(name)


def asked(question: Question) -> tuple[str, Mapping[str, Any]]:
    """The statement of a listing, in what both stores have in common, and its values."""
    where, values = _where(question)
    names = ", ".join(EgressIntent.__struct_fields__)
    text = (
        f"SELECT {names} FROM intents i WHERE {where}"  # noqa: S608 - our own words
        " ORDER BY at_ms, request_id, attempt LIMIT :limit"
    )
    return text, values


def keys_asked(question: Question) -> tuple[str, Mapping[str, Any]]:
    """The statement that finds the keys of such calls."""
    where, values = _where(question)
    text = (
        "SELECT DISTINCT key_id FROM attempts a WHERE key_id IS NOT NULL AND EXISTS"  # noqa: S608
        f" (SELECT 1 FROM intents i WHERE {where}"
        " AND i.request_id = a.request_id AND i.attempt = a.attempt) AND key_id > :after_key"
        " ORDER BY key_id LIMIT :limit"
    )
    return text, {**values, "after_key": question.after_key}


def _where(question: Question) -> tuple[str, dict[str, Any]]:
    at_ms, request_id, attempt = question.after
    terms = ["i.at_ms >= :since_ms", "i.at_ms < :until_ms", _LATER]
    values: dict[str, Any] = {
        "since_ms": question.since_ms, "until_ms": question.until_ms, "at_ms": at_ms,
        "request_id": request_id, "attempt": attempt,
        "limit": max(1, min(question.limit, PAGE_MAX)),
    }  # fmt: skip
    if question.tenant:
        # A prefix by comparison: `a/` to `a0` holds all customers, and no pattern's letters.
        terms.append("(i.tenant = :tenant OR (i.tenant > :lowest AND i.tenant < :highest))")
        values |= {"tenant": question.tenant, "lowest": f"{question.tenant}/",
                   "highest": f"{question.tenant}0"}  # fmt: skip
    for name in ("sensitivity", "jurisdiction", "provider"):
        value = getattr(question, name)
        if value not in (None, ""):
            terms.append(f"i.{name} = :{name}")
            values[name] = value
    if question.key:
        terms.append(_CALLED_BY)
        values["key"] = question.key
    return " AND ".join(terms), values
