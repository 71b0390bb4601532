"""Long CSV goes into files that a spreadsheet opens, and through memory row by row."""

from __future__ import annotations

import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

from ballast import audit_files
from ballast.csv_parts import CsvParts
from serving.audit.values import Question
from serving.rows import EgressIntent


def test_a_full_file_is_followed_by_the_next_with_the_same_header(tmp_path: Path) -> None:
    with CsvParts("calls", ("n",), lambda name: (tmp_path / name).open("wb"), 3) as rows:
        for number in range(6):
            rows.write((str(number),))
    assert rows.names == ["calls.csv", "calls-2.csv"]
    texts = [(tmp_path / name).read_text("utf-8-sig").split() for name in rows.names]
    assert texts == [['"n"', '"0"', '"1"', '"2"'], ['"n"', '"3"', '"4"', '"5"']]


def test_a_file_without_rows_has_its_header(tmp_path: Path) -> None:
    with CsvParts("calls", ("n",), lambda name: (tmp_path / name).open("wb")) as rows:
        pass
    assert (rows.count, rows.names) == (0, ["calls.csv"])
    assert (tmp_path / "calls.csv").read_bytes() == '\ufeff"n"\r\n'.encode()


class Many:
    """An auditor of very many calls, made one by one."""

    def __init__(self, calls: int) -> None:
        self.calls = calls

    def every(self, question: Question, take: Any) -> None:
        for number in range(self.calls):
            take(EgressIntent(f"{number:032x}", 1, number, "t", 2, "key:any", "us", "alpha", "big"))

    def keys_of(self, question: Question) -> list[str]:
        return ["web"]


def test_a_bundles_memory_does_not_grow_with_its_calls(tmp_path: Path) -> None:
    peaks = []
    for calls in (2_000, 20_000):
        tracemalloc.start()
        found = audit_files.breach(Many(calls), Question(), tmp_path / "b.zip")  # type: ignore[arg-type]
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert found.calls == calls
    assert peaks[1] < peaks[0] + 200_000
    with zipfile.ZipFile(tmp_path / "b.zip") as bundle:
        assert bundle.read("calls.csv").count(b"\n") == 20_001
        assert bundle.read("tenants.csv").decode("utf-8-sig").split() == [
            '"who","calls"', '"t","20000"',
        ]  # fmt: skip
