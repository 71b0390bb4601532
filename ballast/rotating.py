"""Copies its standard input into a log of bounded size, until nobody writes any more.

A process of its own between a child of `up` and its log: the child is not blocked by a slow or
stopped `up`, and loses nothing when `up` is killed. Run by path (`python -I -S rotating.py LOG
BYTES KEEP`), so that it starts in 20 ms (0102) and imports nothing of
the project.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from pathlib import Path

CHUNK_BYTES = 1 << 16


class Log:
    """`x.log`, and `x.1.log` (newest) to `x.N.log` behind it."""

    def __init__(self, path: Path, bytes_max: int, keep: int) -> None:
        self._path = path
        self._bytes_max = bytes_max
        self._keep = keep
        self._lost_bytes = 0
        self._is_line_open = False
        self._fd = _open(path)

    def write(self, data: bytes) -> None:
        """Append; a new file begins where the limit is reached, at the end of a line."""
        while data:
            cut = self._cut(data, os.fstat(self._fd).st_size)
            if not cut and not self._begin_anew():
                cut = len(data)
            self._append(data[:cut])
            data = data[cut:]

    def _cut(self, data: bytes, size: int) -> int:
        """How much of it belongs into the file that is open; 0 asks for a new one."""
        room = self._bytes_max - size
        if len(data) <= room:
            return len(data)
        if whole := data.rfind(b"\n", 0, max(room, 0)) + 1:
            return whole
        if (self._is_line_open or not size) and size < 2 * self._bytes_max:
            return data.find(b"\n") + 1 or len(data)  # a line is cut only when it has no end
        return 0

    def _append(self, data: bytes) -> None:
        if not data:
            return
        self._is_line_open = not data.endswith(b"\n")
        if self._lost_bytes:
            note = b'{"event":"log_bytes_lost","bytes":%d}\n' % self._lost_bytes
            if self._put(note) == len(note):
                self._lost_bytes = 0
        self._lost_bytes += len(data) - self._put(data)

    def _put(self, data: bytes) -> int:
        """Bytes written. A full disk takes none: whoever logs must not wait for it."""
        done = 0
        with contextlib.suppress(OSError):
            while done < len(data):
                done += os.write(self._fd, data[done:])
        return done

    def _begin_anew(self) -> bool:
        try:
            shift(self._path, self._keep)
            fresh = _open(self._path)
        except OSError:
            return False  # what is open can still be written
        os.close(self._fd)
        self._fd = fresh
        return True


def shift(path: Path, keep: int) -> None:
    """Make room for a new `path`: the old one becomes the first of the `keep` behind it."""
    names = [path, *(path.with_suffix(f".{number}{path.suffix}") for number in range(1, keep + 1))]
    for older, newer in zip(reversed(names), reversed(names[:-1]), strict=False):
        with contextlib.suppress(FileNotFoundError):
            newer.replace(older)


def _open(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)


def main(argv: list[str]) -> None:
    """Copy until the end of the input."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # whoever writes may still have something to say
    log = Log(Path(argv[1]), int(argv[2]), int(argv[3]))
    while data := os.read(0, CHUNK_BYTES):
        log.write(data)


if __name__ == "__main__":
    main(sys.argv)
