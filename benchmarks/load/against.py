"""`compare A B`: what differs between two runs, and how sure that is."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import msgspec

from benchmarks.load import compare, flags, results
from benchmarks.load.compare import Compared
from benchmarks.load.display import called, console, heads, tell_compared, words
from benchmarks.load.parser import Parser
from benchmarks.load.results import Result
from benchmarks.load.wording import Language, spoken, text, word
from benchmarks.telling import tell
from models.plots.page import Card, Table, in_language, page


def main(argv: Sequence[str]) -> int:
    """Entry point."""
    parser = Parser("benchmarks.load compare", __doc__)
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
    language: Language = "en" if given.json else spoken()
    warnings = _warnings(a, b, language)
    for warning in warnings:
        console.print(f"[yellow]{warning}[/yellow]", soft_wrap=True)
    if given.json:
        rows = [msgspec.structs.asdict(one) | {"verdict": one.verdict} for one in found]
        told = msgspec.json.encode({"figures": rows, "warnings": warnings}, enc_hook=str)
        print(msgspec.json.format(told).decode())
    else:
        tell_compared(found)
    if given.html is not None:
        results.put(given.html, _page((a, b), found, spoken()).encode())
    return int(given.fail_if_worse and any(one.verdict == "worse" for one in found))


def _warnings(a: Result, b: Result, language: Language) -> list[str]:
    """What the reader must know before the figures."""
    differ = compare.differences(a.scenario, b.scenario)
    found = [text("not_alike", language, line=tell(line, language)) for line in differ]
    for side, one in (("A", a), ("B", b)):
        why = one.summary.told(language)
        found += [text("side_invalid", language, side=side, reason=reason) for reason in why]
        if one.summary.is_partial:
            found.append(text("side_partial", language, side=side))
    return found


def _page(runs: tuple[Result, Result], found: Sequence[Compared], language: Language) -> str:
    a, b = runs
    warnings = _warnings(a, b, language)
    rows = [(called(one, language), *words(one, language)) for one in found]
    card = Card(word("b_against_a", language), "; ".join(warnings) or word("alike", language),
                table=Table(heads(language), rows), is_wide=True)  # fmt: skip
    lead = text("two_lead", language, a=f"{a.url}, {a.provenance.at}",
                b=f"{b.url}, {b.provenance.at}")  # fmt: skip
    title = (language == "zh" and a.scenario.title_zh) or a.scenario.title
    document = page(text("two_runs", language, title=title), lead, (), [card],
                    word("blocks", language))  # fmt: skip
    return in_language(document, "zh-CN" if language == "zh" else "en")
