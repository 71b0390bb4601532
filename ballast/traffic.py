"""What the ledger says of each side that answered: own engines, cloud-hosted endpoints, APIs.

Reads, never writes; the same queries on SQLite and PostgreSQL, each over a bounded time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, TypeAlias

import msgspec

from ballast.stages import SIMULATED_PREFIX
from serving.finance.base import Database

Kind: TypeAlias = Literal["own", "hosted", "api", "simulated"]
HOSTED: Final = frozenset({"azure", "bedrock", "vertex"})
"""Providers that rent endpoints in a cloud of the customer's choice: the report's cloud hosting."""
OWN: Final = "own"
_OWN = "a.price_currency = ''"
_SIDES = f"""
    SELECT coalesce(a.target, ''), CASE WHEN {_OWN} THEN 1 ELSE 0 END, coalesce(a.currency, ''),
           count(*), count(*) FILTER (WHERE a.outcome = 'ok'),
           count(*) FILTER (WHERE a.outcome IN ('caller_error', 'disconnected', 'refused')),
           coalesce(sum(a.prompt_tokens), 0), coalesce(sum(a.completion_tokens), 0),
           coalesce(sum(a.micro), 0), min(a.ended_ms), max(a.ended_ms)
    FROM attempts a WHERE a.ended_ms >= :since_ms AND a.ended_ms < :until_ms
    GROUP BY a.target, a.price_currency, a.currency ORDER BY 4 DESC LIMIT 5000"""  # noqa: S608
_TIMED = (
    " FROM attempts a WHERE a.ended_ms >= :since_ms AND a.ended_ms < :until_ms"
    " AND a.outcome = 'ok' AND a.{column} >= 0 AND {side}"
)
_OF_PROVIDER = "substr(a.target, 1, length(:prefix)) = :prefix AND a.price_currency <> ''"
_CALLS = """
    SELECT count(*), count(*) FILTER (WHERE r.outcome = 'ok'),
           count(*) FILTER (WHERE r.outcome IN ('caller_error', 'disconnected', 'refused')),
           count(*) FILTER (WHERE r.attempts > 1),
           count(*) FILTER (WHERE r.attempts > 1 AND r.outcome = 'ok'),
           count(*) FILTER (WHERE r.reason LIKE 'overflow%'),
           count(*) FILTER (WHERE r.reason LIKE 'overflow%' AND r.outcome = 'ok'),
           coalesce(sum(r.prompt_tokens), 0), coalesce(sum(r.completion_tokens), 0),
           coalesce(sum(r.cached_tokens), 0), min(r.ended_ms), max(r.ended_ms)
    FROM requests r WHERE r.attempts > 0 AND r.ended_ms >= :since_ms AND r.ended_ms < :until_ms"""
_SURFACES = """
    SELECT r.surface, count(*), count(*) FILTER (WHERE r.outcome = 'ok')
    FROM requests r WHERE r.attempts > 0 AND r.ended_ms >= :since_ms AND r.ended_ms < :until_ms
    GROUP BY r.surface ORDER BY r.surface"""


class Times(msgspec.Struct, frozen=True):
    """Milliseconds of tries that ended well; None without any."""

    p50_ms: int | None = None
    p95_ms: int | None = None


class Side(msgspec.Struct, frozen=True):
    """Own engines together, or one provider."""

    name: str
    kind: Kind
    tries: int = 0
    ok: int = 0
    callers: int = 0
    """Tries that ended for a reason of the caller's: nobody's fault here."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    money: tuple[tuple[str, int], ...] = ()
    """Micro-units by currency."""
    first_ms: int = 0
    last_ms: int = 0
    first_token: Times = Times()
    whole: Times = Times()

    @property
    def tokens(self) -> int:
        """Processed."""
        return self.prompt_tokens + self.completion_tokens

    @property
    def ok_share(self) -> float | None:
        """Of the tries whose end was not the caller's doing; None without any."""
        judged = self.tries - self.callers
        return self.ok / judged if judged else None


class Calls(msgspec.Struct, frozen=True):
    """All requests that had a try."""

    requests: int = 0
    ok: int = 0
    callers: int = 0
    again: int = 0
    """With more than one try."""
    again_ok: int = 0
    overflowed: int = 0
    overflowed_ok: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    first_ms: int = 0
    last_ms: int = 0

    @property
    def ok_share(self) -> float | None:
        """As a side's."""
        judged = self.requests - self.callers
        return self.ok / judged if judged else None


def kind_of(name: str) -> Kind:
    """Of a provider's id."""
    if name.startswith(SIMULATED_PREFIX):
        return "simulated"
    return "hosted" if name in HOSTED else "api"


def sides(database: Database, since_ms: int, until_ms: int) -> list[Side]:
    """Everybody who answered in [since, until), own engines first, then by tries."""
    bounds = {"since_ms": since_ms, "until_ms": until_ms}
    found: dict[str, Side] = {}
    for row in database.rows(_SIDES, bounds):
        name = OWN if row[1] else str(row[0]).partition("/")[0]
        kind: Kind = "own" if row[1] else kind_of(name)
        found[name] = _with(found.get(name, Side(name, kind)), row)
    ordered = sorted(found.values(), key=lambda side: (side.kind != "own", -side.tries, side.name))
    return [_timed(database, side, bounds) for side in ordered]


def _with(side: Side, row: Sequence[object]) -> Side:
    currency = str(row[2])
    tries, ok, callers, prompt, completion, micro, first, last = (int(str(v)) for v in row[3:])
    money = dict(side.money)
    if currency and micro:
        money[currency] = money.get(currency, 0) + micro
    return Side(
        side.name, side.kind, side.tries + tries, side.ok + ok, side.callers + callers,
        side.prompt_tokens + prompt, side.completion_tokens + completion,
        tuple(sorted(money.items())), min(side.first_ms or first, first), max(side.last_ms, last),
    )  # fmt: skip


def _timed(database: Database, side: Side, bounds: dict[str, int]) -> Side:
    values: dict[str, object] = dict(bounds)
    condition = _OWN
    if side.kind != "own":
        condition = _OF_PROVIDER
        values["prefix"] = f"{side.name}/"
    streamed = f"{condition} AND a.is_stream"  # an answer as a whole has no first token
    first = _times(database, "a.first_token_ms", _TIMED.format(
        column="first_token_ms", side=streamed), values)  # fmt: skip
    whole = _times(database, "a.ended_ms - a.begun_ms", _TIMED.format(
        column="begun_ms", side=condition), values)  # fmt: skip
    return msgspec.structs.replace(side, first_token=first, whole=whole)


def _times(database: Database, what: str, clause: str, values: dict[str, object]) -> Times:
    """The median and the 95th of a hundred, read by their place in the order."""
    count = int(database.rows(f"SELECT count(*){clause}", values)[0][0])
    if not count:
        return Times()
    found = []
    for share in (0.5, 0.95):
        query = f"SELECT {what}{clause} ORDER BY 1 LIMIT 1 OFFSET :place"
        place = min(count - 1, int(count * share))
        found.append(int(database.rows(query, {**values, "place": place})[0][0]))
    return Times(*found)


def calls(database: Database, since_ms: int, until_ms: int) -> Calls:
    """Requests that ended in [since, until) and had a try."""
    (row,) = database.rows(_CALLS, {"since_ms": since_ms, "until_ms": until_ms})
    return Calls(*(int(value or 0) for value in row))


def surfaces(database: Database, since_ms: int, until_ms: int) -> list[tuple[str, int, int]]:
    """(surface, requests, those that ended well)."""
    rows = database.rows(_SURFACES, {"since_ms": since_ms, "until_ms": until_ms})
    return [(str(name), int(count), int(ok)) for name, count, ok in rows]
