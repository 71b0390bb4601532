"""This tree's guard beside another checkout's: the same work, turn by turn, as ratios.

Each turn is a process of its own, so that both sides see the same machine whatever else it does;
times of CPU, the best of many in a turn, since what disturbs only adds.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import count
from pathlib import Path
from statistics import median
from typing import Any

import msgspec

from benchmarks.guard.samples import CHINESE, ENGLISH, SEED, term_list, tokens
from benchmarks.guard.speed import TERMS, _event, _vault
from serving.guard import (
    channels,
    folding,
    inspector,
    lists,
    placeholders,
    reading,
    screening,
    terms,
    values,
)
from serving.records import Block, Usage

BYTES, TIMES = 4096, 80
TURNS, TOGETHER = 16, 16
LETTERS = "qwertyuiop"
"""For digits: a number would have to be read closely."""
ROOT = Path(__file__).parents[2]


def work() -> dict[str, float]:
    """Microseconds of CPU of each piece of work, by the packages that are to be found."""
    fold = folding.Folding(lists.simplified())
    common = [*ENGLISH.split()[:4], CHINESE[2:4], CHINESE[9:11]]
    flags = [values.Term(text, "list", "c", values.Action.FLAG) for text in common]
    entries = term_list(TERMS, random.Random(SEED))
    clean, full = terms.Terms(entries, fold), terms.Terms([*entries, *flags], fold)
    policy = values.Policy(lists=frozenset({"list"}), personal=values.PERSONAL_ACTIONS)
    texts = {"Chinese": CHINESE, "English": ENGLISH, "mixed": f"{CHINESE} {ENGLISH} "}
    out = {}
    for name, text in texts.items():
        prompt = (text * (BYTES // len(text.encode()) + 1)).encode()[:BYTES].decode(errors="ignore")
        body = msgspec.json.encode([{"role": "user", "content": prompt}])
        fields = {"messages": msgspec.Raw(body)}
        for what, known in (("without a term", clean), ("with terms", full)):
            rules = reading.Rules(policy, known, fold)

            def screen(
                rules: reading.Rules = rules, fields: dict[str, msgspec.Raw] = fields
            ) -> None:
                screening.screen(fields, rules, lambda n: placeholders.nonce(b"b", "r", n))

            out[f"screen a prompt, {name}, {what}"] = best(screen)
        out[f"screen the next turn of a talk, {name}"] = best(
            talk(text, rules_of(policy, clean, fold))
        )
        blocks = [Block(_event(piece), 1) for piece in tokens(text)]

        def inspect(blocks: list[Block] = blocks) -> None:
            asked = inspector.Asked(lambda events: Usage(1, events))
            one = inspector.Inspector(channels.Output(policy, clean, _vault()), asked)
            for block in blocks:
                one.feed(block)

        out[f"inspect a stream, {name}, events apart"] = best(inspect)
        together = [
            Block(b"".join(block.data for block in blocks[at : at + TOGETHER]), TOGETHER)
            for at in range(0, len(blocks), TOGETHER)
        ]
        out[f"inspect a stream, {name}, {TOGETHER} events at once"] = best(
            partial(inspect, together)
        )
    return out


def rules_of(policy: Any, known: Any, fold: Any) -> Any:
    """Rules that remember, where a tree knows how to."""
    try:
        memory = importlib.import_module("serving.guard.memory")
    except ImportError:
        return reading.Rules(policy, known, fold)
    return reading.Rules(policy, known, fold, memory.Memory(b"bench", known).of("bench"))


def talk(text: str, rules: Any) -> Callable[[], None]:
    """Screens a talk of so many turns, all but the last of which were met before."""
    said = (text * (BYTES // len(text) + 1))[:BYTES]
    size = len(said) // TURNS
    past = [said[at : at + size] for at in range(0, len(said), size)]
    numbers = count()

    def screen() -> None:
        turns = [
            *past,
            f"{''.join(map(LETTERS.__getitem__, map(int, str(next(numbers)))))} {past[0]}",
        ]
        body = msgspec.json.encode([{"role": "user", "content": turn} for turn in turns])
        fields = {"messages": msgspec.Raw(body)}
        screening.screen(fields, rules, lambda n: placeholders.nonce(b"b", "r", n))

    return screen


def best(task: Callable[[], None]) -> float:
    """The least microseconds of CPU one run takes."""
    least = float("inf")
    for _ in range(TIMES):
        start = time.process_time_ns()
        task()
        least = min(least, (time.process_time_ns() - start) / 1000)
    return least


def turn(tree: Path) -> dict[str, float]:
    """One turn with a tree's packages."""
    done = subprocess.run(
        [sys.executable, "-P", str(Path(__file__))], cwd=tree, check=True,
        env={**os.environ, "PYTHONPATH": str(tree)}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def main(argv: Sequence[str]) -> int:
    """Print how many times faster this tree is than another checkout, by piece of work."""
    parser = argparse.ArgumentParser(prog="benchmarks.guard against", description=main.__doc__)
    parser.add_argument("tree", type=Path, help="a checkout of the state before")
    parser.add_argument("--turns", type=int, default=5)
    given = parser.parse_args(argv)
    pairs = [(turn(given.tree.resolve()), turn(ROOT)) for _ in range(given.turns)]
    print("| what | times faster, median (minimum to maximum) |\n| --- | --- |")
    for what in pairs[0][0]:
        ratios = [before[what] / after[what] for before, after in pairs]
        print(f"| {what} | {median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) |")
    return 0


if __name__ == "__main__":
    print(json.dumps(work()))
