"""Files in both stores, in the same statements."""

from __future__ import annotations

from collections.abc import Callable

from serving.batch import sql
from serving.batch.base import Lost, Page, Piece, Used, decode_batch, decode_file
from serving.batch.transactions import Database, Transactions
from serving.batch.values import File


class FileTables(Transactions):
    """Implements `base.BatchStore`'s part about files."""

    def put_file(self, file: File) -> None:
        """See `base.BatchStore`."""
        self._do(lambda db: db.execute(sql.PUT_FILE, sql.put_file(file)))

    def add_piece(self, file_id: str, number: int, data: bytes) -> None:
        """See `base.BatchStore`."""
        self._kept(file_id, lambda db: db.execute(sql.PUT_PIECE, (file_id, number, data)))

    def end_file(self, file: File) -> None:
        """See `base.BatchStore`."""
        self._kept(file.id, lambda db: db.execute(sql.PUT_FILE, sql.put_file(file)))

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

        def work(db: Database) -> Used:
            files, size = db.execute(sql.USED, (tenant,)).fetchone()
            rows = db.execute(sql.OPEN, (tenant,)).fetchall()
            inputs = [decode_batch(facts).input_size for (facts,) in rows]
            return Used(int(files) + len(inputs), int(size) + sum(inputs))

        return self._see(work)

    def put_output(self, owner: str, batch_id: str, file: File) -> None:
        """See `base.BatchStore`."""
        self._own(owner, batch_id, lambda db: db.execute(sql.PUT_FILE, sql.put_file(file)))

    def add_output(self, owner: str, batch_id: str, piece: Piece) -> None:
        """See `base.BatchStore`."""
        self._own(owner, batch_id, lambda db: db.execute(sql.PUT_PIECE, piece))

    def _kept(self, file_id: str, work: Callable[[Database], object]) -> None:
        """Work on a file that is there. Raises Lost."""

        def held(db: Database) -> None:
            if not db.execute(sql.KEPT, (file_id,)).rowcount:
                raise Lost
            work(db)

        self._do(held)
