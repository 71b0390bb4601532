"""What is on record of a source's files: hashes and sizes, and how the files last looked on disk.

The pin lies beside the cached folder (`NAME.pin.json`) and outlives it: a source that is fetched
anew must bring the same bytes. It is made at the first fetch, from the hashes a source tells and
from those of the bytes that came; to accept a change, somebody removes it.
"""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec

from serving.engine.weights.errors import SourceError, WrongBytesError
from serving.engine.weights.remote import RemoteFile

_SUM = re.compile(r"([0-9a-fA-F]{64}) [ *](?:\./)?(.+)")


class Pinned(msgspec.Struct, frozen=True):
    """One file's content."""

    size: int
    sha256: str


class Pin(msgspec.Struct, frozen=True):
    """One source's content, for good."""

    source: str
    revision: str
    pinned_ms: int
    """Unix time of the first fetch."""
    files: dict[str, Pinned]


class Look(NamedTuple):
    """How a file lay on disk when it was last hashed. Equal looks stand for equal bytes."""

    size: int
    mtime_ns: int
    inode: int


class Found(msgspec.Struct, frozen=True):
    """A file on disk that has been hashed, and its look then."""

    sha256: str
    look: Look


def look_at(path: Path) -> Look | None:
    """The file's look now; None if it is gone."""
    try:
        stat = path.stat()
    except FileNotFoundError:
        return None
    return Look(stat.st_size, stat.st_mtime_ns, stat.st_ino)


def read_pin(path: Path) -> Pin | None:
    """The pin, None before the first fetch. Raises SourceError for one that cannot be read."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Pin)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError) as error:
        # To go on without it would accept anything.
        raise SourceError(f"{path}: the record of hashes cannot be read: {error}") from None


def read_found(path: Path) -> dict[str, Found]:
    """What was hashed on this disk; empty where that is not known, which only costs time."""
    with contextlib.suppress(OSError, msgspec.MsgspecError):
        return msgspec.json.decode(path.read_bytes(), type=dict[str, Found])
    return {}


def write(path: Path, value: Pin | Mapping[str, Found]) -> None:
    """Replace the file in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(value), indent=1))
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o644)
        Path(name).rename(path)
    finally:
        Path(name).unlink(missing_ok=True)


def parse_sums(text: str, where: str) -> dict[str, str]:
    """Hash by path, of what `sha256sum` wrote. Raises SourceError."""
    sums: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        row = _SUM.fullmatch(line)
        if row is None:
            raise SourceError(f"{where}:{number}: not a line of sha256sum's")
        sums[row[2]] = row[1].lower()
    return sums


def expected(
    listed: Iterable[RemoteFile], pin: Pin | None, sums: Mapping[str, str], where: str
) -> tuple[RemoteFile, ...]:
    """The files to have, each with every hash and size on record; all records must agree.

    Raises WrongBytesError naming what differs.
    """
    files = {file.path: file for file in listed}
    if pin is not None and (odd := sorted(files.keys() ^ pin.files.keys())):
        state = "is gone from" if odd[0] in pin.files else "is new in"
        raise WrongBytesError(f"{odd[0]} {state} {where}; {_HOW_TO_ACCEPT}")
    out = []
    for path, file in files.items():
        known = None if pin is None else pin.files[path]
        hashes = {h for h in (file.sha256, sums.get(path, ""), known.sha256 if known else "") if h}
        sizes = {s for s in (file.size, known.size if known else None) if s is not None}
        if len(hashes) > 1 or len(sizes) > 1:
            told = ", ".join(sorted(hashes) or map(str, sorted(sizes)))
            raise WrongBytesError(f"{path} of {where}: records differ ({told}); {_HOW_TO_ACCEPT}")
        out.append(file._replace(sha256=next(iter(hashes), ""), size=next(iter(sizes), None)))
    return tuple(out)


_HOW_TO_ACCEPT = "the first fetch pinned its files: to accept the change remove its .pin.json"
