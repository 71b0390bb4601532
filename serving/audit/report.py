"""A report for people who decide: what left, when, where to; in Chinese or English. Pure.

One page without anything from outside, every value escaped, and its rows beside it as CSV. The
signature is a file of its own over the hashes of both, since a page cannot hold its own hash.
"""

from __future__ import annotations

import hashlib
import html
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple, Protocol

from serving.audit.values import class_name
from serving.records import MAINLAND
from serving.rows import EgressIntent

ROWS_SHOWN = 500
GROUPS_MAX = 200
COLUMNS = (
    "at",
    "tenant",
    "class",
    "rule",
    "jurisdiction",
    "provider",
    "model",
    "request",
    "attempt",
)
WORDS: dict[str, dict[str, str]] = {
    "en": {
        "title": "What left the premises", "asked": "Asked", "from": "from", "until": "until",
        "tenant": "tenant", "class": "class", "jurisdiction": "jurisdiction",
        "provider": "provider", "any": "any", "found": "Found", "none": "Nothing left.",
        "left": "calls left the premises", "abroad": "of them left mainland China",
        "no_abroad": "None left mainland China.", "calls": "calls", "record": "The record",
        "whole": "whole: every entry holds, none is missing", "broken": "BROKEN",
        "entries": "entries on {writers} chains", "checkpoints": "checkpoints, the last of",
        "no_checkpoint": "no checkpoint yet: nothing outside the database proves its end",
        "unproven": "What was recorded after the last checkpoint is held against nothing outside.",
        "rows": "Rows", "shown": "The first {shown} of {all}; all are in {csv}.",
        "made": "Made", "key": "signed by the key", "how": "How to check",
        "steps": "ballast audit check {html} --public-key KEY; the key must come from another "
        "place than this page.",
        "at": "at (UTC)", "rule": "rule", "model": "model", "request": "request",
        "attempt": "attempt",
    },
    "zh": {
        "title": "数据出境（出域）审计报告", "asked": "查询条件", "from": "自", "until": "至",
        "tenant": "租户", "class": "敏感级别", "jurisdiction": "法域", "provider": "供应商",
        "any": "不限", "found": "结果", "none": "没有数据离开本单位场所。",
        "left": "次调用离开本单位场所", "abroad": "次离开中国大陆",
        "no_abroad": "没有数据离开中国大陆。", "calls": "调用次数", "record": "记录完整性",
        "whole": "完整：所有条目均成立，无缺失", "broken": "已损坏",
        "entries": "个条目，分布于 {writers} 条链", "checkpoints": "个检查点，最后一个在",
        "no_checkpoint": "尚无检查点：数据库之外没有任何证据证明记录的末端",
        "unproven": "最后一个检查点之后的记录尚无外部证据。",
        "rows": "明细", "shown": "此处为前 {shown} 条，共 {all} 条；全部见 {csv}。",
        "made": "生成时间", "key": "签名密钥", "how": "如何核验",
        "steps": "ballast audit check {html} --public-key KEY；公钥须从本页面以外的渠道取得。",
        "at": "时间 (UTC)", "rule": "规则", "model": "模型", "request": "请求", "attempt": "尝试",
    },
}  # fmt: skip
_STYLE = (
    "body{font:15px/1.5 system-ui,'PingFang SC','Microsoft YaHei',sans-serif;max-width:70em;"
    "margin:2em auto;padding:0 1em;color:#222}table{border-collapse:collapse;margin:.5em 0}"
    "td,th{border:1px solid #bbb;padding:.2em .6em;text-align:left;font-size:13px}"
    ".bad{color:#b00020;font-weight:bold}.num{text-align:right}@media print{body{margin:0}}"
)


class Examined(Protocol):
    """What `auditor.Verdict` tells."""

    @property
    def faults(self) -> list[Any]: ...
    @property
    def entries(self) -> int: ...
    @property
    def writers(self) -> int: ...
    @property
    def checkpoints(self) -> int: ...
    @property
    def last_ms(self) -> int: ...


class Scope(NamedTuple):
    """What was asked, in words."""

    since_ms: int
    until_ms: int
    tenant: str = ""
    sensitivity: str = ""
    jurisdiction: str = ""
    provider: str = ""


class Gathered:
    """Takes rows one by one: counts all, keeps the first."""

    def __init__(self) -> None:
        self.count = self.abroad = 0
        self.first: list[EgressIntent] = []
        self.groups: Counter[tuple[str, str, str, str]] = Counter()

    def take(self, row: EgressIntent) -> None:
        """The next row."""
        self.count += 1
        self.abroad += row.jurisdiction != MAINLAND
        if len(self.first) < ROWS_SHOWN:
            self.first.append(row)
        key = (row.provider, row.jurisdiction, class_name(row.sensitivity), row.tenant)
        if key in self.groups or len(self.groups) < GROUPS_MAX:
            self.groups[key] += 1
        else:
            self.groups["…", "", "", ""] += 1


class Printed(NamedTuple):
    """How the files are called, and who signs."""

    html: str
    csv: str
    fingerprint: str
    at_ms: int


def page(scope: Scope, found: Gathered, examined: Examined, printed: Printed, lang: str) -> str:
    """The page."""
    words = WORDS[lang]
    say = html.escape
    made = f"{words['made']} {moment(printed.at_ms)}, {words['key']} {printed.fingerprint}"
    sections = (
        ("asked", _asked(scope, words)), ("found", _found(found, words)),
        ("record", _record(examined, words)), ("rows", _rows(found, printed, words)),
        ("how", f"<p>{say(made)}<p><code>{say(words['steps'].format(html=printed.html))}</code>"),
    )  # fmt: skip
    title = say(words["title"])
    parts = [
        f"<!doctype html><html lang={lang}><meta charset=utf-8><title>{title}</title>",
        f"<style>{_STYLE}</style><h1>{title}</h1>",
        *(f"<h2>{say(words[name])}</h2>{body}" for name, body in sections),
        "</html>",
    ]
    return "\n".join(parts) + "\n"


def _asked(scope: Scope, words: dict[str, str]) -> str:
    rows = [(words["from"], moment(scope.since_ms)), (words["until"], moment(scope.until_ms))]
    for name, value in (
        ("tenant", scope.tenant), ("class", scope.sensitivity),
        ("jurisdiction", scope.jurisdiction), ("provider", scope.provider),
    ):  # fmt: skip
        rows.append((words[name], value or words["any"]))
    return _table([], rows)


def _found(found: Gathered, words: dict[str, str]) -> str:
    if not found.count:
        return f"<p><b>{html.escape(words['none'])}</b>"
    abroad = f"{found.abroad} {words['abroad']}." if found.abroad else words["no_abroad"]
    said = f"<p><b>{found.count} {html.escape(words['left'])}. {html.escape(abroad)}</b>"
    heads = [words[n] for n in ("provider", "jurisdiction", "class", "tenant", "calls")]
    rows = [(*key, str(count)) for key, count in found.groups.most_common()]
    return said + _table(heads, rows)


def _record(examined: Examined, words: dict[str, str]) -> str:
    told = f"{examined.entries} {words['entries'].format(writers=examined.writers)}"
    lines = [f"<p>{html.escape(told)}"]
    if examined.faults:
        lines.append(f"<p class=bad>{html.escape(words['broken'])}")
        lines.append(_table([], [tuple(map(str, fault)) for fault in examined.faults[:50]]))
    else:
        lines.append(f"<p><b>{html.escape(words['whole'])}</b>")
    if examined.checkpoints:
        last = f"{examined.checkpoints} {words['checkpoints']} {moment(examined.last_ms)}."
        lines.append(f"<p>{html.escape(last)} {html.escape(words['unproven'])}")
    else:
        lines.append(f"<p class=bad>{html.escape(words['no_checkpoint'])}")
    return "\n".join(lines)


def _rows(found: Gathered, printed: Printed, words: dict[str, str]) -> str:
    shown = words["shown"].format(shown=len(found.first), all=found.count, csv=printed.csv)
    heads = [words[name] for name in COLUMNS]
    return f"<p>{html.escape(shown)}" + _table(heads, [cells(row) for row in found.first])


def _table(heads: list[str], rows: Sequence[tuple[str, ...]]) -> str:
    head = "".join(f"<th>{html.escape(name)}" for name in heads)
    lines = ["<tr>" + "".join(f"<td>{html.escape(cell)}" for cell in row) for row in rows]
    return "<table>" + (f"<tr>{head}" if head else "") + "".join(lines) + "</table>"


def cells(row: EgressIntent) -> tuple[str, ...]:
    """A row as COLUMNS."""
    return (
        moment(row.at_ms), row.tenant, class_name(row.sensitivity), row.rule, row.jurisdiction,
        row.provider, row.upstream_model, row.request_id, str(row.attempt),
    )  # fmt: skip


def csv_line(row: tuple[str, ...]) -> str:
    """A line for spreadsheets: what would be a formula is text."""
    safe = (f"'{cell}" if cell[:1] in ("=", "+", "-", "@", "\t", "\r") else cell for cell in row)
    return ",".join('"' + cell.replace('"', '""') + '"' for cell in safe) + "\r\n"


def moment(at_ms: int) -> str:
    """UTC, to the second; what no calendar holds as it is."""
    try:
        return datetime.fromtimestamp(at_ms / 1e3, UTC).strftime("%Y-%m-%d %H:%M:%S")
    except (OverflowError, ValueError, OSError):
        return str(at_ms)


def digest(data: bytes) -> str:
    """SHA-256, hexadecimal."""
    return hashlib.sha256(data).hexdigest()
