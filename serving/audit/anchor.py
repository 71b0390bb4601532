"""The anchor: a file of signed checkpoints that is only ever appended to."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec

from serving.audit.values import Signed

LINE_BYTES_MAX = 1 << 20
_encode = msgspec.json.Encoder(order="deterministic").encode
_decode = msgspec.json.Decoder(Signed).decode


class AnchorFault(Exception):  # noqa: N818 - a state of the file
    """A line that is no checkpoint; names it."""


def append(path: Path, checkpoint: Signed) -> None:
    """Add a checkpoint, on the disk before this returns. Raises OSError; then some of it may stand
    there all the same, and whoever goes on mends and reads first."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    line = _encode(checkpoint) + b"\n"
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        if os.write(descriptor, line) != len(line):  # a disk that fills up takes a part
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read(path: Path) -> Iterator[Signed]:
    """All checkpoints in order; none where no file is. Raises AnchorFault and OSError. A last line
    without its end was torn by a crash, and its checkpoint was never counted on."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return
    with file:
        for number, line in enumerate(iter(lambda: file.readline(LINE_BYTES_MAX), b""), 1):
            if not line.endswith(b"\n"):
                return
            try:
                yield _decode(line)
            except msgspec.DecodeError as error:
                raise AnchorFault(f"{path}, line {number}: {error}") from None


def mend(path: Path) -> None:
    """Cut off a torn last line, so that the next checkpoint stands on its own. Raises OSError."""
    if not path.exists():
        return
    with path.open("rb+") as file:
        data = file.read()
        end = data.rfind(b"\n") + 1
        if end != len(data):
            file.truncate(end)


def last(path: Path) -> Signed | None:
    """The latest checkpoint. Raises as `read`."""
    found = None
    for found in read(path):  # noqa: B007 - the last one is wanted
        pass
    return found
