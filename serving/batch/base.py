"""The store of files and batches: what it must do, whatever database is behind it.

Blocking by design: callers off the event loop's thread only. What a batch's owner writes is refused
(`Lost`) once another has taken the batch over.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple, Protocol

import msgspec

from serving.batch.envelope import Request
from serving.batch.values import Batch, Counts, Ended, File, Line, Purpose, Standing
from serving.errors import OwnError

PAGE_MAX = 100
PIECE_BYTES = 1 << 20
"""Of a file, in one row."""
ENDED_MAX = 1000
"""Batches that have ended, of one tenant."""
TRIMMED_MAX = 10
"""Files, and batches, in one go: a transaction that removes gigabytes holds others up."""
encode_file = msgspec.json.Encoder().encode
decode_file = msgspec.json.Decoder(File).decode
encode_batch = msgspec.json.Encoder().encode
decode_batch = msgspec.json.Decoder(Batch).decode


class BatchesAway(OwnError):  # noqa: N818 - a state
    """The store cannot be read or written now."""

    def __init__(self, message: str) -> None:
        super().__init__("batches_away", message, retry_after_s=5.0)


class Lost(Exception):  # noqa: N818 - a state
    """The batch is another's by now, or it or the file is gone."""


class Left(Exception):  # noqa: N818 - a state
    """The batch made way for another."""


class Page(NamedTuple):
    """Which part of a tenant's list."""

    after: str = ""
    """Id of the last one seen."""
    limit: int = 20
    is_oldest_first: bool = False
    purpose: Purpose | None = None
    """Of files."""


class Used(NamedTuple):
    """What a tenant has stored."""

    files: int
    bytes: int


class Piece(NamedTuple):
    """Of a file."""

    file_id: str
    number: int
    """From 0 on."""
    data: bytes


class Result(NamedTuple):
    """A line that ended, or did not."""

    number: int
    custom_id: str
    state: int
    run: int
    data: bytes


class BatchStore(Protocol):
    """Every method raises BatchesAway when the store is away."""

    # Files.

    def put_file(self, file: File) -> None:
        """Store or replace what is known of a file."""
        ...

    def add_piece(self, file_id: str, number: int, data: bytes) -> None:
        """Store or replace one of its pieces, from 0 on. Raises Lost when there is no such file
        any more."""
        ...

    def end_file(self, file: File) -> None:
        """Replace what is known of a file that has come in. Raises Lost as above."""
        ...

    def piece(self, file_id: str, number: int) -> bytes | None:
        """One piece; None behind the last."""
        ...

    def file(self, tenant: str, file_id: str) -> File | None:
        """A whole file of a tenant's."""
        ...

    def files(self, tenant: str, page: Page) -> list[File]:
        """Whole files, one more than asked for where there are more."""
        ...

    def drop_file(self, tenant: str, file_id: str) -> bool:
        """Remove it and its pieces; False when there is none."""
        ...

    def used(self, tenant: str) -> Used:
        """Of files, those that come in included; an open batch counts as one as large as its
        input."""
        ...

    # Batches.

    def add_batch(self, batch: Batch, open_max: int, ended_max: int = ENDED_MAX) -> bool:
        """Store a new one, unless one of that id is there; False when its tenant has so many open
        ones already. Of those that ended the oldest beyond `ended_max` are forgotten."""
        ...

    def batch(self, tenant: str, batch_id: str) -> Standing | None:
        """One batch of a tenant's."""
        ...

    def batches(self, tenant: str, page: Page) -> list[Standing]:
        """Newest first, one more than asked for where there are more."""
        ...

    def counts(self, batch_id: str) -> Counts:
        """Its lines by state."""
        ...

    def counts_of(self, batch_ids: Collection[str]) -> dict[str, Counts]:
        """The lines of several by state; without those that have none."""
        ...

    def cancel(self, tenant: str, batch_id: str, now_ms: int) -> None:
        """Ask its owner to end it; the first time counts."""
        ...

    # For owners.

    def claim(self, owner: str, now_ms: int, until_ms: int, limit: int) -> list[Standing]:
        """Take open batches that nobody holds: first of the tenants with the fewest at this owner,
        each tenant's in the order in which they began to wait."""
        ...

    def claim_late(self, owner: str, now_ms: int, until_ms: int, limit: int) -> list[Standing]:
        """Take those whose window is over or whose end was asked for, also ones that rest."""
        ...

    def waiting(self, now_ms: int) -> dict[str, int]:
        """How many open batches nobody holds, by tenant; without those that rest."""
        ...

    def give_up(self, owner: str, batch_id: str, until_ms: int) -> None:
        """Hold it no more: it rests until then. Nothing where it is another's."""
        ...

    def renew(self, owner: str, batch_ids: Collection[str], until_ms: int) -> dict[str, int]:
        """Hold these for longer: id -> when its end was asked for, 0 is never; without those that
        are the owner's no more."""
        ...

    def release(self, owner: str) -> None:
        """Hold nothing any more, also of what it held in an earlier life."""
        ...

    def save(self, owner: str, batch: Batch) -> None:
        """Store what has become of a batch. Raises Lost."""
        ...

    def finish(self, owner: str, batch: Batch) -> None:
        """`save` a batch that has ended, and forget its lines. Raises Lost."""
        ...

    def put_lines(self, owner: str, batch_id: str, lines: Sequence[Request]) -> None:
        """Store or replace lines, waiting. Raises Lost."""
        ...

    def take(self, owner: str, batch_id: str, count: int) -> list[Line]:
        """Give out waiting lines, the first first. Raises Lost."""
        ...

    def keep_home(self, owner: str, batch_id: str, number: int) -> None:
        """A third party refused the line's content: `take` says so from now on. Raises Lost."""
        ...

    def give_back(self, owner: str, batch_id: str, numbers: Sequence[int] | None) -> None:
        """Lines that were given out and not ended wait again; None is all. Raises Lost."""
        ...

    def end_lines(self, owner: str, batch_id: str, ended: Sequence[Ended]) -> None:
        """On the disk when it returns. Raises Lost: then none is stored."""
        ...

    def results(self, owner: str, batch_id: str, after: int, limit: int) -> list[Result]:
        """Lines behind number `after`, in order; those that did not end without their data. Raises
        Lost."""
        ...

    def put_output(self, owner: str, batch_id: str, file: File) -> None:
        """`put_file` of one that the batch writes. Raises Lost."""
        ...

    def add_output(self, owner: str, batch_id: str, piece: Piece) -> None:
        """`add_piece` of one that the batch writes. Raises Lost."""
        ...

    # Forgetting.

    def trim(self, now_ms: int, before_ms: int) -> int:
        """Remove files that have expired or never became whole, and batches that ended and were
        made before `before_ms`, at most TRIMMED_MAX of each. How many went."""
        ...

    def erase(self, tenant: str, end_user: str = "") -> int:
        """Remove all files and batches of a tenant and its customers, or of one of its end users;
        open ones too. How many went."""
        ...

    def close(self) -> None:
        """Release the store; no call may follow."""
        ...
