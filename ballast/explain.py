"""`ballast explain`: one request from the gateway's memory and the ledger."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import quote

import msgspec

from ballast import books
from ballast.messages import Language, Said
from ballast.problem import ProblemError
from ballast.sentences import Told, sentences, under_way
from ballast.web import get_json
from serving.ledger.base import Attempt
from serving.ledger.store import place
from serving.rows import RequestEnd
from serving.settings import Settings

PREFIXES = ("chatcmpl-", "cmpl-")
"""vLLM puts these before our id in the `id` of an answer's body."""
RECENT_S = 10.0
"""Whoever asks about a request that ended longer ago need not wait for its row."""


class Found(NamedTuple):
    """What is known of one request."""

    request_id: str
    line: Mapping[str, Any] | None
    """The decision's fields: the gateway's log line, else the ledger's row; None while it runs."""
    attempts: tuple[Attempt, ...]
    is_booked: bool
    """Whether the ledger has all of it."""


def find(settings: Settings, asked: str) -> Found:
    """One request; the latest one if `asked` is empty. Raises ProblemError when nobody knows it."""
    request_id = _plain(asked)
    line, trouble = _remembered(settings, request_id)
    request_id = request_id or str((line or {}).get("request_id") or _latest(settings, trouble))
    age_s = time.time() - float((line or {}).get("at_ms", 0)) / 1000
    is_fresh = line is not None and age_s - line["total_ms"] / 1000 < RECENT_S
    try:
        booked = books.find(settings, request_id, books.BOOKED_S_MAX if is_fresh else 0.0)
    except ProblemError as problem:
        if line is None:
            raise trouble or _unknown(settings, request_id, problem) from None
        booked = books.Booked(None, ())
    if line is not None:
        line = {**line, "received_ms": line["at_ms"]}
    elif booked.row is not None:
        line = _line_of(booked.row)
    elif not booked.attempts:
        raise _unknown(settings, request_id, trouble)
    return Found(request_id, line, booked.attempts, booked.row is not None)


def tell(found: Found, language: Language = "en") -> Told:
    """In sentences."""
    if found.line is None:
        return under_way(found.request_id, found.attempts, language)
    booked = found.is_booked
    return sentences(found.line, found.attempts, is_booked=booked, language=language)


def as_json(found: Found) -> bytes:
    """The decision's fields, with `tries`, `cost_micro` by currency and `is_booked` beside them."""
    tries = [
        {
            "attempt": attempt.attempt,
            **{
                name: None if part is None else msgspec.structs.asdict(part)
                for name, part in (
                    ("begin", attempt.begin), ("intent", attempt.intent), ("end", attempt.end),
                )
            },
        }
        for attempt in found.attempts
    ]  # fmt: skip
    line = dict(found.line or {"request_id": found.request_id, "outcome": None})
    cost = books.charges(found.attempts)
    return msgspec.json.encode(
        line | {"tries": tries, "cost_micro": cost, "is_booked": found.is_booked}
    )


def _plain(asked: str) -> str:
    """The id as the gateway writes it."""
    text = asked.strip().lower()
    for prefix in PREFIXES:
        text = text.removeprefix(prefix)
    return text.replace("-", "")


def _remembered(
    settings: Settings, request_id: str
) -> tuple[Mapping[str, Any] | None, ProblemError | None]:
    """The line among the gateway's latest, and why it could not be asked."""
    gateway = f"http://{settings.gateway.ops_host}:{settings.gateway.ops_port}"
    query = f"request_id={quote(request_id)}" if request_id else "limit=1"
    try:
        found = get_json(f"{gateway}/decisions?{query}")
    except ProblemError as problem:
        return None, problem
    lines = [row for row in found.get("decisions", ()) if isinstance(row, dict)]
    return (lines[0] if lines else None), None


def _latest(settings: Settings, trouble: ProblemError | None) -> str:
    try:
        request_id = books.latest_id(settings)
    except ProblemError as problem:
        raise trouble or problem from None
    if request_id is None:
        raise ProblemError(Said("explain.none_asked"), Said("explain.ask"))
    return request_id


def _line_of(row: RequestEnd) -> dict[str, Any]:
    fields = msgspec.structs.asdict(row)
    usage = msgspec.structs.asdict(fields.pop("usage"))
    del fields["idempotency"]  # holds a hash of what was sent
    return fields | usage | {"total_ms": row.ended_ms - row.received_ms}


def _unknown(settings: Settings, request_id: str, trouble: ProblemError | None) -> ProblemError:
    text = Said("explain.unknown", request=repr(request_id), where=place(settings))
    if trouble is not None:
        text = Said("explain.and_trouble", unknown=text, trouble=trouble.said)
    return ProblemError(text, Said("explain.where_ids_stand"))
