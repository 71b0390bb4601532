"""The file that remembers how long starts took: JSON lines, appended, bounded."""

from __future__ import annotations

import fcntl
import logging
from collections.abc import Iterable
from pathlib import Path

import msgspec

from models.start_time import LAST, Row

FILE = "start-times.jsonl"
"""In the state folder of the machine that starts engines."""
BYTES_MAX = 256 << 10
ROWS_KEPT = 4 * LAST
"""Of each model, GPU, cache state and stage, once the file is cut."""
_log = logging.getLogger(__name__)


def read(path: Path) -> list[Row]:
    """All rows; a line that cannot be read is left out, a file that is not there holds none."""
    try:
        data = path.read_bytes()
    except OSError:
        return []
    rows = []
    for line in data.splitlines():
        try:
            rows.append(msgspec.json.decode(line, type=Row))
        except msgspec.MsgspecError:
            continue
    return rows


def append(path: Path, rows: Iterable[Row]) -> None:
    """Add rows, from any process. A disk that refuses costs only what was to be remembered."""
    lines = b"".join(msgspec.json.encode(row) + b"\n" for row in rows)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.write(lines)
            file.flush()
            if file.tell() > BYTES_MAX:
                kept = b"".join(msgspec.json.encode(row) + b"\n" for row in _latest(read(path)))
                file.truncate(0)
                file.write(kept)
    except OSError as error:
        _log.warning("start_times_not_saved", extra={"reason": str(error)})


def _latest(rows: list[Row]) -> list[Row]:
    kept: dict[tuple[str, ...], list[Row]] = {}
    for row in sorted(rows, key=lambda r: r.at_ms):
        kept.setdefault((row.model, row.gpu, row.cache, row.stage), []).append(row)
    return [row for group in kept.values() for row in group[-ROWS_KEPT:]]
