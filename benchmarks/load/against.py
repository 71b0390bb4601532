"""`compare A B`: what differs between two runs, and how sure that is."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import msgspec

from benchmarks.load import compare, flags, results
from benchmarks.load.display import console, tell_compared, words
from models.plots.page import Card, Table, page


def main(argv: Sequence[str]) -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="benchmarks.load compare", description=__doc__)
    parser.add_argument("a", type=Path, metavar="A", help="folder of a run")
    parser.add_argument("b", type=Path, metavar="B", help="folder of another")
    parser.add_argument("--json", action="store_true", help="JSON instead of a table")
    parser.add_argument("--html", type=Path, help="write a page as well")
    parser.add_argument("--fail-if-worse", action="store_true", help="exit 1 when a figure of B is")
    given = parser.parse_args(argv)
    return flags.guarded(lambda: _main(given))


def _main(given: argparse.Namespace) -> int:
    (a, rows_a), (b, rows_b) = results.read(given.a), results.read(given.b)
    found = compare.compare((a.scenario, rows_a), (b.scenario, rows_b))
    warnings = [f"not asked alike: {line}" for line in compare.differences(a.scenario, b.scenario)]
    for name, one in (("A", a), ("B", b)):
        warnings += [f"{name} is invalid: {reason}" for reason in one.summary.reasons]
        if one.summary.is_partial:
            warnings.append(f"{name} is partial")
    for warning in warnings:
        console.print(f"[yellow]{warning}[/yellow]", soft_wrap=True)
    if given.json:
        rows = [msgspec.structs.asdict(one) | {"verdict": one.verdict} for one in found]
        print(msgspec.json.format(msgspec.json.encode({"figures": rows, "warnings": warnings}))
              .decode())  # fmt: skip
    else:
        tell_compared(found)
    if given.html is not None:
        table = Table(("figure", "A", "B", "B against A", "95 % interval", "B is"),
                      [(one.name, *words(one)) for one in found])  # fmt: skip
        card = Card("B against A", "; ".join(warnings) or "Asked alike; both runs are valid.",
                    table=table, is_wide=True)  # fmt: skip
        lead = f"A: {a.url}, {a.provenance.at}. B: {b.url}, {b.provenance.at}."
        text = page(f"{a.scenario.title}: two runs", lead, (), [card],
                    "Intervals: bootstrap over blocks of time.")  # fmt: skip
        results.put(given.html, text.encode())
    return int(given.fail_if_worse and any(one.verdict == "worse" for one in found))
