"""Sums by hour, day and month, made from rows; and what is kept for how long.

Hours are UTC, days and months in the books' time zone (whole hours from UTC). A stretch is dropped
and made anew in one transaction, so doing it again changes nothing.
"""

from __future__ import annotations

from typing import NamedTuple

from models.worded import Worded
from serving.finance import months, statements
from serving.finance.base import Database, Work
from serving.finance.values import DAY_MS, HOUR_MS, FinanceError
from serving.ledger.costs import Answer, Question, to_answer
from serving.scorecard import statements as scoring

TRIM_ROWS = 5_000
"""Requests that one transaction deletes."""
STRETCH_MAX_MS = DAY_MS
"""Hours that one transaction makes anew."""
SCORED_MAX_MS = 4 * HOUR_MS
"""The same for scorecards: 0.8 s of SQLite at ten million attempts a month (0130)."""
_MARK, _SCORED = "rolled", "scored"


class Kept(NamedTuple):
    """How long: rows and hours in days, days and months in months of 31 days."""

    row_days: int = 90
    rollup_months: int = 37


class Trimmed(NamedTuple):
    """What went."""

    requests: int
    rollups: int
    burns: int


def roll(database: Database, since_ms: int, until_ms: int, offset_ms: int) -> None:
    """Make all sums anew that [since, until) touches. Raises FinanceError for a time zone that is
    not of whole hours, and before what was trimmed."""
    if offset_ms % HOUR_MS:
        raise FinanceError(Worded("finance.zone", "rollups need a time zone of whole hours"))
    _need_rows(database, since_ms)
    at_ms = since_ms - since_ms % HOUR_MS
    while at_ms < until_ms:
        end_ms = min(at_ms + STRETCH_MAX_MS, until_ms + -until_ms % HOUR_MS)
        values = {"since_ms": at_ms, "until_ms": end_ms}
        database.write(lambda at, values=values: _hours(at, values))  # type: ignore[misc]
        _score(database, at_ms, end_ms)
        at_ms = end_ms
    day_ms = (since_ms + offset_ms) // DAY_MS * DAY_MS - offset_ms
    while day_ms < until_ms:
        _sum_up(database, "day", day_ms, day_ms + DAY_MS)
        day_ms += DAY_MS
    for month in months.between(since_ms, until_ms, offset_ms):
        _sum_up(database, "month", *months.bounds(month, offset_ms))
    database.write(lambda at: _advance(at, since_ms, until_ms))


def rolled_ms(work: Database | Work) -> int:
    """Until when rows are in the sums; 0 before the first time."""
    return _mark(work, _MARK)


def scored_ms(work: Database | Work) -> int:
    """Since when attempts are in the sums for scorecards; 0 before the first time."""
    return _mark(work, _SCORED)


def trimmed_ms(work: Database | Work) -> int:
    """Until when rows were trimmed; 0 before the first time."""
    return _mark(work, "trimmed")


def costs(database: Database, question: Question, span: str) -> Answer:
    """The same answer as `ledger.base.Ledger.costs`, from the sums of a span."""
    keys = [statements.BY_ROLLUP[name] for name in question.by]
    columns = [*keys, *statements.ROLLUP_SUMS, "a.currency", "a.money_kind", "sum(a.micro)"]
    spent, count = len(columns), len(keys)
    group = ", ".join(str(place) for place in (*range(1, count + 1), spent - 2, spent - 1))
    order = ", ".join([f"{spent} DESC", f"{count + 3} DESC", *map(str, range(1, count + 1))])
    query = (
        f"SELECT {', '.join(columns)} FROM rollups a WHERE a.span = :span"  # noqa: S608 - our words
        " AND a.begin_ms >= :since_ms AND a.begin_ms < :until_ms"
        f" GROUP BY {group} ORDER BY {order} LIMIT :limit"
    )
    values = {
        "span": span, "since_ms": question.since_ms, "until_ms": question.until_ms,
        "offset_ms": question.offset_ms, "limit": question.rows_max + 1,
    }  # fmt: skip
    return to_answer(question, database.rows(query, values))


def trim(database: Database, now_ms: int, offset_ms: int, kept: Kept) -> Trimmed:
    """Delete what is older than is kept. Rows go only once they are in the sums; intents stay: they
    are evidence and hold no person. Burns go with the sums; the grants' counters stay."""
    rows_ms = min(now_ms - kept.row_days * DAY_MS, rolled_ms(database))
    rows_ms = (rows_ms + offset_ms) // DAY_MS * DAY_MS - offset_ms
    sums_ms = now_ms - kept.rollup_months * 31 * DAY_MS
    requests = 0
    while True:
        values = {"before_ms": rows_ms, "limit": TRIM_ROWS}
        gone = database.write(lambda at, values=values: _trim_rows(at, values))  # type: ignore[misc]
        requests += gone
        if gone < TRIM_ROWS:
            break

    def work(at: Work) -> Trimmed:
        at.run(
            statements.PUT_MARK, {"name": "trimmed", "at_ms": max(rows_ms, _mark(at, "trimmed"))}
        )
        old = {"before_ms": sums_ms}
        rollups = at.run(statements.TRIM_ROLLUPS, {"span": "hour", "before_ms": rows_ms})
        rollups += sum(
            at.run(statements.TRIM_ROLLUPS, {"span": span} | old) for span in ("day", "month")
        )
        at.run(scoring.TRIM, {"span": "hour", "before_ms": rows_ms})
        at.run(scoring.TRIM, {"span": "day"} | old)
        return Trimmed(requests, rollups, at.run(statements.TRIM_BURNS, old))

    return database.write(work)


def erase(database: Database, tenant: str, person: str) -> int:
    """Take one person's mark off all rows; money and tokens stay. Rows changed."""
    if not person or not tenant:
        raise FinanceError(Worded("finance.person", "name the tenant and the person's mark"))
    values = {"tenant": tenant, "person": person}
    return database.write(lambda at: sum(at.run(query, values) for query in statements.ERASE))


def _need_rows(work: Database | Work, since_ms: int) -> None:
    if since_ms < (gone_ms := trimmed_ms(work)):
        raise FinanceError(
            Worded(
                "finance.trimmed",
                "rows of before {day_of} are trimmed: their sums cannot be made anew",
                day_of=months.day_of(gone_ms, 0),
            )
        )


def _hours(at: Work, values: dict[str, int]) -> None:
    at.run(statements.DROP_ROLLUPS, {"span": "hour"} | values)
    at.run(statements.ROLL_HOUR, values)
    for query in statements.ROLL_BURNT:
        at.run(query, values)


def _score(database: Database, since_ms: int, until_ms: int) -> None:
    """In short transactions of their own: nobody else writes meanwhile."""
    for at_ms in range(since_ms, until_ms, SCORED_MAX_MS):
        values = {"since_ms": at_ms, "until_ms": min(at_ms + SCORED_MAX_MS, until_ms)}

        def work(at: Work, values: dict[str, int] = values) -> None:
            at.run(scoring.DROP, {"span": "hour"} | values)
            for query in scoring.HOUR:
                at.run(query, values)

        database.write(work)


def _sum_up(database: Database, span: str, begin_ms: int, end_ms: int) -> None:
    parts = "hour" if span == "day" else "day"
    bounds = {"since_ms": begin_ms, "until_ms": end_ms, "span": span}
    values = {"span": span, "parts": parts, "begin_ms": begin_ms, "end_ms": end_ms}

    def work(at: Work) -> None:
        at.run(statements.DROP_ROLLUPS, bounds)
        at.run(statements.ROLL_UP, values)
        if span == "day":
            at.run(scoring.DROP, bounds)
            at.run(scoring.ROLL_UP, values)

    database.write(work)


def _advance(at: Work, since_ms: int, until_ms: int) -> None:
    at.run(statements.PUT_MARK, {"name": _MARK, "at_ms": max(until_ms, _mark(at, _MARK))})
    scored_ms = _mark(at, _SCORED) or since_ms
    at.run(statements.PUT_MARK, {"name": _SCORED, "at_ms": min(since_ms, scored_ms)})


def _mark(work: Database | Work, name: str) -> int:
    rows = work.rows(statements.MARK, {"name": name})
    return int(rows[0][0]) if rows else 0


def _trim_rows(at: Work, values: dict[str, int]) -> int:
    return [at.run(query, values) for query in statements.TRIM_RAW][-1]
