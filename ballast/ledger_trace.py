"""The ledger's requests as a trace: when each came, and its tokens. Reads, never writes there."""

from __future__ import annotations

import csv
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ballast import books
from ballast.problem import ProblemError
from serving.finance.base import Database
from serving.settings import Settings

PAGE = 5_000
DAY_MS = 86_400_000
REPLAYS = "poc-run"
"""Project of the keys of `ballast poc run`: what it sends is nobody's demand."""
HEADER = ("timestamp_s", "input_tokens", "output_tokens")
_QUERY = """
    SELECT received_ms, request_id, prompt_tokens, completion_tokens FROM requests
    WHERE ended_ms >= :since_ms AND received_ms >= :since_ms AND attempts > 0
      AND (:model = '' OR model = :model) AND project <> :replays
      AND (received_ms > :after_ms OR (received_ms = :after_ms AND request_id > :after_id))
    ORDER BY received_ms, request_id LIMIT :limit"""


class Wanted(NamedTuple):
    """Which part of the ledger."""

    days: int = 7
    model: str = ""
    """Empty: all models together."""


def write(settings: Settings, wanted: Wanted, out: Path, now_ms: int | None = None) -> str:
    """Write requests that were tried as CSV, and return the address of their window; second 0 is
    midnight (the ledger's) of the first day, so that hours of the day stay what they are. Raises
    ProblemError."""
    now_ms = time.time_ns() // 1_000_000 if now_ms is None else now_ms
    offset_ms = settings.ledger.utc_offset_hours * 3_600_000
    since_ms = now_ms - wanted.days * DAY_MS
    midnight_ms = (since_ms + offset_ms) // DAY_MS * DAY_MS - offset_ms
    count = 0
    with (
        books.finance(settings, is_to_read=True) as database,
        out.open("w", encoding="utf-8", newline="") as stream,
    ):
        writer = csv.writer(stream)
        writer.writerow(HEADER)
        for received_ms, prompt, output in _rows(database, since_ms, wanted.model):
            writer.writerow((f"{(received_ms - midnight_ms) / 1e3:.3f}", prompt, output))
            count += 1
    if not count:
        what = f"the ledger holds no request of the last {wanted.days} days"
        what += f" for the model {wanted.model!r}" if wanted.model else ""
        raise ProblemError(what, "ask for more --days, or name a trace file")
    return f"{out}@{(since_ms - midnight_ms) / 1e3:.0f}s-{(now_ms - midnight_ms) / 1e3 + 1:.0f}s"


def _rows(database: Database, since_ms: int, model: str) -> Iterator[tuple[int, int, int]]:
    after = (since_ms - 1, "")
    while True:
        rows = database.rows(
            _QUERY,
            {"since_ms": since_ms, "model": model, "after_ms": after[0], "after_id": after[1],
             "replays": REPLAYS, "limit": PAGE},
        )  # fmt: skip
        for received_ms, _, prompt, output in rows:
            yield received_ms, prompt, output
        if len(rows) < PAGE:
            return
        after = rows[-1][0], rows[-1][1]
