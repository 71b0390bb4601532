"""The statements of both stores. Pure. Written with `?`; PostgreSQL takes `%s`."""

from __future__ import annotations

from typing import Any

from serving.batch.base import PAGE_MAX, TRIMMED_MAX, Page, encode_batch, encode_file
from serving.batch.values import Batch, File, State

PUT_FILE = (
    "INSERT INTO batch_files (id, tenant, owner, end_user, purpose, created_ms, expires_ms, size,"
    " is_whole, facts) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET"
    " size = excluded.size, is_whole = excluded.is_whole, facts = excluded.facts"
)
PUT_PIECE = (
    "INSERT INTO batch_pieces (file_id, number, data) VALUES (?, ?, ?)"
    " ON CONFLICT (file_id, number) DO UPDATE SET data = excluded.data"
)
PIECE = "SELECT data FROM batch_pieces WHERE file_id = ? AND number = ?"
FILE = "SELECT facts FROM batch_files WHERE id = ? AND tenant = ? AND is_whole = 1"
KEPT = "UPDATE batch_files SET is_whole = is_whole WHERE id = ?"
"""Locks the row: what comes in and its removal cannot pass each other."""
DROP_FILE = "DELETE FROM batch_files WHERE id = ? AND tenant = ?"
DROP_PIECES = "DELETE FROM batch_pieces WHERE file_id = ?"
USED = "SELECT count(*), coalesce(sum(size), 0) FROM batch_files WHERE tenant = ?"
OPEN = "SELECT facts FROM batches WHERE tenant = ? AND is_open = 1"
OPEN_COUNT = "SELECT count(*) FROM batches WHERE tenant = ? AND is_open = 1"
ADD_BATCH = (
    "INSERT INTO batches (id, tenant, owner, end_user, created_ms, is_open, facts)"
    " VALUES (?, ?, ?, ?, ?, 1, ?) ON CONFLICT (id) DO NOTHING"
)
BATCH = "SELECT facts, cancel_ms FROM batches WHERE id = ? AND tenant = ?"
CANCEL = (
    "UPDATE batches SET cancel_ms = ? WHERE id = ? AND tenant = ? AND is_open = 1 AND cancel_ms = 0"
)
_SINCE = "CASE WHEN b.lease_ms > b.created_ms THEN b.lease_ms ELSE b.created_ms END"
"""Since when a batch that nobody holds waits: one that was given up waits behind the others."""
CLAIM = (
    "UPDATE batches SET holder = ?, lease_ms = ? WHERE id IN (SELECT id FROM (SELECT b.id,"  # noqa: S608
    f" {_SINCE} AS since_ms, coalesce(h.held, 0) + row_number() OVER (PARTITION BY b.tenant"
    f" ORDER BY {_SINCE}, b.id) AS turn FROM batches b LEFT JOIN (SELECT tenant, count(*) AS held"
    " FROM batches WHERE is_open = 1 AND holder = ? AND lease_ms > ? GROUP BY tenant) h"
    " ON h.tenant = b.tenant WHERE b.is_open = 1 AND b.lease_ms <= ?) w"
    " ORDER BY turn, since_ms, id LIMIT ?) AND lease_ms <= ? RETURNING facts, cancel_ms"
)
"""Asked twice: of two who claim at once PostgreSQL lets the second look again at what it updates,
not at what it selected."""
WAITING = "SELECT tenant, count(*) FROM batches WHERE is_open = 1 AND lease_ms <= ? GROUP BY tenant"
GIVE_UP = "UPDATE batches SET lease_ms = ?, holder = '' WHERE id = ? AND holder = ?"
RENEW = (
    "UPDATE batches SET lease_ms = ? WHERE id = ? AND holder = ? AND is_open = 1"
    " RETURNING cancel_ms"
)
RELEASE = "UPDATE batches SET lease_ms = 0, holder = '' WHERE holder = ?"
SAVE = "UPDATE batches SET is_open = ?, facts = ? WHERE id = ? AND holder = ?"
HELD = "UPDATE batches SET lease_ms = lease_ms WHERE id = ? AND holder = ?"
"""Locks the row: a write of an owner and its loss cannot pass each other."""
PUT_LINE = (
    "INSERT INTO batch_lines (batch_id, number, custom_id, state, run, data)"  # noqa: S608
    f" VALUES (?, ?, ?, {State.WAITING:d}, 0, ?) ON CONFLICT (batch_id, number) DO UPDATE SET"
    " custom_id = excluded.custom_id, state = excluded.state, data = excluded.data"
)
TAKE = (
    f"UPDATE batch_lines SET state = {State.RUNNING:d}, run = run + 1"  # noqa: S608
    " WHERE batch_id = ? AND number IN (SELECT number FROM batch_lines"
    f" WHERE batch_id = ? AND state = {State.WAITING:d} ORDER BY number LIMIT ?)"
    " RETURNING number, custom_id, run, data, EXISTS (SELECT 1 FROM batch_home AS h"
    " WHERE h.batch_id = batch_lines.batch_id AND h.number = batch_lines.number)"
)
BACK = (
    f"UPDATE batch_lines SET state = {State.WAITING:d}"  # noqa: S608 - our own words
    f" WHERE batch_id = ? AND state = {State.RUNNING:d}"
)
BACK_ONE = f"{BACK} AND number = ?"
END_LINE = "UPDATE batch_lines SET state = ?, data = ? WHERE batch_id = ? AND number = ?"
RESULTS = (
    "SELECT number, custom_id, state, run,"  # noqa: S608 - our own words
    f" CASE WHEN state >= {State.DONE:d} THEN data END FROM batch_lines"
    " WHERE batch_id = ? AND number > ? ORDER BY number LIMIT ?"
)
DROP_LINES = "DELETE FROM batch_lines WHERE batch_id = ?"
KEEP_HOME = (
    "INSERT INTO batch_home (batch_id, number) VALUES (?, ?)"
    " ON CONFLICT (batch_id, number) DO NOTHING"
)
DROP_HOME = "DELETE FROM batch_home WHERE batch_id = ?"
DROP_BATCH = "DELETE FROM batches WHERE id = ?"
FORGET = (
    "SELECT id FROM batches WHERE tenant = ? AND is_open = 0"  # noqa: S608 - our own words
    f" ORDER BY created_ms DESC, id DESC LIMIT {TRIMMED_MAX} OFFSET ?"
)
UPLOAD_MS = 86_400_000
"""A file that is not whole after a day never will be."""
OLD_FILES = (
    "SELECT id FROM batch_files WHERE expires_ms < ? OR (is_whole = 0"  # noqa: S608
    " AND created_ms < ?)"
    f" ORDER BY expires_ms LIMIT {TRIMMED_MAX}"
)
OLD_BATCHES = (
    "SELECT id FROM batches WHERE is_open = 0 AND created_ms < ?"  # noqa: S608
    f" ORDER BY created_ms LIMIT {TRIMMED_MAX}"
)
DROP_ANY_FILE = "DELETE FROM batch_files WHERE id = ?"


def late(expires_ms: str) -> str:
    """The statement that takes batches whose time is over; `expires_ms` reads a batch's end."""
    free = "(lease_ms <= ? OR holder = '')"
    return (
        "UPDATE batches SET holder = ?, lease_ms = ? WHERE id IN (SELECT id FROM batches"  # noqa: S608
        f" WHERE is_open = 1 AND {free} AND (cancel_ms > 0 OR {expires_ms} <= ?)"
        f" ORDER BY created_ms, id LIMIT ?) AND {free} RETURNING facts, cancel_ms"
    )


def counts_of(count: int) -> str:
    """Lines by state of so many batches."""
    marks = ", ".join("?" * count)
    return (
        "SELECT batch_id, state, count(*) FROM batch_lines"  # noqa: S608 - marks only
        f" WHERE batch_id IN ({marks}) GROUP BY batch_id, state"
    )


def put_file(file: File) -> tuple[Any, ...]:
    """The values of PUT_FILE."""
    return (
        file.id, file.tenant, _owner(file.tenant), file.end_user, str(file.purpose),
        file.created_ms, file.expires_ms, file.size, int(file.is_whole), encode_file(file),
    )  # fmt: skip


def add_batch(batch: Batch) -> tuple[Any, ...]:
    """The values of ADD_BATCH."""
    tenant = batch.tenant
    return (
        batch.id, tenant, _owner(tenant), batch.end_user, batch.created_ms, encode_batch(batch),
    )  # fmt: skip


def _owner(tenant: str) -> str:
    """Of a forwarder's customer, the forwarder."""
    return tenant.partition("/")[0]


def listing(table: str, tenant: str, page: Page) -> tuple[str, list[Any]]:
    """A page of a tenant's `batch_files` or `batches`, and its values."""
    order, beyond = ("ASC", ">") if page.is_oldest_first else ("DESC", "<")
    terms, values = ["tenant = ?"], [tenant]
    columns = "facts" if table == "batch_files" else "facts, cancel_ms"
    if table == "batch_files":
        terms.append("is_whole = 1")
        if page.purpose is not None:
            terms.append("purpose = ?")
            values.append(str(page.purpose))
    # Not every batch's id tells when it was made.
    by = "id" if table == "batch_files" else "created_ms, id"
    if page.after and table == "batch_files":
        terms.append(f"id {beyond} ?")
        values.append(page.after)
    elif page.after:
        terms.append(
            f"({by}) {beyond} (SELECT {by} FROM batches WHERE id = ? AND tenant = ?)"  # noqa: S608
        )
        values += [page.after, tenant]
    text = (
        f"SELECT {columns} FROM {table} WHERE {' AND '.join(terms)}"  # noqa: S608 - our own words
        f" ORDER BY {by.replace(',', f' {order},')} {order} LIMIT ?"
    )
    return text, [*values, max(1, min(page.limit, PAGE_MAX)) + 1]


def of_tenant(table: str, tenant: str, end_user: str) -> tuple[str, list[Any]]:
    """Ids of all of a tenant's and its customers', or of an end user's of theirs."""
    text, values = f"SELECT id FROM {table} WHERE (tenant = ? OR owner = ?)", [tenant, tenant]  # noqa: S608
    if end_user:
        return f"{text} AND end_user = ?", [*values, end_user]
    return text, values
