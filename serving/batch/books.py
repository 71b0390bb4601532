"""What a batch reads and writes in the store: its input into lines, its lines into files.

Each step may be done again from its beginning, by whoever takes the batch over.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

import msgspec

from serving.batch import envelope
from serving.batch.base import PIECE_BYTES, BatchesAway, BatchStore, Piece, Result
from serving.batch.checking import Checking
from serving.batch.desk import Desk
from serving.batch.planning import Ending
from serving.batch.settings import BatchSettings
from serving.batch.values import Batch, Counts, File, Line, Purpose, State

AWAY_S = 1.0
DAY_MS = 86_400_000
_PAGE_LINES = 50
"""Of answers read at once: one may be as long as its target liked."""
_T = TypeVar("_T")


class Books:
    """One batch's, for its owner. Waits while the store is away. Raises Lost."""

    def __init__(self, desk: Desk, owner: str, given: BatchSettings) -> None:
        self._desk = desk
        self._owner = owner
        self._given = given

    async def ask(self, question: Callable[[BatchStore], _T]) -> _T:
        """The store's answer, once it is there."""
        while True:
            try:
                return await self._desk.ask(question)
            except BatchesAway:
                await asyncio.sleep(AWAY_S)

    async def save(self, batch: Batch) -> None:
        """Store what has become of it."""
        await self.ask(lambda store: store.save(self._owner, batch))

    async def check(self, batch: Batch) -> Checking | None:
        """Read its input file as a whole; None when that is gone."""
        checking = Checking(batch.endpoint, self._given)
        if await self.ask(lambda store: store.file(batch.tenant, batch.input_file)) is None:
            return None
        async for piece in self._pieces(batch.input_file):
            await asyncio.to_thread(checking.feed, piece)
            if checking.is_hopeless:
                break
        checking.end()
        return checking

    async def put_lines(self, batch: Batch) -> None:
        """Its input file's lines, waiting."""
        checking = Checking(batch.endpoint, self._given)
        async for piece in self._pieces(batch.input_file):
            lines = await asyncio.to_thread(checking.feed, piece)
            await self.ask(lambda s, lines=lines: s.put_lines(self._owner, batch.id, lines))  # type: ignore[misc]
        last = checking.end()
        await self.ask(lambda store: store.put_lines(self._owner, batch.id, last))

    async def _pieces(self, file_id: str) -> AsyncIterator[bytes]:
        number = 0
        while True:
            piece = await self.ask(lambda store, n=number: store.piece(file_id, n))  # type: ignore[misc]
            if piece is None:
                return
            yield piece
            number += 1

    async def take(self, batch: Batch, count: int) -> list[Line]:
        """Lines to run."""
        return await self.ask(lambda store: store.take(self._owner, batch.id, count))

    async def keep_home(self, batch: Batch, number: int) -> None:
        """A line that no third party may see again, whoever runs it next."""
        await self.ask(lambda store: store.keep_home(self._owner, batch.id, number))

    async def give_back(self, batch: Batch, numbers: list[int] | None) -> None:
        """Lines that are to be run again; None is all that were given out."""
        await self.ask(lambda store: store.give_back(self._owner, batch.id, numbers))

    async def write(self, batch: Batch, ending: Ending | None, now_ms: int) -> Batch:
        """Write its output and error files; the batch with their ids."""
        days = batch.output_days or self._given.keep_days
        expires_ms = now_ms + days * DAY_MS
        stem = f"file-{batch.id.removeprefix('batch_')}"
        output = self._writing(batch, _file(batch, f"{stem}a", "output", now_ms, expires_ms))
        faulty = self._writing(batch, _file(batch, f"{stem}b", "error", now_ms, expires_ms))
        after, counts = 0, [0] * len(State)
        while page := await self._results(batch, after):
            for line in page:
                counts[line.state] += 1
                if line.state == State.DONE:
                    await output.add(line.data)
                elif line.state == State.FAILED:
                    await faulty.add(line.data)
                elif ending is not None:
                    mark = envelope.request_id(batch, line.number, line.run)
                    said = ending.code, ending.message
                    await faulty.add(envelope.unanswered(line.custom_id, mark, *said))
            after = page[-1].number
        return msgspec.structs.replace(
            batch, output_file=await output.end(), error_file=await faulty.end(),
            counts=Counts(*counts),
        )  # fmt: skip

    async def _results(self, batch: Batch, after: int) -> list[Result]:
        return await self.ask(lambda s: s.results(self._owner, batch.id, after, _PAGE_LINES))

    def _writing(self, batch: Batch, file: File) -> _Writing:
        async def put(found: File) -> None:
            await self.ask(lambda store: store.put_output(self._owner, batch.id, found))

        async def add(piece: Piece) -> None:
            await self.ask(lambda store: store.add_output(self._owner, batch.id, piece))

        return _Writing(file, put, add)

    async def finish(self, batch: Batch) -> None:
        """Store that it has ended."""
        await self.ask(lambda store: store.finish(self._owner, batch))


def _file(batch: Batch, file_id: str, kind: str, now_ms: int, expires_ms: int) -> File:
    return File(
        file_id, batch.tenant, batch.key_id, Purpose.OUTPUT, f"{batch.id}_{kind}.jsonl", 0, now_ms,
        expires_ms, batch.end_user,
    )  # fmt: skip


class _Writing:
    """A file that grows by lines."""

    def __init__(
        self, file: File, put: Callable[[File], Awaitable[None]],
        put_piece: Callable[[Piece], Awaitable[None]],
    ) -> None:  # fmt: skip
        self._file, self._put, self._put_piece = file, put, put_piece
        self._piece = bytearray()
        self._number = self._size = 0

    async def add(self, line: bytes) -> None:
        """One line more."""
        if not self._size:
            await self._put(self._file)
        self._piece += line + b"\n"
        self._size += len(line) + 1
        if len(self._piece) >= PIECE_BYTES:
            await self._flush()

    async def end(self) -> str:
        """The file's id once it is whole; empty when it has no line."""
        if not self._size:
            return ""
        await self._flush()
        whole = msgspec.structs.replace(self._file, size=self._size, is_whole=True)
        await self._put(whole)
        return whole.id

    async def _flush(self) -> None:
        if self._piece:
            await self._put_piece(Piece(self._file.id, self._number, bytes(self._piece)))
            self._piece, self._number = bytearray(), self._number + 1
