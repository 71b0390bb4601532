"""The anchor: a file of signed checkpoints that is only ever appended to, and the last one of them
that this machine saw.

Nothing is ever cut off the file, for it may lie on a mount that allows no such thing: a line that a
crash tore is followed by a mark that says so, and readers pass over it.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from serving.audit.values import Signed
from serving.unreadable import UNREADABLE

LINE_BYTES_MAX = 1 << 20
LAST_FILE = "audit-last.json"
"""In the state folder: see `Last`."""


class Torn(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The mark behind what a crash or a full disk left of a line."""

    torn: int
    """Bytes of it."""


class Last(msgspec.Struct, frozen=True):
    """The last checkpoint that was appended from here. Whoever cuts the end off database and
    anchor alike has to reach this file too."""

    checkpoint: Signed
    posted: int = 0
    """Number of the last one that the address took; 0: none yet, or nobody was asked."""


_encode = msgspec.json.Encoder(order="deterministic").encode
_decode = msgspec.json.Decoder(Signed).decode
_decode_torn = msgspec.json.Decoder(Torn).decode
_decode_last = msgspec.json.Decoder(Last).decode


class AnchorFault(Exception):  # noqa: N818 - a state of the file
    """A line that is no checkpoint; names it."""


def append(path: Path, checkpoint: Signed) -> None:
    """Add a checkpoint, on the disk before this returns. Raises OSError; then some of it may stand
    there all the same, and whoever goes on mends and reads first."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    _append(path, _encode(checkpoint) + b"\n")


def read(path: Path) -> Iterator[Signed]:
    """All checkpoints in order; none where no file is. Raises AnchorFault and OSError."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return
    with file:
        yield from checkpoints(iter(lambda: file.readline(LINE_BYTES_MAX), b""), str(path))


def checkpoints(lines: Iterable[bytes], where: str) -> Iterator[Signed]:
    """The checkpoints of an anchor's lines. Raises AnchorFault for a line that is neither one nor
    torn: followed by its mark, or the last of all."""
    bad = ""
    for number, line in enumerate(lines, 1):
        if not line.endswith(b"\n"):
            return  # torn, or being written now: never counted on
        try:
            found = _decode(line)
        except UNREADABLE as error:
            bad = "" if _is_mark(line) else bad or f"{where}, line {number}: {error}"
            continue
        if bad:
            raise AnchorFault(bad)
        yield found


def mend(path: Path) -> None:
    """Close a torn last line with its mark, so that the next checkpoint stands on its own. Raises
    OSError."""
    if not path.exists():
        return
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 2 * LINE_BYTES_MAX))
        tail = file.read()
    if not tail:
        return
    begin = b"" if tail.endswith(b"\n") else b"\n"
    last = tail.rstrip(b"\n").rpartition(b"\n")[2]
    if begin or not (_is_mark(last) or _is_checkpoint(last)):
        _append(path, begin + _encode(Torn(len(last))) + b"\n")


def last_seen(state: Path) -> Last | None:
    """What this machine saw last; None before its first, and where the file cannot be read as
    one: it is a second witness, no condition. Raises OSError."""
    try:
        return _decode_last((state / LAST_FILE).read_bytes())
    except (FileNotFoundError, *UNREADABLE):
        return None


def keep_last(state: Path, last: Last) -> None:
    """Remember it, whole or not at all. Raises OSError."""
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    made = state / f"{LAST_FILE}.new"
    descriptor = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(_encode(last))
        file.flush()
        os.fsync(file.fileno())
    made.replace(state / LAST_FILE)


def _append(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        if os.write(descriptor, data) != len(data):  # a disk that fills up takes a part
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _is_mark(line: bytes) -> bool:
    try:
        _decode_torn(line)
    except UNREADABLE:
        return False
    return True


def _is_checkpoint(line: bytes) -> bool:
    try:
        _decode(line)
    except UNREADABLE:
        return False
    return True
