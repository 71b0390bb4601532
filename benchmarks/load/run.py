"""`run`: one load on one target, measured, written down, told."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
import uvloop
from rich.markup import escape

from benchmarks.gateway.machine import Provenance
from benchmarks.load import crew, flags, probing, report, results, schedule, traces
from benchmarks.load.counting import Words
from benchmarks.load.crew import Order
from benchmarks.load.display import Watching, console, tell
from benchmarks.load.parser import Parser
from benchmarks.load.results import Result, ResultsError
from benchmarks.load.seen import Seen, Shard
from benchmarks.load.sender import Live
from benchmarks.load.summary import Summary, summary
from benchmarks.load.wire import Target
from benchmarks.load.wording import spoken, text, word
from benchmarks.telling import noted
from benchmarks.telling import tell as in_words

PAGES = {"report.html": "en", "report.zh.html": "zh"}
KEY_NOTE = word("billed", "en")
"""As results keep it; told by the reader's language."""


def main(argv: Sequence[str]) -> int:
    """Entry point."""
    parser = Parser("benchmarks.load run", __doc__)
    flags.add(parser)
    parser.add_argument("--goodput", type=float, default=0.0, metavar="SHARE",
                        help="exit 1 when fewer requests kept their goal")  # fmt: skip
    given = parser.parse_args(argv)
    return flags.guarded(lambda: _main(given, argv))


def _main(given: argparse.Namespace, argv: Sequence[str]) -> int:
    scenario = flags.with_rate(given, flags.scenario_of(given))
    target = flags.target_of(given)
    # Bad rows and an empty schedule are found here, before anything is sent.
    rows = traces.read(scenario.arrivals)
    scenario, said = schedule.fitted(scenario, rows)
    made = schedule.made(scenario, given.seed, rows)
    results.prepare(given.out)
    origin = flags.origin(["run", *argv])
    words, notes = uvloop.run(prepared(target, given.tokenizer))
    if said:
        notes.append(str(said))
        console.print(f"[yellow]{escape(in_words(said, spoken()))}[/yellow]", soft_wrap=True)
    rate = len(made) / scenario.duration_s if rows else 0.0
    order = Order(scenario, given.seed, target, words, given.processes, rate,
                  flags.texts_of(given))  # fmt: skip
    shards = uvloop.run(driven(order))
    found = summary(scenario, shards)
    tell(found)
    result = result_of(order, found, (notes, origin))
    save(given.out, result, shards)
    if found.is_partial:
        return flags.STOPPED
    return flags.INVALID if found.reasons or found.total.goodput < given.goodput else 0


async def prepared(target: Target, tokenizer: str) -> tuple[Words, list[str]]:
    """Look at the target before a run; what the reader must know. Raises TargetError."""
    notes = await probing.probe(target)
    words = await probing.words(target, tokenizer)
    if not words.is_exact:
        notes.append(word("inexact", "en"))
    for said in notes:
        shown = noted(in_words(said, spoken()), spoken())
        console.print(f"[yellow]{escape(shown)}[/yellow]", soft_wrap=True)
    return words, [str(said) for said in notes]


async def driven(order: Order, watching: bool = True) -> list[Shard]:
    """Run it; the first Ctrl-C or SIGTERM ends it early with what there is. Raises CrewError."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    scenario = order.scenario
    start_s = time.monotonic()
    try:
        if not watching:
            return await crew.run(order, lambda _: None, stop)
        title = (spoken() == "zh" and scenario.title_zh) or scenario.title
        with Watching(title, scenario.duration_s) as screen:

            def watch(lives: list[Live]) -> None:
                screen.at(time.monotonic() - start_s, lives)

            return await crew.run(order, watch, stop)
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


def result_of(order: Order, found: Summary, told: tuple[list[str], Provenance]) -> Result:
    """The run as it is written down."""
    notes = list(told[0])
    if found.total.api_share > 0 and not order.target.pin:
        notes.append(KEY_NOTE)
        console.print(f"[yellow]{noted(KEY_NOTE, spoken())}[/yellow]", soft_wrap=True)
    return Result(
        scenario=order.scenario, seed=order.seed, url=order.target.url, model=order.target.model,
        pin=order.target.pin, tokens_by=order.words.means, notes=notes, summary=found,
        provenance=told[1],
    )  # fmt: skip


def save(folder: Path, result: Result, shards: Sequence[Shard]) -> None:
    """All files. Raises ResultsError; then the figures at least are on standard output."""
    rows: list[Seen] = sorted((r for s in shards for r in s.rows), key=lambda r: r.due_s)
    try:
        results.write(folder, result, rows)
        for name, language in PAGES.items():
            page = report.made(result, rows, "zh" if language == "zh" else "en")
            results.put(folder / name, page.encode())
    except ResultsError:
        print(msgspec.json.encode(result).decode())
        raise
    console.print(text("results", spoken(), folder=folder), soft_wrap=True)
    sys.stderr.flush()
