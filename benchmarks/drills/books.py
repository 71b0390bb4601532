"""Whether client, ledger and audit tell the same of every request.

Reading is I/O, judging is pure.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence

from benchmarks.drills.ends import as_booked, as_seen
from benchmarks.drills.ground import Ground
from benchmarks.drills.values import (
    CLEAR,
    CLOSED,
    HUNG,
    LEFT,
    MODEL,
    REFUSED,
    TOLD_CUT,
    UNREACHED,
    WHOLE,
    Books,
    Evidence,
    Finding,
    Told,
)
from models.worded import Worded, joined
from serving.audit.verify import differing
from serving.directory.chain import breaks
from serving.errors import TOLD
from serving.ledger.base import Attempt, Ledger
from serving.ledger.store import opener
from serving.rows import RequestEnd
from serving.settings import Settings

SETTLE_S_MAX = 30.0
ROWS_MAX = 100_000
ENDED = "every accepted request ended in an answer or a clear error"
TEXT = "no answer was changed, repeated or skipped"
AGREED = "client and ledger agree row by row"
GONE = "ledger, audit and providers agree about what left"
ALWAYS = (ENDED, TEXT, AGREED, GONE)
SHOWN = 3
"""Of differences, in a report's line."""
_SILENT = frozenset((CLOSED, HUNG, LEFT, UNREACHED))
_OUTCOMES = {
    WHOLE: {"ok"},
    TOLD_CUT: {"cut", "timeout", "upstream_error", "content_filter"},
}


def read(ground: Ground, told: Sequence[Told]) -> Books:
    """The books, once they are settled, or as they are when that does not come."""
    expected = {one.request_id for one in told if one.request_id}
    ledgers = [ground.settings(0)]
    if ground.postgres is None:
        ledgers = [ground.settings(number) for number in range(ground.topology.gateways)]
    found = [settled(settings, expected) for settings in ledgers]
    knocks = {name: ground.count(name) for name in ground.providers}
    rows: dict[str, RequestEnd] = {}
    attempts: dict[str, Sequence[Attempt]] = {}
    chained: list[tuple[str, int]] = []
    for one in found:
        rows |= one.rows
        attempts |= one.attempts
        chained += one.chained
    return Books(
        rows, attempts, [v for one in found for v in one.violations], chained,
        [fault for one in found for fault in one.chain_faults],
        sum(one.unchained for one in found), knocks,
    )  # fmt: skip


def settled(settings: Settings, expected: set[str]) -> Books:
    """Of one ledger, once it has these requests and nothing is open, or as it is after a while."""
    ledger = opener(settings)()
    try:
        until_s = time.monotonic() + SETTLE_S_MAX
        while time.monotonic() < until_s:
            ids = {row.request_id for row in ledger.requests(ROWS_MAX)}
            is_there = expected <= ids and not ledger.law() and not ledger.open_attempts()
            if is_there and ledger.unchained()[0] == 0:
                break
            time.sleep(0.2)
        return _read(ledger)
    finally:
        ledger.close()


def _read(ledger: Ledger) -> Books:
    rows = {row.request_id: row for row in ledger.requests(ROWS_MAX)}
    chained: list[tuple[str, int]] = []
    faults: list[str] = []
    for head in ledger.heads():
        page = ledger.chained(head.writer, 0, ROWS_MAX)
        faults += [f"{head.writer}: {one}" for one in breaks([link.entry for link in page])]
        faults += [f"{head.writer}: {one}" for one in differing(page, head.writer)]
        if len(page) != head.number:
            faults.append(f"{head.writer}: {len(page)} entries, its head says {head.number}")
        chained += [(one.row.request_id, one.row.attempt) for one in page if one.row is not None]
    attempts = {request_id: ledger.attempts(request_id) for request_id in rows}
    return Books(rows, attempts, ledger.law(), chained, faults, ledger.unchained()[0], {})


def always(evidence: Evidence) -> list[Finding]:
    """What must hold after every drill, whatever it was."""
    told, books = evidence.told, evidence.books
    laws = [f"{v.rule} {v.request_id} {v.attempt}" for v in books.violations]
    whole = sum(one.end == WHOLE for one in told)
    return [
        _finding(ENDED, _unclear(evidence),
                 Worded("found.requests", "{count} requests", count=len(told))),
        _finding(TEXT,
                 [f"{one.wave}: {one.request_id}" for one in told if not one.text_is_right],
                 Worded("found.answers", "{count} whole answers", count=whole)),
        _finding(AGREED, [*_rows(evidence), *laws],
                 Worded("found.rows", "{count} rows", count=len(books.rows))),
        _finding(GONE, _left(books),
                 Worded("found.intents", "{count} intents", count=len(books.chained))),
    ]  # fmt: skip


def _finding(words: str, faults: Sequence[str], what: str) -> Finding:
    found = what
    if faults:
        found = Worded("found.wrong", "{count} not, as {faults}", count=len(faults),
                       faults=joined(faults[:SHOWN]))  # fmt: skip
    return Finding(words, found, not faults)


def _unclear(evidence: Evidence) -> list[str]:
    """Requests that ended in silence, but for those whose gateway was killed under them. Where
    nobody listened, nothing was accepted."""
    return [
        Worded(
            "found.unclear",
            "{wave} at {at} s: {end} {words}",
            wave=one.wave,
            at=f"{one.sent_s:.2f}",
            end=as_seen(one.end),
            words=one.words,
        )
        for one in evidence.told
        if one.end not in CLEAR
        and one.end not in (UNREACHED, LEFT)
        and not _died_with(one, evidence)
    ]


def _died_with(one: Told, evidence: Evidence) -> bool:
    if one.end != CLOSED:
        return False
    return any(
        one.gateway == gateway and one.sent_s <= until_s and one.done_s >= from_s
        for gateway, from_s, until_s in evidence.killed
    )


def _rows(evidence: Evidence) -> Iterator[str]:
    """Differences between what clients were told and the rows."""
    rows = evidence.books.rows
    by_id = {one.request_id: one for one in evidence.told if one.request_id}
    counted = Counter(one.request_id for one in evidence.told if one.request_id)
    yield from (
        Worded("found.twice", "{name}: told {times} times", name=name, times=times)
        for name, times in counted.items() if times > 1
    )  # fmt: skip
    for name, one in by_id.items():
        row = rows.get(name)
        if row is None:
            yield Worded("found.no_row", "{name} ({end} {status} {code}): no row", name=name,
                         end=as_seen(one.end), status=one.status, code=one.code)  # fmt: skip
        elif what := _difference(one, row):
            yield Worded("found.differs", "{name}: {what}", name=name, what=what)
    # A client that heard no head knows no id: there may be as many rows that nobody claims.
    # One that sent its request again on a new connection knows the second alone, and the first
    # ended with the gateway that had it.
    unclaimed = len(rows.keys() - by_id.keys())
    silent = sum(not one.request_id and one.end in _SILENT for one in evidence.told)
    lost = sum(rows[name].outcome == "gateway_lost" for name in rows.keys() - by_id.keys())
    if unclaimed > silent + min(evidence.resent, lost):
        template = "{rows} rows that no client knows of, and {silent} clients heard nothing"
        yield Worded("found.unclaimed", template, rows=unclaimed, silent=silent)


def _difference(one: Told, row: RequestEnd) -> str:
    template = "the client saw {seen}, the row says {row}"
    wanted = _OUTCOMES.get(one.end)
    if wanted is not None and row.outcome not in wanted:
        return Worded("found.saw", template, seen=as_seen(one.end), row=as_booked(row.outcome))
    if one.end == REFUSED and (
        row.outcome == "ok" or (row.status, TOLD.get(row.code, row.code)) != (one.status, one.code)
    ):
        of_client, of_row = f"{one.status} {one.code}", f"{row.status} {row.code}"
        return Worded("found.saw", template, seen=of_client, row=of_row)
    if row.model != MODEL or row.key_id != one.key:
        template = "sent by {key} for {model}, the row says {row}"
        of_row = f"{row.key_id}, {row.model}"
        return Worded("found.sent_by", template, key=one.key, model=MODEL, row=of_row)
    usage = row.usage
    said = (one.prompt_tokens, one.completion_tokens)
    if one.end == WHOLE and said != (usage.prompt_tokens, usage.completion_tokens):
        template = "the client was told usage {said}, the row says {row}"
        return Worded("found.usage", template, said=str(said), row=str(usage))
    return ""


def _left(books: Books) -> list[str]:
    """Every attempt that left has one intent, chained; nothing else left; no provider saw more."""
    faults: list[str] = list(books.chain_faults)
    if books.unchained:
        faults.append(
            Worded("found.unchained", "{count} intents on no chain", count=books.unchained)
        )
    faults += [
        Worded("found.chained", "{what} is chained {times} times", what=str(one), times=times)
        for one, times in Counter(books.chained).items() if times > 1
    ]  # fmt: skip
    chained = set(books.chained)
    intents: Counter[str] = Counter()
    answers: Counter[str] = Counter()
    for request_id, attempts in books.attempts.items():
        for attempt in attempts:
            is_egress = attempt.begin is not None and attempt.begin.is_egress
            if is_egress and (
                attempt.intent is None or (request_id, attempt.attempt) not in chained
            ):
                template = "{name} left without an intent on a chain"
                faults.append(Worded("found.no_intent", template, name=request_id))
            if attempt.intent is not None:
                intents[attempt.intent.provider] += 1
                is_answered = attempt.end is not None and attempt.end.outcome == "ok"
                answers[attempt.intent.provider] += is_answered
    for name, seen in books.knocks.items():
        if not answers[name] <= seen <= intents[name]:
            template = (
                "{name} saw {seen} requests, the books know {left} that left for it and "
                "{answered} that it answered"
            )
            faults.append(Worded("found.knocks", template, name=name, seen=seen,
                                 left=intents[name], answered=answers[name]))  # fmt: skip
    return faults
