"""What both stores do, in the same statements: only how work becomes a transaction differs."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Collection, Sequence
from typing import Any, Protocol, TypeVar

from serving.batch import sql
from serving.batch.base import (
    Lost,
    Page,
    Result,
    Used,
    decode_batch,
    decode_file,
    encode_batch,
)
from serving.batch.envelope import Request
from serving.batch.values import Batch, Counts, Ended, File, Line, Standing, State

_T = TypeVar("_T")


class Rows(Protocol):
    """What a statement gave."""

    @property
    def rowcount(self) -> int:
        """Rows touched."""

    def fetchone(self) -> Any:
        """The next row."""

    def fetchall(self) -> list[Any]:
        """All that are left."""


class Database(Protocol):
    """One open transaction."""

    def execute(self, text: str, values: Sequence[Any], /) -> Rows:
        """Run one statement."""

    def executemany(self, text: str, values: Sequence[Sequence[Any]], /) -> object:
        """Run one statement often."""


class Tables:
    """Implements `base.BatchStore` over transactions."""

    @abstractmethod
    def _do(self, work: Callable[[Database], _T]) -> _T:
        """Run work as one transaction; what it raises undoes it. Raises BatchesAway."""

    def _see(self, work: Callable[[Database], _T]) -> _T:
        """Run one question. Raises BatchesAway."""
        return self._do(work)

    # Files.

    def put_file(self, file: File) -> None:
        """See `base.BatchStore`."""
        self._do(lambda db: db.execute(sql.PUT_FILE, sql.put_file(file)))

    def add_piece(self, file_id: str, number: int, data: bytes) -> None:
        """See `base.BatchStore`."""
        self._do(lambda db: db.execute(sql.PUT_PIECE, (file_id, number, data)))

    def piece(self, file_id: str, number: int) -> bytes | None:
        """See `base.BatchStore`."""
        row = self._one(sql.PIECE, (file_id, number))
        return None if row is None else bytes(row[0])

    def file(self, tenant: str, file_id: str) -> File | None:
        """See `base.BatchStore`."""
        row = self._one(sql.FILE, (file_id, tenant))
        return None if row is None else decode_file(row[0])

    def files(self, tenant: str, page: Page) -> list[File]:
        """See `base.BatchStore`."""
        text, values = sql.listing("batch_files", tenant, page)
        rows = self._see(lambda db: db.execute(text, values).fetchall())
        return [decode_file(facts) for (facts,) in rows]

    def drop_file(self, tenant: str, file_id: str) -> bool:
        """See `base.BatchStore`."""

        def work(db: Database) -> bool:
            if not db.execute(sql.DROP_FILE, (file_id, tenant)).rowcount:
                return False
            db.execute(sql.DROP_PIECES, (file_id,))
            return True

        return self._do(work)

    def used(self, tenant: str) -> Used:
        """See `base.BatchStore`."""
        files, size = self._one(sql.USED, (tenant,))
        return Used(int(files), int(size))

    # Batches.

    def add_batch(self, batch: Batch, open_max: int) -> bool:
        """See `base.BatchStore`."""

        def work(db: Database) -> bool:
            if db.execute(sql.OPEN_COUNT, (batch.tenant,)).fetchone()[0] >= open_max:
                return False
            db.execute(sql.ADD_BATCH, sql.add_batch(batch))
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
        rows = self._see(lambda db: db.execute(sql.COUNTS, (batch_id,)).fetchall())
        found = {int(state): int(count) for state, count in rows}
        return Counts(*(found.get(state, 0) for state in State))

    def cancel(self, tenant: str, batch_id: str, now_ms: int) -> None:
        """See `base.BatchStore`."""
        self._do(lambda db: db.execute(sql.CANCEL, (now_ms, batch_id, tenant)))

    # For owners.

    def claim(self, owner: str, now_ms: int, until_ms: int, limit: int) -> list[Standing]:
        """See `base.BatchStore`."""
        values = (owner, until_ms, now_ms, limit, now_ms)
        rows = self._do(lambda db: db.execute(sql.CLAIM, values).fetchall())
        return sorted(map(_standing, rows), key=lambda s: (s.batch.created_ms, s.batch.id))

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

        self._own(owner, batch.id, work)

    def put_lines(self, owner: str, batch_id: str, lines: Sequence[Request]) -> None:
        """See `base.BatchStore`."""
        rows = [(batch_id, line.number, line.custom_id, line.body) for line in lines]
        self._own(owner, batch_id, lambda db: db.executemany(sql.PUT_LINE, rows))

    def take(self, owner: str, batch_id: str, count: int) -> list[Line]:
        """See `base.BatchStore`."""
        values = batch_id, batch_id, count
        rows = self._own(owner, batch_id, lambda db: db.execute(sql.TAKE, values).fetchall())
        return [Line(n, custom, run, bytes(data)) for n, custom, run, data in sorted(rows)]

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

    def results(self, batch_id: str, after: int, limit: int) -> list[Result]:
        """See `base.BatchStore`."""
        values = batch_id, after, limit
        rows = self._see(lambda db: db.execute(sql.RESULTS, values).fetchall())
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

    def _one(self, text: str, values: Sequence[Any]) -> Any:
        return self._see(lambda db: db.execute(text, values).fetchone())

    def _own(self, owner: str, batch_id: str, work: Callable[[Database], _T]) -> _T:
        """Work on a batch that is the owner's. Raises Lost."""

        def held(db: Database) -> _T:
            if not db.execute(sql.HELD, (batch_id, owner)).rowcount:
                raise Lost
            return work(db)

        return self._do(held)


def _standing(row: Sequence[Any]) -> Standing:
    return Standing(decode_batch(row[0]), int(row[1]))


def _drop(db: Database, files: Sequence[Any], batches: Sequence[Any]) -> int:
    for text in (sql.DROP_PIECES, sql.DROP_ANY_FILE):
        db.executemany(text, files)
    for text in (sql.DROP_LINES, sql.DROP_BATCH):
        db.executemany(text, batches)
    return len(files) + len(batches)
