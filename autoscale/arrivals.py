"""Request traces as bins of tokens, for the simulator. Needs the extra `reports` (pyarrow, numpy).

A trace is a Parquet or CSV file with `timestamp_s`, `input_tokens`, `output_tokens`, one row per
request or per bin. Bad rows are errors, disorder and gaps are told and borne.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import csv, parquet

from models.worded import Worded

COLUMNS = ("timestamp_s", "input_tokens", "output_tokens")
BIN_S = 10.0
SMOOTH_BINS = 6
"""A minute: the work of a call is done over tens of seconds, not in the bin in which it came."""
BINS_MAX = 1_000_000
TOKENS_MAX = 1e7
GAP_S = 600.0
UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
Floats: TypeAlias = NDArray[np.float64]


class TraceError(ValueError):
    """A trace that cannot be used; names the file, the column and the row."""


class Trace(msgspec.Struct, frozen=True):
    """Tokens asked for in each bin of `BIN_S`, smoothed over a minute."""

    name: str
    start_s: float
    """Into the file: keeps the time of day when a window is cut out."""
    prompt: Floats
    output: Floats
    notes: tuple[str, ...] = ()


class Asked(msgspec.Struct, frozen=True):
    """`FILE[@FROM-UNTIL][*SCALE]`, as `week.parquet@2d-7d*8`."""

    path: Path
    from_s: float = 0.0
    until_s: float = float("inf")
    scale: float = 1.0

    @property
    def name(self) -> str:
        """For tables."""
        words = self.path.stem
        if self.until_s != float("inf"):
            words += f"@{self.from_s / 3600:g}h-{self.until_s / 3600:g}h"
        return words + (f" x {self.scale:g}" if self.scale != 1.0 else "")


def asked(text: str) -> Asked:
    """Read a trace's address. Raises TraceError."""
    pattern = (
        r"(?P<path>.+?)(@(?P<a>[\d.]+)(?P<u>[smhd])-(?P<b>[\d.]+)(?P<v>[smhd]))?(\*(?P<k>[\d.]+))?"
    )
    match = re.fullmatch(pattern, text)
    try:
        assert match is not None
        scale = float(match["k"] or 1)
        span = (0.0, float("inf"))
        if match["a"] is not None:
            span = float(match["a"]) * UNITS[match["u"]], float(match["b"]) * UNITS[match["v"]]
    except (AssertionError, ValueError):
        template = "{text}: write it as FILE, FILE@2d-7d or FILE@2d-7d*8"
        raise TraceError(Worded("trace.address", template, text=repr(text))) from None
    if not (0.0 <= span[0] < span[1] and scale > 0):
        template = "{text}: a window ends after it begins, and a scale is above 0"
        raise TraceError(Worded("trace.window", template, text=repr(text)))
    return Asked(Path(match["path"]), *span, scale)


def load(wish: Asked) -> Trace:
    """Read, check, bin, cut and smooth. Raises TraceError."""
    times, prompt, output = _columns(wish.path)
    notes = _checked(wish.path, times, prompt, output)
    inside = (times >= wish.from_s) & (times < wish.until_s)
    if not inside.any():
        raise _empty(wish)
    start_s = wish.from_s
    places = ((times[inside] - start_s) // BIN_S).astype(np.int64)
    count = int(places.max()) + 1
    if count > BINS_MAX:
        days = f"{count * BIN_S / 86_400:.0f}"
        template = "{path}: {days} days; cut a window out"
        raise TraceError(Worded("trace.long", template, path=wish.path, days=days))
    binned = [
        _smooth(np.bincount(places, tokens[inside], count) * wish.scale)
        for tokens in (prompt, output)
    ]
    return Trace(wish.name, start_s, binned[0], binned[1], notes)


def binned(found: Sequence[tuple[float, float]], count: int) -> Floats:
    """Sums of (seconds from the start, how much) in so many bins, smoothed as a trace is."""
    times, values = np.array(found, dtype=np.float64).reshape(-1, 2).T
    return _smooth(np.bincount((times // BIN_S).astype(np.int64), values, count))


def rows(wish: Asked) -> list[tuple[float, int, int]]:
    """Single requests as (seconds from the window's start, prompt, output), in order of time.
    Raises TraceError; a scale other than 1 would have to draw requests, so it is one."""
    if wish.scale != 1.0:
        template = "{path}: requests one by one cannot be scaled; leave out the factor"
        raise TraceError(Worded("trace.scaled", template, path=wish.path))
    if "requests" in _table(wish.path).column_names:
        template = (
            "{path}: its rows are sums of many requests (column `requests`) and cannot be sent "
            "one by one; take a trace with one row per request"
        )
        raise TraceError(Worded("trace.sums", template, path=wish.path))
    times, prompt, output = _columns(wish.path)
    _checked(wish.path, times, prompt, output)
    inside = np.flatnonzero((times >= wish.from_s) & (times < wish.until_s))
    inside = inside[np.argsort(times[inside], kind="stable")]
    if not inside.size:
        raise _empty(wish)
    return [(float(times[i]) - wish.from_s, int(prompt[i]), int(output[i])) for i in inside]


def counted(wish: Asked) -> float:
    """Requests in the window; rows of bins say how many each holds. Raises TraceError."""
    times, _, _ = _columns(wish.path)
    inside = (times >= wish.from_s) & (times < wish.until_s)
    table = _table(wish.path)
    if "requests" not in table.column_names:
        return float(inside.sum()) * wish.scale
    return float(np.asarray(table["requests"].to_numpy())[inside].sum()) * wish.scale


def _empty(wish: Asked) -> TraceError:
    template = "{path}: no rows between {from_s} s and {until_s} s"
    span = f"{wish.from_s:g}", f"{wish.until_s:g}"
    said = Worded("trace.empty", template, path=wish.path, from_s=span[0], until_s=span[1])
    return TraceError(said)


def _table(path: Path) -> pa.Table:
    """Raises TraceError for what is no table, or none with the columns."""
    if not path.is_file():
        template = "{path}: no such file; with a window it is FILE@2d-7d, each end with its unit"
        raise TraceError(Worded("trace.missing", template, path=path))
    try:
        table = parquet.read_table(path) if path.suffix == ".parquet" else csv.read_csv(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise _columns_wanted(path, str(error)) from None
    lacking = [name for name in COLUMNS if name not in table.column_names]
    if lacking:
        raise _columns_wanted(path, Worded("trace.lacks", "no {names}", names=lacking))
    return table


def _columns_wanted(path: Path, why: str) -> TraceError:
    template = "{path}: {error}; it needs the columns {columns}"
    return TraceError(Worded("trace.columns", template, path=path, error=why, columns=COLUMNS))


def _columns(path: Path) -> tuple[Floats, Floats, Floats]:
    table = _table(path)
    times, prompt, output = (_numbers(path, name, table[name]) for name in COLUMNS)
    return times, prompt, output


def _numbers(path: Path, name: str, column: pa.ChunkedArray) -> Floats:
    values = column.to_numpy()
    try:
        return np.asarray(values, dtype=np.float64)
    except (ValueError, TypeError):
        row = next(k for k, value in enumerate(values) if not _is_number(value))
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


def _checked(path: Path, times: Floats, prompt: Floats, output: Floats) -> tuple[str, ...]:
    for name, values in zip(COLUMNS, (times, prompt, output), strict=True):
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
    notes = []
    if times.size and (steps := np.diff(times)).size:
        if (steps < 0).any():
            count = int((steps < 0).sum())
            notes.append(Worded("trace.sorted", "{count} rows out of order, sorted", count=count))
        longest = float(np.diff(np.sort(times)).max())
        if longest > GAP_S:
            template = "a gap of {seconds} s, taken for no demand"
            notes.append(Worded("trace.gap", template, seconds=f"{longest:.0f}"))
    return tuple(notes)


def _smooth(values: Floats) -> Floats:
    kernel = np.ones(SMOOTH_BINS) / SMOOTH_BINS
    return np.convolve(values, kernel)[: values.size]
