"""The statements of both stores, and how a case becomes a row. Pure.

Written with `?`; PostgreSQL takes `%s`.
"""

from __future__ import annotations

from typing import Any

from serving.review.base import PAGE_MAX, Wanted, decode, encode
from serving.review.values import HELD, Case, Kind, State

ADD = (
    "INSERT INTO review_cases (id, kind, at_ms, tenant, owner, end_user, state, revision, facts,"
    " sealed) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING"
)
FIND = "SELECT facts, sealed FROM review_cases WHERE id = ?"
STEP = "UPDATE review_cases SET state = ?, revision = ?, facts = ? WHERE id = ? AND revision = ?"
ERASE = "DELETE FROM review_cases WHERE tenant = ? AND end_user = ?"
_HELD = ", ".join(f"'{state}'" for state in sorted(HELD))
_WAITS = f"(state = '{State.APPEALED}' OR (kind = '{Kind.COMPLAINT}' AND state IN ({_HELD})))"
OLD = f"DELETE FROM review_cases WHERE at_ms < ? AND NOT {_WAITS}"  # noqa: S608 - our own words
COUNT = "SELECT count(*) FROM review_cases"
SURPLUS = (
    "DELETE FROM review_cases WHERE id IN (SELECT id FROM review_cases"  # noqa: S608 - our own words
    f" WHERE kind = '{Kind.SAMPLE}' AND NOT {_WAITS} ORDER BY at_ms, id LIMIT ?)"
)
"""Kept are complaints, and samples under appeal."""


def added(case: Case, sealed: bytes) -> tuple[Any, ...]:
    """The values of ADD."""
    owner = case.tenant.partition("/")[0]
    return (
        case.id, str(case.kind), case.at_ms, case.tenant, owner, case.end_user, str(case.state),
        case.revision, encode(case), sealed,
    )  # fmt: skip


def stepped(case: Case) -> tuple[Any, ...]:
    """The values of STEP."""
    return str(case.state), case.revision, encode(case), case.id, case.revision - 1


def listing(wanted: Wanted) -> tuple[str, list[Any]]:
    """The statement of a listing, and its values."""
    at_ms, case_id = wanted.before
    terms, values = ["(at_ms < ? OR (at_ms = ? AND id < ?))"], [at_ms, at_ms, case_id]
    for column, value in (("kind", wanted.kind), ("state", wanted.state)):
        if value is not None:
            terms.append(f"{column} = ?")
            values.append(str(value))
    if wanted.tenants is not None:
        names = sorted(wanted.tenants) or [""]
        marks = ", ".join("?" * len(names))
        terms.append(f"(tenant IN ({marks}) OR owner IN ({marks}))")
        values += [*names, *names]
    text = (
        f"SELECT facts FROM review_cases WHERE {' AND '.join(terms)}"  # noqa: S608 - our own words
        " ORDER BY at_ms DESC, id DESC LIMIT ?"
    )
    return text, [*values, max(1, min(wanted.limit, PAGE_MAX))]


def case_of(facts: bytes) -> Case:
    """A row's case."""
    return decode(facts)
