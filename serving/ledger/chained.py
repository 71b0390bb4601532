"""Egress intents on a hash chain: in the transaction that stores them, each gets its number and the
hash that binds it to all before it.

One chain for each life of a journal, whose records come in order and from one process. What is
stored again (a crash between commit and position, a recovery) is on the chain already and stays.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from serving.directory.chain import GENESIS, Entry, link
from serving.rows import EgressIntent

Run = Callable[[str, Mapping[str, Any]], Sequence[tuple[Any, ...]]]
"""Runs one statement in the transaction; its rows."""
LAST = "SELECT number, hash FROM audit_chain WHERE writer = :writer ORDER BY number DESC LIMIT 1"
IS_THERE = "SELECT 1 FROM audit_chain WHERE request_id = :request_id AND attempt = :attempt"
APPEND = (
    "INSERT INTO audit_chain (writer, number, request_id, attempt, data, hash)"
    " VALUES (:writer, :number, :request_id, :attempt, :data, :hash)"
)
HEADS = (
    "SELECT c.writer, c.number, c.hash FROM audit_chain c JOIN"
    " (SELECT writer, max(number) AS number FROM audit_chain GROUP BY writer) AS last"
    " ON last.writer = c.writer AND last.number = c.number ORDER BY c.writer"
)
_ROW = ", ".join(f"i.{name}" for name in EgressIntent.__struct_fields__)
ENTRIES = (
    f"SELECT c.number, c.data, c.hash, {_ROW} FROM audit_chain c"  # noqa: S608 - our own words
    " LEFT JOIN intents i ON i.request_id = c.request_id AND i.attempt = c.attempt"
    " WHERE c.writer = :writer AND c.number > :after ORDER BY c.number LIMIT :limit"
)
"""With what the table that is listed from says of the same attempt."""
UNCHAINED = (
    "SELECT count(*), max(at_ms) FROM intents i WHERE NOT EXISTS (SELECT 1 FROM audit_chain c"
    " WHERE c.request_id = i.request_id AND c.attempt = i.attempt)"
)
encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(EgressIntent).decode


def append(run: Run, writer: str, intents: Sequence[EgressIntent]) -> None:
    """Put intents on a writer's chain. Three statements each; egress is what they are paid for."""
    if not intents:
        return
    rows = run(LAST, {"writer": writer})
    number, before = (int(rows[0][0]), bytes(rows[0][1])) if rows else (0, GENESIS)
    for intent in intents:
        key = {"request_id": intent.request_id, "attempt": intent.attempt}
        if run(IS_THERE, key):
            continue
        entry = next_entry(number, before, intent)
        number, before = entry.number, entry.hash
        values = {"number": number, "data": entry.data, "hash": before}
        run(APPEND, {"writer": writer} | key | values)


def next_entry(number: int, before: bytes, intent: EgressIntent) -> Entry:
    """The entry after one with that number and hash. Pure."""
    data = encode(intent)
    return Entry(number + 1, data, link(before, number + 1, data))


def intent_of(data: bytes) -> EgressIntent:
    """An entry's intent. Raises msgspec.DecodeError."""
    return _decode(data)
