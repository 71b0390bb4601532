"""Other ways to bring rows into PostgreSQL, measured beside the one the ledger takes (0107)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import psycopg

from serving.ledger import sql, writes
from serving.ledger.sorting import sort
from serving.rows import Record

_ATTEMPT = ["life", *sql.KEY, *sql.BEGIN, *sql.END]
_REQUEST = ["request_id", *sql.REQUEST]
_BOOLEAN = {"is_egress", "is_estimated"}
_TABLES: tuple[tuple[str, list[str], list[str]], ...] = (
    ("attempts", _ATTEMPT, list(sql.KEY)),
    ("requests", _REQUEST, ["request_id"]),
)
Put = Callable[[psycopg.Connection[Any], Sequence[Record]], None]


def rows(records: Sequence[Record], life: str) -> dict[str, list[Sequence[Any]]]:
    """Whole attempts and requests as parameters, made as for SQLite. Intents are left out, which
    favours these ways a little."""
    found = sort(records)
    width = len(_REQUEST)
    flat = writes._requests(found.requests)
    return {
        "attempts": [writes._attempts([pair], life) for pair in found.whole],
        "requests": [flat[at : at + width] for at in range(0, len(flat), width)],
    }


def copy(db: psycopg.Connection[Any], records: Sequence[Record]) -> None:
    """COPY into a temporary table, then one INSERT from it."""
    given = rows(records, "life")
    with db.transaction(), db.cursor() as cursor:
        for table, columns, keys in _TABLES:
            names = ", ".join(columns)
            make = f"CREATE TEMP TABLE new_{table} ON COMMIT DROP AS SELECT {names} FROM {table}"
            cursor.execute(f"{make} WITH NO DATA".encode())
            with cursor.copy(f"COPY new_{table} FROM STDIN".encode()) as sink:
                for row in given[table]:
                    sink.write_row(row)
            source = f"SELECT {names} FROM new_{table}"
            cursor.execute(_upsert(table, columns, keys, source))


def many(db: psycopg.Connection[Any], records: Sequence[Record]) -> None:
    """`executemany`: one prepared statement a row, pipelined by psycopg."""
    given = rows(records, "life")
    with db.transaction(), db.cursor() as cursor:
        for table, columns, keys in _TABLES:
            marks = ", ".join("%s::int::boolean" if c in _BOOLEAN else "%s" for c in columns)
            cursor.executemany(_upsert(table, columns, keys, f"VALUES ({marks})"), given[table])


def _upsert(table: str, columns: Sequence[str], keys: Sequence[str], source: str) -> bytes:
    sets = ", ".join(f"{name} = excluded.{name}" for name in columns if name not in keys)
    return (
        f"INSERT INTO {table} ({', '.join(columns)}) {source}"
        f" ON CONFLICT ({', '.join(keys)}) DO UPDATE SET {sets}"
    ).encode()


WAYS: dict[str, Put] = {"COPY, temporary table": copy, "executemany": many}
