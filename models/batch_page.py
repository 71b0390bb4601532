"""The part of docs/providers.md about batch prices. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from models.batch_price import SUFFIX
from models.markdown import code, table
from models.provider import Provider


def lines(rows: Iterable[Provider]) -> Iterator[str]:
    """Both tables."""
    yield (
        "Files of requests that are answered within a window, and single calls that may take long"
        f" (row `<id>{SUFFIX}`, see [batch](batch.md)). A row that is not here sells neither, or"
        " nobody has read it.\n"
    )
    found = [(row, row.batch) for row in rows if row.batch is not None]
    yield from table(
        ["row", "off, %", "shortest window, h", "models in files", "read in", "on"],
        (
            [code(row.id), f"{(batch.discount * 100).normalize():f}", str(batch.window_h),
             _codes(batch.models) or "all", batch.source, batch.as_of]
            for row, batch in found
        ),
    )  # fmt: skip
    yield ""
    yield from table(
        ["row", "models by the call", "waits, s", "how", "read in", "on"],
        (
            [code(row.id + SUFFIX), _codes(by.models), f"{by.wait_s:g}", by.note, by.source,
             by.as_of]
            for row, batch in found if (by := batch.by_call) is not None
        ),
    )  # fmt: skip


def _codes(names: Iterable[str]) -> str:
    return ", ".join(map(code, names))
