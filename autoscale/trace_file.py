"""A trace's file: Parquet or CSV, its columns read and checked. Needs the extra `reports`.

Bad rows are errors that name the file, the column and the row; disorder and gaps are told.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import csv, parquet

from models.worded import Worded

COLUMNS = ("timestamp_s", "input_tokens", "output_tokens")
TOKENS_MAX = 1e7
GAP_S = 600.0
EPOCH_S, EPOCH_S_MAX = 3e8, 1e10
"""Times from 1979 to 2286 are taken for seconds since 1970: no trace is ten years long."""
MONDAY_S, WEEK_S = 4 * 86_400, 7 * 86_400
"""1970-01-05 was one."""
Floats: TypeAlias = NDArray[np.float64]


class TraceError(ValueError):
    """A trace that cannot be used; names the file, the column and the row."""


class Rows(NamedTuple):
    """A file's columns."""

    times: Floats
    prompt: Floats
    output: Floats
    monday_s: float
    """Taken off times that count from 1970: the Monday of the first one. 0: times as they stand."""


def opened(path: Path) -> pa.Table:
    """The whole file. Raises TraceError for what is no table, or none with the columns."""
    if not path.is_file():
        template = "{path}: no such file; with a window it is FILE@2d-7d, each end with its unit"
        raise TraceError(Worded("trace.missing", template, path=path))
    try:
        table = parquet.read_table(path) if path.suffix == ".parquet" else csv.read_csv(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise _columns_wanted(path, _legible(error)) from None
    lacking = [name for name in COLUMNS if name not in table.column_names]
    if lacking:
        raise _columns_wanted(path, Worded("trace.lacks", "no {names}", names=lacking))
    return table


def _columns_wanted(path: Path, why: str) -> TraceError:
    template = "{path}: {error}; it needs the columns {columns}"
    return TraceError(Worded("trace.columns", template, path=path, error=why, columns=COLUMNS))


def columns(path: Path) -> Rows:
    """Its columns, as they stand in it. Raises TraceError."""
    table = opened(path)
    times, prompt, output = (numbers(path, table, name) for name in COLUMNS)
    first = float(times.min()) if times.size else 0.0
    monday_s = 0.0
    if EPOCH_S < first < EPOCH_S_MAX:
        monday_s = (first - MONDAY_S) // WEEK_S * WEEK_S + MONDAY_S
    return Rows(times - monday_s, prompt, output, monday_s)


def _legible(error: Exception) -> str:
    """What the reader says, without the bytes of a file that is no table."""
    words = " ".join(str(error).split())
    return "".join(c if c.isprintable() and c != "\ufffd" else "?" for c in words)[:300]


def numbers(path: Path, table: pa.Table, name: str) -> Floats:
    """One column. Raises TraceError."""
    values = table[name].to_numpy()
    try:
        return np.asarray(values, dtype=np.float64)
    except (ValueError, TypeError):
        # Lists of numbers are numbers to numpy one by one: then it is the first row already.
        row = next((k for k, value in enumerate(values) if not _is_number(value)), 0)
        template = "{path}: {name} is not numeric: row {row} holds {value}"
        said = Worded("trace.numeric", template, path=path, name=name, row=row,
                      value=repr(values[row]))  # fmt: skip
        raise TraceError(said) from None


def _is_number(value: object) -> bool:
    try:
        np.float64(value)
    except (ValueError, TypeError):
        return False
    return True


def sound(path: Path, name: str, values: Floats) -> None:
    """Raises TraceError for the first value that cannot be."""
    bad = ~np.isfinite(values) | (values < 0)
    if name != "timestamp_s":
        # A bin holds many requests: the bound is generous, and only absurd rows pass it.
        bad |= values > TOKENS_MAX * 100
    if bad.any():
        row = int(np.argmax(bad))
        raise TraceError(
            Worded("trace.row", "{path}: {name}: row {row} holds {value}",
                   path=path, name=name, row=row, value=values[row])
        )  # fmt: skip


def checked(path: Path, file: Rows) -> tuple[str, ...]:
    """What is odd and can be borne, in words. Raises TraceError for what cannot."""
    for name, values in zip(COLUMNS, file, strict=False):
        sound(path, name, values)
    times = file.times
    notes = []
    if file.monday_s:
        day = datetime.fromtimestamp(file.monday_s, UTC).date()
        template = "times since 1970: windows count from Monday {day}, 00:00 UTC"
        notes.append(Worded("trace.since", template, day=str(day)))
    if times.size and (steps := np.diff(times)).size:
        if (steps < 0).any():
            count = int((steps < 0).sum())
            notes.append(Worded("trace.sorted", "{count} rows out of order, sorted", count=count))
        longest = float(np.diff(np.sort(times)).max())
        if longest > GAP_S:
            template = "a gap of {seconds} s, taken for no demand"
            notes.append(Worded("trace.gap", template, seconds=f"{longest:.0f}"))
    return tuple(notes)
