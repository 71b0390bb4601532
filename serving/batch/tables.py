"""What both stores do, in the same statements: only how work becomes a transaction differs."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from serving.batch import sql
from serving.batch.base import ENDED_MAX, Lost, Page, Result, decode_batch, encode_batch
from serving.batch.envelope import Request
from serving.batch.file_tables import FileTables
from serving.batch.transactions import Database
from serving.batch.values import Batch, Counts, Ended, Line, Standing, State


class Tables(FileTables):
    """Implements `base.BatchStore` over transactions."""

    def add_batch(self, batch: Batch, open_max: int, ended_max: int = ENDED_MAX) -> bool:
        """See `base.BatchStore`."""

        def work(db: Database) -> bool:
            if db.execute(sql.OPEN_COUNT, (batch.tenant,)).fetchone()[0] >= open_max:
                return False
            db.execute(sql.ADD_BATCH, sql.add_batch(batch))
            _drop(db, [], db.execute(sql.FORGET, (batch.tenant, ended_max)).fetchall())
            return True

        return self._do(work)

    def batch(self, tenant: str, batch_id: str) -> Standing | None:
        """See `base.BatchStore`."""
        row = self._one(sql.BATCH, (batch_id, tenant))
        return None if row is None else _standing(row)

    def batches(self, tenant: str, page: Page) -> list[Standing]:
        """See `base.BatchStore`."""
        text, values = sql.listing("batches", tenant, page)
        return list(map(_standing, self._see(lambda db: db.execute(text, values).fetchall())))

    def counts(self, batch_id: str) -> Counts:
        """See `base.BatchStore`."""
        return self.counts_of([batch_id]).get(batch_id, Counts())

    def counts_of(self, batch_ids: Collection[str]) -> dict[str, Counts]:
        """See `base.BatchStore`."""
        if not batch_ids:
            return {}
        text = sql.counts_of(len(batch_ids))
        found: dict[str, list[int]] = {}
        for batch_id, state, count in self._see(
            lambda db: db.execute(text, list(batch_ids)).fetchall()
        ):
            found.setdefault(batch_id, [0] * len(State))[state] = int(count)
        return {batch_id: Counts(*counts) for batch_id, counts in found.items()}

    def cancel(self, tenant: str, batch_id: str, now_ms: int) -> None:
        """See `base.BatchStore`."""
        self._do(lambda db: db.execute(sql.CANCEL, (now_ms, batch_id, tenant)))

    # For owners.

    def claim(self, owner: str, now_ms: int, until_ms: int, limit: int) -> list[Standing]:
        """See `base.BatchStore`."""
        values = owner, until_ms, owner, now_ms, now_ms, limit, now_ms
        return _oldest_first(self._do(lambda db: db.execute(sql.CLAIM, values).fetchall()))

    def claim_late(self, owner: str, now_ms: int, until_ms: int, limit: int) -> list[Standing]:
        """See `base.BatchStore`."""
        values = owner, until_ms, now_ms, now_ms, limit, now_ms
        return _oldest_first(self._do(lambda db: db.execute(self.late, values).fetchall()))

    def waiting(self, now_ms: int) -> dict[str, int]:
        """See `base.BatchStore`."""
        rows = self._see(lambda db: db.execute(sql.WAITING, (now_ms,)).fetchall())
        return {tenant: int(count) for tenant, count in rows}

    def give_up(self, owner: str, batch_id: str, until_ms: int) -> None:
        """See `base.BatchStore`."""
        self._do(lambda db: db.execute(sql.GIVE_UP, (until_ms, batch_id, owner)))

    def renew(self, owner: str, batch_ids: Collection[str], until_ms: int) -> dict[str, int]:
        """See `base.BatchStore`."""

        def work(db: Database) -> dict[str, int]:
            found = {i: db.execute(sql.RENEW, (until_ms, i, owner)).fetchone() for i in batch_ids}
            return {batch_id: int(row[0]) for batch_id, row in found.items() if row is not None}

        return self._do(work)

    def release(self, owner: str) -> None:
        """See `base.BatchStore`."""
        self._do(lambda db: db.execute(sql.RELEASE, (owner,)))

    def save(self, owner: str, batch: Batch) -> None:
        """See `base.BatchStore`."""
        values = int(batch.is_open), encode_batch(batch), batch.id, owner
        if not self._do(lambda db: db.execute(sql.SAVE, values).rowcount):
            raise Lost

    def finish(self, owner: str, batch: Batch) -> None:
        """See `base.BatchStore`."""

        def work(db: Database) -> None:
            db.execute(sql.SAVE, (int(batch.is_open), encode_batch(batch), batch.id, owner))
            db.execute(sql.DROP_LINES, (batch.id,))
            db.execute(sql.DROP_HOME, (batch.id,))

        self._own(owner, batch.id, work)

    def put_lines(self, owner: str, batch_id: str, lines: Sequence[Request]) -> None:
        """See `base.BatchStore`."""
        rows = [(batch_id, line.number, line.custom_id, line.body) for line in lines]
        self._own(owner, batch_id, lambda db: db.executemany(sql.PUT_LINE, rows))

    def take(self, owner: str, batch_id: str, count: int) -> list[Line]:
        """See `base.BatchStore`."""
        values = batch_id, batch_id, count
        rows = self._own(owner, batch_id, lambda db: db.execute(sql.TAKE, values).fetchall())
        return [
            Line(n, custom, run, bytes(data), bool(is_home_only))
            for n, custom, run, data, is_home_only in sorted(rows)
        ]

    def keep_home(self, owner: str, batch_id: str, number: int) -> None:
        """See `base.BatchStore`."""
        self._own(owner, batch_id, lambda db: db.execute(sql.KEEP_HOME, (batch_id, number)))

    def give_back(self, owner: str, batch_id: str, numbers: Sequence[int] | None) -> None:
        """See `base.BatchStore`."""

        def work(db: Database) -> None:
            if numbers is None:
                db.execute(sql.BACK, (batch_id,))
            else:
                db.executemany(sql.BACK_ONE, [(batch_id, number) for number in numbers])

        self._own(owner, batch_id, work)

    def end_lines(self, owner: str, batch_id: str, ended: Sequence[Ended]) -> None:
        """See `base.BatchStore`."""
        rows = [(int(one.state), one.data, batch_id, one.number) for one in ended]
        self._own(owner, batch_id, lambda db: db.executemany(sql.END_LINE, rows))

    def results(self, owner: str, batch_id: str, after: int, limit: int) -> list[Result]:
        """See `base.BatchStore`."""
        values = batch_id, after, limit
        rows = self._own(owner, batch_id, lambda db: db.execute(sql.RESULTS, values).fetchall())
        return [Result(n, custom, state, run, bytes(d or b"")) for n, custom, state, run, d in rows]

    def trim(self, now_ms: int, before_ms: int) -> int:
        """See `base.BatchStore`."""

        def work(db: Database) -> int:
            old = db.execute(sql.OLD_FILES, (now_ms, now_ms - sql.UPLOAD_MS)).fetchall()
            ended = db.execute(sql.OLD_BATCHES, (before_ms,)).fetchall()
            return _drop(db, old, ended)

        return self._do(work)

    def erase(self, tenant: str, end_user: str = "") -> int:
        """See `base.BatchStore`."""

        def work(db: Database) -> int:
            found = [
                db.execute(*sql.of_tenant(table, tenant, end_user)).fetchall()
                for table in ("batch_files", "batches")
            ]
            return _drop(db, *found)

        return self._do(work)


def _oldest_first(rows: Sequence[Any]) -> list[Standing]:
    return sorted(map(_standing, rows), key=lambda s: (s.batch.created_ms, s.batch.id))


def _standing(row: Sequence[Any]) -> Standing:
    return Standing(decode_batch(row[0]), int(row[1]))


def _drop(db: Database, files: Sequence[Any], batches: Sequence[Any]) -> int:
    for text in (sql.DROP_PIECES, sql.DROP_ANY_FILE):
        db.executemany(text, files)
    for text in (sql.DROP_LINES, sql.DROP_HOME, sql.DROP_BATCH):
        db.executemany(text, batches)
    return len(files) + len(batches)
