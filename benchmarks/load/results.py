"""A run on disk: `result.json`, `requests.parquet`, `report.html`, `report.zh.html` in one folder.

Each file is written beside its place and moved there, so that a full disk leaves no half file.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
from pyarrow import parquet

from benchmarks.gateway.machine import Provenance
from benchmarks.load.seen import Seen
from benchmarks.load.summary import Summary
from benchmarks.load.values import Scenario
from models.worded import Worded

FORMAT = 1
RESULT, REQUESTS = "result.json", "requests.parquet"


class ResultsError(Exception):
    """Results that cannot be written or read; names the file."""


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """A run: what was asked, of whom, on what, and what came of it."""

    format: int = FORMAT
    scenario: Scenario
    seed: int
    url: str
    model: str
    pin: str = ""
    """Who alone was to answer."""
    tokens_by: str
    """Means by which prompt lengths were met."""
    notes: list[str]
    """What the reader must know."""
    summary: Summary
    provenance: Provenance


def prepare(folder: Path) -> None:
    """Make the folder, and see that it takes a file, before the run. Raises ResultsError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".probe"
        probe.write_bytes(b"0" * 4096)
        probe.unlink()
    except OSError as error:
        template, why = "{folder}: {why}; name another --out", error.strerror
        raise ResultsError(Worded("results.folder", template, folder=folder, why=why)) from None


def prepare_file(path: Path) -> None:
    """See that a report can be written there, before the work of which it tells. Raises
    ResultsError."""
    if path.is_dir():
        template = "{path}: is a folder; name a file for --out"
        raise ResultsError(Worded("results.is_folder", template, path=path))
    prepare(path.parent)


def write(folder: Path, result: Result, rows: Sequence[Seen]) -> None:
    """JSON and Parquet. Raises ResultsError; what could be written stays."""
    data = msgspec.json.format(msgspec.json.encode(result), indent=1)
    put(folder / RESULT, data)
    place, part = folder / REQUESTS, folder / (REQUESTS + ".part")
    try:
        parquet.write_table(table(rows, result.scenario), part, compression="zstd")
        os.replace(part, place)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise _full(place, error) from None


def put(path: Path, data: bytes) -> None:
    """One file, whole or not at all. Raises ResultsError."""
    part = path.with_name(path.name + ".part")
    try:
        part.write_bytes(data)
        os.replace(part, path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise _full(path, error) from None


def _full(path: Path, error: OSError) -> ResultsError:
    template, why = "{path}: {why}; free some space", error.strerror or error
    return ResultsError(Worded("results.full", template, path=path, why=why))


def table(rows: Sequence[Seen], scenario: Scenario) -> pa.Table:
    """One row per request; the kind by its name."""
    columns: dict[str, Any] = {
        name: [getattr(r, name) for r in rows] for name in Seen.__struct_fields__ if name != "kind"
    }
    names = [kind.name for kind in scenario.kinds]
    columns["kind"] = [names[r.kind] for r in rows]
    return pa.table(columns)


def read(folder: Path) -> tuple[Result, list[Seen]]:
    """A run that was written. Raises ResultsError."""
    try:
        result = msgspec.json.decode((folder / RESULT).read_bytes(), type=Result)
        rows = parquet.read_table(folder / REQUESTS).to_pylist()
    except (OSError, msgspec.DecodeError, pa.ArrowInvalid) as error:
        template = "{folder}: no results of a load test: {why}"
        raise ResultsError(Worded("results.none", template, folder=folder, why=error)) from None
    if result.format != FORMAT:
        template, was = "{folder}: format {was}; this version reads {now}", result.format
        raise ResultsError(Worded("results.format", template, folder=folder, was=was, now=FORMAT))
    places = {kind.name: k for k, kind in enumerate(result.scenario.kinds)}
    return result, [Seen(**row | {"kind": places[row["kind"]]}) for row in rows]
