"""`python -m benchmarks.headline [--check]`: the four numbers that README.md and README.zh.md begin
with, taken from the pages that own them.

Run it after a page's figures have changed; `--check` writes nothing and ends with 1 where a README
says something else. A number that a page no longer has is an error, never a gap.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.gateway.report import filled

ROOT = Path(__file__).resolve().parents[1]
READMES = ("README.md", "README.zh.md")
GATEWAY, SCALING, ROLLOUT = "docs/benchmarks.md", "docs/autoscaler.md", "docs/rollout.md"
WINDOWS = ("reasoning_day@12h-18h", "mlarge_day@12h-14h")
"""Of published traces, simulated request by request."""


class Missing(Exception):  # noqa: N818 - a state
    """A page does not have the number where it is looked for."""


class Found(NamedTuple):
    """The numbers, as their pages write them."""

    cpu: str
    """Milliseconds of a plain request, with its range."""
    ratio: str
    """To vllm-router in the same run."""
    first: str
    """Milliseconds added to the first streamed byte at the median."""
    saved: tuple[str, ...]
    """Of the cost of all API, for each of WINDOWS."""
    calls: tuple[str, ...]
    """Calls of each run of the rollout drill; none of them failed."""


def found(root: Path = ROOT) -> Found:
    """Read the pages. Raises Missing."""
    gateway = _between((root / GATEWAY).read_text("utf-8"), "peers")
    scaling = (root / SCALING).read_text("utf-8")
    rollout = " ".join((root / ROLLOUT).read_text("utf-8").split())
    # The longest of the drills replaces engine, gateways and model.
    runs = re.findall(r"([\d,]+) and ([\d,]+) calls in two runs, none failed", rollout)
    if not runs:
        raise Missing(f"{ROLLOUT}: no drill of which it says that none failed")
    return Found(
        _cell(gateway, "ballast", "CPU ms / request"),
        _cell(gateway, r"CPU per request.*ratio to vllm-router", "measured"),
        _cell(gateway, "ballast", r"added (ms, first byte|first byte p50, ms)"),
        tuple(_cell(scaling, rf"{re.escape(w)} \| Ballast", "saved") for w in WINDOWS),
        max(runs, key=lambda pair: int(pair[0].replace(",", ""))),
    )


def _between(page: str, name: str) -> str:
    part = re.search(rf"(?s)<!-- figures: {name} -->(.*?)<!-- end: {name} -->", page)
    if part is None:
        raise Missing(f"no markers of the figures {name!r}")
    return part[1]


def _cell(text: str, row: str, column: str) -> str:
    """Of the first table with such a column and such a row: what both share. Raises Missing."""
    for table in re.split(r"\n\s*\n", text):
        lines = [line for line in table.strip().splitlines() if line.startswith("|")]
        heads = [head.strip() for head in lines[0].split("|")] if lines else []
        at = next((n for n, head in enumerate(heads) if re.match(column, head)), None)
        for line in lines[2:] if at is not None else ():
            if re.match(rf"\| {row} \|", line):
                cells = [cell.strip() for cell in line.split("|")]
                assert at is not None
                return cells[at]
    raise Missing(f"no table with a row {row!r} and a column {column!r}")


def block(numbers: Found, language: str) -> str:
    """The table of a README."""
    rows = _chinese(numbers) if language == "zh" else _english(numbers)
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


Rows = list[tuple[str, ...]]


def _english(numbers: Found) -> Rows:
    drill = (
        "calls failed while model, engine and gateways were replaced (drills, simulated engines)"
    )
    traces = "saved against all API (two windows of published traffic, simulated)"
    cpu = f"{numbers.cpu} ms; {numbers.ratio} times vllm-router's in the same run"
    return [
        ("", "measured", "where"),
        ("---",) * 3,
        ("the gateway's CPU for a request", cpu, _link(GATEWAY)),
        ("what it adds to the first byte, p50", f"{numbers.first} ms", _link(GATEWAY)),
        (traces, " and ".join(numbers.saved), _link(SCALING, "#results-request-by-request")),
        (drill, " and ".join(f"0 of {n}" for n in numbers.calls), _link(ROLLOUT, "#tried")),
    ]


def _chinese(numbers: Found) -> Rows:
    drill = "更换模型、引擎和网关期间失败的调用（演练，模拟引擎）"
    traces = "比全部用 API 省下的钱（两段公开流量，仿真）"
    cpu = f"{numbers.cpu} 毫秒；同一轮里是 vllm-router 的 {numbers.ratio} 倍"
    rows: Rows = [
        ("", "测得", "出处"),
        ("---",) * 3,
        ("网关处理一个请求的 CPU", cpu, _link(GATEWAY)),
        ("给首字节增加的时间，p50", f"{numbers.first} 毫秒", _link(GATEWAY)),
        (traces, "、".join(numbers.saved), _link(SCALING, "#results-request-by-request")),
        (drill, "、".join(f"{n} 次中 0 次" for n in numbers.calls), _link(ROLLOUT, "#tried")),
    ]
    spread = re.compile(r" \((\S+) to (\S+?)\)")
    return [tuple(spread.sub(r"（\1 到 \2）", cell) for cell in row) for row in rows]


def _link(page: str, anchor: str = "") -> str:
    return f"[{page}]({page}{anchor})"


def main(argv: Sequence[str]) -> int:
    """Entry point."""
    if set(argv) - {"--check"}:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        numbers = found()
    except Missing as missing:
        print(f"headline: {missing}", file=sys.stderr)
        return 1
    is_same = True
    for name in READMES:
        path = ROOT / name
        page = path.read_text("utf-8")
        wanted = filled(page, "headline", block(numbers, "zh" if ".zh." in name else "en"))
        is_same = is_same and page == wanted
        if page != wanted and not argv:
            path.write_text(wanted, "utf-8")
            print(f"{name}: written")
    if argv and not is_same:
        print("a README says something else: `python -m benchmarks.headline`", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
