"""Request traces as bins of tokens, for the simulator. Needs the extra `reports` (pyarrow, numpy).

A trace is a Parquet or CSV file with `timestamp_s`, `input_tokens`, `output_tokens`, one row per
request or per bin. Bad rows are errors, disorder and gaps are told and borne.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from autoscale.trace_file import (
    Floats,
    Rows,
    TraceError,
    checked,
    columns,
    numbers,
    opened,
    sound,
)
from models.worded import Worded

__all__ = [
    "BINS_MAX", "BIN_S", "Asked", "Floats", "Trace", "TraceError", "asked", "binned", "counted",
    "load", "rows",
]  # fmt: skip

BIN_S = 10.0
SMOOTH_BINS = 6
"""A minute: the work of a call is done over tens of seconds, not in the bin in which it came."""
BINS_MAX = 1_000_000
UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}


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
    file = columns(wish.path)
    times, notes = file.times, checked(wish.path, file)
    inside = (times >= wish.from_s) & (times < wish.until_s)
    if not inside.any():
        raise _empty(wish)
    start_s = _begin(wish, file, inside)
    bins = (times[inside] - start_s) // BIN_S
    if bins.max() >= BINS_MAX:
        days = f"{bins.max() * BIN_S / 86_400:.6g}"
        span = f"{times[inside].min():.15g}", f"{times[inside].max():.15g}"
        template = "{path}: {days} days, from {first} s to {last} s; cut a window out"
        raise TraceError(Worded("trace.long", template, path=wish.path, days=days,
                                first=span[0], last=span[1]))  # fmt: skip
    _worked(wish, file, inside)
    places = bins.astype(np.int64)
    count = int(places.max()) + 1
    binned = [
        _smooth(np.bincount(places, tokens[inside], count) * wish.scale)
        for tokens in (file.prompt, file.output)
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
    if "requests" in opened(wish.path).column_names:
        template = (
            "{path}: its rows are sums of many requests (column `requests`) and cannot be sent "
            "one by one; take a trace with one row per request"
        )
        raise TraceError(Worded("trace.sums", template, path=wish.path))
    file = columns(wish.path)
    checked(wish.path, file)
    times, prompt, output, _ = file
    inside = np.flatnonzero((times >= wish.from_s) & (times < wish.until_s))
    inside = inside[np.argsort(times[inside], kind="stable")]
    if not inside.size:
        raise _empty(wish)
    _worked(wish, file, inside)
    start_s = _begin(wish, file, inside)
    return [(float(times[i]) - start_s, int(prompt[i]), int(output[i])) for i in inside]


def counted(wish: Asked) -> float:
    """Requests in the window; rows of bins say how many each holds. Raises TraceError."""
    times = columns(wish.path).times
    inside = (times >= wish.from_s) & (times < wish.until_s)
    table = opened(wish.path)
    if "requests" not in table.column_names:
        return float(inside.sum()) * wish.scale
    values = numbers(wish.path, table, "requests")
    sound(wish.path, "requests", values)
    return float(values[inside].sum()) * wish.scale


def _begin(wish: Asked, file: Rows, inside: Any) -> float:
    """Where the window begins. Before the first row of times since 1970 there is no trace."""
    if wish.from_s or not file.monday_s:
        return wish.from_s
    return float(file.times[inside].min() // BIN_S * BIN_S)


def _empty(wish: Asked) -> TraceError:
    if not wish.from_s and wish.until_s == float("inf"):
        return TraceError(Worded("trace.no_rows", "{path}: no rows", path=wish.path))
    template = "{path}: no rows between {from_s} s and {until_s} s"
    span = f"{wish.from_s:g}", f"{wish.until_s:g}"
    said = Worded("trace.empty", template, path=wish.path, from_s=span[0], until_s=span[1])
    return TraceError(said)


def _worked(wish: Asked, file: Rows, inside: Any) -> None:
    if not (file.prompt[inside].any() or file.output[inside].any()):
        template = "{path}: no row has any tokens, so there is nothing to serve"
        raise TraceError(Worded("trace.idle", template, path=wish.path))


def _smooth(values: Floats) -> Floats:
    kernel = np.ones(SMOOTH_BINS) / SMOOTH_BINS
    return np.convolve(values, kernel)[: values.size]
