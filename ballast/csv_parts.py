"""CSV of any length in files that a spreadsheet opens: the next one begins where one is full.

Rows are written as they come; nothing of them stays in memory.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import IO, Self

from serving.audit.report import csv_line

ROWS_MAX = 1_000_000
"""Of one file, below the 1,048,576 lines that spreadsheets hold."""


class CsvParts:
    """Writes `name.csv`, then `name-2.csv` and on. `open_part` opens a file by its name."""

    def __init__(
        self, name: str, header: tuple[str, ...], open_part: Callable[[str], IO[bytes]],
        rows_max: int = ROWS_MAX,
    ) -> None:  # fmt: skip
        self._name = name
        self._header = header
        self._open_part = open_part
        self._rows_max = rows_max
        self._file: IO[bytes] | None = None
        self.names: list[str] = []
        self.count = 0
        self._next()

    def write(self, row: tuple[str, ...]) -> None:
        """The next row. Raises OSError."""
        if self.count and self.count % self._rows_max == 0:
            self._next()
        self.count += 1
        self._line(row)

    def _next(self) -> None:
        self.close()
        number = len(self.names) + 1
        self.names.append(f"{self._name}.csv" if number == 1 else f"{self._name}-{number}.csv")
        self._file = self._open_part(self.names[-1])
        self._file.write("\ufeff".encode())
        self._line(self._header)

    def _line(self, row: tuple[str, ...]) -> None:
        assert self._file is not None
        self._file.write(csv_line(row).encode())

    def close(self) -> None:
        """Finish the file that is open."""
        if self._file is not None:
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        self.close()
