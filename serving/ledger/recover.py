"""What a dead process left behind: its journal into the ledger, its open work settled as lost.

Run at start-up, before serving, with the own folder already taken. Dying half-way is harmless: all
writes are upserts, and a segment goes only after its life is settled.
"""

from __future__ import annotations

import itertools
import logging
import os
from collections.abc import Sequence
from pathlib import Path

import msgspec

from serving import accounting
from serving.journal import Journal
from serving.ledger.base import Attempt, Ledger, Position
from serving.ledger.frames import FRAME_BYTES_MAX, Frames, Stop, frames
from serving.ledger.segments import JournalLocked, Segment, lock, lock_all, put_aside, segments
from serving.rows import Record

SLICE_BYTES = FRAME_BYTES_MAX + 8
"""Most that is read into one transaction; any frame fits."""
PIECE_BYTES = 64 << 10
"""Decoded at a time, under a millisecond: reading the next piece lets the event loop run."""
_log = logging.getLogger(__name__)


class Recovered(msgspec.Struct, frozen=True):
    """What `recover` found."""

    lives: int = 0
    records: int = 0
    lost: int = 0
    """Requests that got a `gateway_lost` row."""
    corrupt: int = 0
    """Segments put aside."""


def settle(attempts: Sequence[Attempt], now_ms: int) -> list[Record]:
    """Rows that settle one request of a dead process; `attempts` are all of its own. Pure.

    An open attempt ends as `gateway_lost` with estimated usage. The request's usage is its last
    attempt's; the store drops the request row if the gateway itself wrote one.
    """
    begun = [(a.begin, a.end) for a in attempts if a.begin is not None]
    if not begun:
        return []
    records: list[Record] = [
        accounting.lost(begin, now_ms)[0] for begin, end in begun if end is None
    ]
    last, end = begun[-1]
    _, request = accounting.lost(last, now_ms)
    usage = request.usage if end is None else end.usage
    records.append(msgspec.structs.replace(request, attempts=len(attempts), usage=usage))
    return records


def sweep(ledger: Ledger, before_ms: int, now_ms: int) -> int:
    """Settle as lost what began by then and was never settled: its gateway is gone, and its journal
    with it. Should they come back, their own word still wins. The number of requests.

    Raises LedgerUnavailable.
    """
    by_request = itertools.groupby(ledger.abandoned(before_ms), key=lambda a: a.request_id)
    settled = [settle(list(attempts), now_ms) for _, attempts in by_request]
    ledger.apply(list(itertools.chain(*settled)))
    return len(settled)


def recover(journal: Journal, ledger: Ledger, now_ms: int) -> Recovered:
    """Replay and settle the earlier lives in the journal's folder, and every life in the folders
    beside it that nobody holds. Deletes what it has replayed. Blocking.

    Raises LedgerUnavailable or OSError: then call again later; nothing is lost meanwhile.
    """
    found = Recovered()
    root = journal.folder.parent
    with lock_all(root):
        for folder in sorted(path for path in root.iterdir() if path.is_dir()):
            if folder == journal.folder:
                found = _folder(folder, ledger, now_ms, journal.life, found)
                continue
            try:
                fd = lock(folder)
            except JournalLocked:
                continue
            try:
                found = _folder(folder, ledger, now_ms, "", found)
            finally:
                os.close(fd)
    return found


def read(segment: Segment, offset: int, end: int) -> Frames:
    """The whole frames of one slice from `offset`, not reading beyond `end`."""
    end = min(end, offset + SLICE_BYTES)
    at, size = offset, PIECE_BYTES
    records: list[Record] = []
    with segment.path.open("rb", buffering=0) as file:
        while True:
            file.seek(at)
            data = file.read(max(0, min(size, end - at)))
            is_last = len(data) < size or at + size == end
            found = frames(data)
            records += found.records
            at += found.good_bytes
            if is_last or found.stop is Stop.CORRUPT:
                return Frames(records, at - offset, found.stop)
            # No progress: a frame larger than the piece, or zeros; only the whole slice can tell.
            size = PIECE_BYTES if found.good_bytes else SLICE_BYTES


def _folder(folder: Path, ledger: Ledger, now_ms: int, life: str, found: Recovered) -> Recovered:
    left = [s for s in segments(folder) if s.life != life]
    for dead, group in itertools.groupby(left, key=lambda s: s.life):
        found = _life(dead, list(group), ledger, now_ms, found)
    return found


def _life(
    life: str, group: list[Segment], ledger: Ledger, now_ms: int, found: Recovered
) -> Recovered:
    """Replay one life's segments, settle what it left open, and only then delete them."""
    position = ledger.position(life) or Position(life, 0, 0)
    records = 0
    corrupt: list[Segment] = []
    for segment in group:
        if segment.sequence < position.sequence:
            continue
        at = position.offset_bytes if segment.sequence == position.sequence else 0
        count, stop = _replay(segment, at, ledger)
        records += count
        if stop is Stop.CORRUPT:
            _log.error("journal_segment_corrupt", extra={"segment": segment.path.name})
            corrupt.append(segment)
    by_request = itertools.groupby(ledger.unsettled(life), key=lambda a: a.request_id)
    settled = [settle(list(attempts), now_ms) for _, attempts in by_request]
    ledger.apply(list(itertools.chain(*settled)))
    ledger.forget(life)
    for segment in group:
        if segment in corrupt:
            put_aside(segment)
        else:
            segment.path.unlink()
    return Recovered(
        found.lives + 1,
        found.records + records,
        found.lost + len(settled),
        found.corrupt + len(corrupt),
    )


def _replay(segment: Segment, at: int, ledger: Ledger) -> tuple[int, Stop]:
    """Apply the segment from `at` in slices, as far as its frames are whole."""
    size = segment.path.stat().st_size
    records = 0
    while True:
        found = read(segment, at, size)
        at += found.good_bytes
        if found.records:
            ledger.apply(found.records, Position(segment.life, segment.sequence, at))
            records += len(found.records)
        if found.good_bytes == 0 or found.stop is Stop.CORRUPT or at == size:
            return records, found.stop
