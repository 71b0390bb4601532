"""The runs by request as a table in the page: `python -m benchmarks.scaling.tables OUT.jsonl ...`.

Reads what `python -m benchmarks.scaling` wrote, from several files if parts ran beside each other,
and replaces what stands between the page's markers; nobody types a figure in.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks.gateway.report import filled

PAGE = Path(__file__).parents[2] / "docs" / "autoscaler.md"
NAME = "scaling by request"
PARTS = ("requests", "requests-away", "hours", "hours-away")
HEAD = (
    "| trace | policy | cost / optimum | in time (range) | own share | starts (optimum) | saved"
    " | edge | seeds |\n|---|---|---|---|---|---|---|---|---|"
)


def table(lines: Iterable[Mapping[str, Any]]) -> str:
    """One row for each trace and policy, the cheapest of a trace first."""
    found: dict[tuple[int, str, str], list[Mapping[str, Any]]] = {}
    for line in lines:
        if line["part"] in PARTS:
            key = (PARTS.index(line["part"]), line["trace"], line["policy"])
            found.setdefault(key, []).append(line)
    cases = sorted(found, key=lambda key: (key[:2], mean(r["cost"] for r in found[key])))
    return "\n".join([HEAD, *(_row(key, found[key]) for key in cases)])


def _row(key: tuple[int, str, str], runs: Sequence[Mapping[str, Any]]) -> str:
    part, trace, policy = key
    name = trace.removeprefix("servegen_").replace(".parquet", "")
    name += ", API away" if PARTS[part].endswith("away") else ""
    costs, kept = [run["cost"] for run in runs], [run["kept"] for run in runs]
    cost = f"{mean(costs):.3f}"
    in_time = f"{mean(kept):.2%}"
    if len(runs) > 1:
        cost += f" ± {(max(costs) - min(costs)) / 2:.3f}"
        in_time += f" ({min(kept):.2%} to {max(kept):.2%})"
    starts = f"{mean(run['starts'] for run in runs):.0f} ({runs[0]['optimum_starts']})"
    share, saved, edge = (
        mean(run[what] for run in runs) for what in ("own_share", "saved", "edge")
    )
    return (
        f"| {name} | {policy} | {cost} | {in_time} | {share:.1%} | {starts} | {saved:.1%}"
        f" | {edge:.2f} | {len(runs)} |"
    )


def main() -> None:
    """Fill the page."""
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("runs", type=Path, nargs="+")
    flags.add_argument("--page", type=Path, default=PAGE)
    flags.add_argument("--name", default=NAME, help="Of the markers to fill.")
    given = flags.parse_args()
    lines = [json.loads(text) for path in given.runs for text in path.read_text().splitlines()]
    given.page.write_text(filled(given.page.read_text(), given.name, table(lines)))


if __name__ == "__main__":
    main()
