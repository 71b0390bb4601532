"""The ledger's rows as CSV, XLSX or Parquet: read by pages, written as they come.

CSV is for spreadsheets: UTF-8 with a BOM, and a text that a spreadsheet would run as a formula is
led by an apostrophe. XLSX and Parquet keep texts as texts; both need the extra `reports`.
"""

from __future__ import annotations

import csv
import importlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from itertools import chain, islice
from pathlib import Path
from typing import Any

from ballast.messages import Said
from ballast.problem import ProblemError
from serving.finance.base import Database

PAGE = 5_000
XLSX_ROWS_MAX = 1_048_575
COLUMNS = {
    "ended_at": "结束时间", "request_id": "请求编号", "attempt": "尝试序号", "tenant": "租户",
    "project": "项目", "feature": "功能", "model": "模型", "target": "目标", "outcome": "结果",
    "prompt_tokens": "输入词元", "completion_tokens": "输出词元", "cached_tokens": "缓存词元",
    "reasoning_tokens": "推理词元", "is_estimated": "是否估算", "currency": "币种",
    "amount": "金额", "money_kind": "资金类型", "price_source": "价格来源",
    "price_as_of": "价格日期",
}  # fmt: skip
"""Name of a column, and its header in Chinese."""
_QUERY = """
    SELECT ended_ms, request_id, attempt, coalesce(tenant, ''), coalesce(project, ''), feature,
           coalesce(model, ''), coalesce(target, ''), coalesce(outcome, ''), prompt_tokens,
           completion_tokens, cached_tokens, reasoning_tokens, is_estimated,
           coalesce(currency, ''), micro, money_kind, price_source, price_as_of
    FROM attempts WHERE ended_ms < :until_ms AND (ended_ms > :after_ms
        OR (ended_ms = :after_ms AND request_id > :after_id)
        OR (ended_ms = :after_ms AND request_id = :after_id AND attempt > :after_attempt))
    ORDER BY ended_ms, request_id, attempt LIMIT :limit"""
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
Row = tuple[Any, ...]


def attempts(database: Database, since_ms: int, until_ms: int) -> Iterator[Row]:
    """Attempts that ended in [since, until), in their order."""
    after: tuple[int, str, int] = (since_ms - 1, "~", 0)
    while True:
        values = {"until_ms": until_ms, "limit": PAGE, "after_ms": after[0], "after_id": after[1],
                  "after_attempt": after[2]}  # fmt: skip
        rows = database.rows(_QUERY, values)
        for row in rows:
            when = datetime.fromtimestamp(row[0] / 1e3, UTC).isoformat(timespec="milliseconds")
            yield (when, *row[1:13], bool(row[13]), row[14], _money(row[15]), *row[16:])
        if len(rows) < PAGE:
            return
        after = rows[-1][0], rows[-1][1], rows[-1][2]


def _money(micro: int | None) -> Decimal:
    return Decimal(micro or 0).scaleb(-6)


def write(out: Path, rows: Iterable[Row], *, is_chinese: bool) -> int:
    """Write the rows; how many. Raises ProblemError for an ending that is not known, a missing
    library and a disk that is full."""
    writers: dict[str, Callable[[Path, Sequence[str], Iterable[Row]], int]] = {
        ".csv": _csv, ".xlsx": _xlsx, ".parquet": _parquet,
    }  # fmt: skip
    writer = writers.get(out.suffix.lower())
    if writer is None:
        what = Said("problem.ending", name=out.name, known=[*writers])
        raise ProblemError(what, Said("problem.name_it_so"))
    header = list(COLUMNS.values() if is_chinese else COLUMNS)
    part = out.with_name(f"{out.name}.part")
    try:
        count = writer(part, header, rows)
        part.replace(out)
    except OSError as error:
        part.unlink(missing_ok=True)
        what = Said("problem.cannot_write", path=out, why=error.strerror)
        raise ProblemError(what, Said("problem.free_space")) from None
    return count


def escaped(value: Any) -> Any:
    """A text that no spreadsheet takes for a formula; everything else as it is."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def _csv(out: Path, header: Sequence[str], rows: Iterable[Row]) -> int:
    count = 0
    with out.open("w", encoding="utf-8-sig", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(header)
        for count, row in enumerate(rows, 1):  # noqa: B007 - the last one counts
            writer.writerow([escaped(value) for value in row])
    return count


def library(name: str) -> Any:
    """An optional library. Raises ProblemError without it."""
    try:
        return importlib.import_module(name)
    except ImportError:
        raise ProblemError(
            Said("problem.not_installed", name=name), Said("problem.or_csv")
        ) from None


def _xlsx(out: Path, header: Sequence[str], rows: Iterable[Row]) -> int:
    options = {"constant_memory": True, "strings_to_formulas": False, "strings_to_urls": False}
    book = library("xlsxwriter").Workbook(str(out), options)
    sheet = book.add_worksheet("attempts")
    count = -1
    for count, row in enumerate(chain([tuple(header)], rows)):
        if count > XLSX_ROWS_MAX:
            what = Said("problem.rows_most", count=XLSX_ROWS_MAX)
            raise ProblemError(what, Said("problem.shorter"))
        sheet.write_row(count, 0, row)
    try:
        book.close()
    except library("xlsxwriter.exceptions").FileCreateError as error:
        raise OSError(0, str(error)) from None
    return count


def _parquet(out: Path, header: Sequence[str], rows: Iterable[Row]) -> int:
    arrow, parquet = library("pyarrow"), library("pyarrow.parquet")
    kinds = [arrow.string()] * len(COLUMNS)
    for place, name in enumerate(COLUMNS):
        if name.endswith("_tokens") or name == "attempt":
            kinds[place] = arrow.int64()
        elif name == "amount":
            kinds[place] = arrow.decimal128(20, 6)
        elif name == "is_estimated":
            kinds[place] = arrow.bool_()
    schema = arrow.schema(list(zip(header, kinds, strict=True)))
    count = 0
    with parquet.ParquetWriter(str(out), schema) as writer:
        left = iter(rows)
        while page := list(islice(left, PAGE)):
            columns = [
                arrow.array(column, kind)
                for column, kind in zip(zip(*page, strict=True), kinds, strict=True)
            ]
            writer.write_table(arrow.Table.from_arrays(columns, schema=schema))
            count += len(page)
    return count
