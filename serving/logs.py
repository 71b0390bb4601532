"""JSON lines. Standard logging for what happens seldom; one buffered line per finished request.

Never prompts, completions or keys: callers pass closed fields only. The request line bypasses the
logging package (a tenth of its cost) and is flushed four times a second and at exit.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections import deque
from typing import Any, TextIO

import msgspec

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}
_BUFFER_MAX = 20_000
FLUSH_S = 0.25
RECENT = 256


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, event, then the `extra` fields."""

    def format(self, record: logging.LogRecord) -> str:
        """The line for one record."""
        line: dict[str, Any] = {
            "at": round(record.created, 3),
            "level": record.levelname,
            "logger": record.name,
            "event": record.getMessage(),
        }
        line |= {k: v for k, v in vars(record).items() if k not in _STANDARD}
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line, enc_hook=str).decode()


def configure(stream: TextIO = sys.stderr, level: int = logging.INFO) -> None:
    """Send every logger to `stream` as JSON lines."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=level, handlers=[handler], force=True)


class RequestLog:
    """One line per finished request, and the latest of them for `/decisions`.

    Writing blocks while the reader of the stream stands still, as logging does; give stderr to a
    file or to a collector that reads.
    """

    def __init__(self, stream: TextIO = sys.stderr) -> None:
        self._stream = stream
        self._lines: list[bytes] = []
        self._timer: asyncio.TimerHandle | None = None
        self.recent: deque[msgspec.Struct] = deque(maxlen=RECENT)
        self.dropped = 0

    def write(self, line: msgspec.Struct) -> None:
        """Queue a line; beyond 20,000 between two flushes lines are dropped and counted."""
        self.recent.append(line)
        if len(self._lines) >= _BUFFER_MAX:
            self.dropped += 1
            return
        self._lines.append(_encode(line))
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(FLUSH_S, self.flush)

    def flush(self) -> None:
        """Write what is queued."""
        self._timer = None
        lines, self._lines = self._lines, []
        if lines:
            self._stream.write(b"\n".join(lines).decode() + "\n")
            self._stream.flush()


_encode = msgspec.json.Encoder(enc_hook=str).encode


def utc_ms() -> int:
    """Now, UTC, in milliseconds: for rows only, never for deadlines."""
    return time.time_ns() // 1_000_000
