"""What the guard costs: per event of a stream, per byte of an input, per change of a list.

CPU time of this process, many events a round, rounds apart: the machine may be busy with other
work. The relay does none of this, so its cost is the absence of these figures.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import ahocorasick  # type: ignore[import-not-found]
import msgspec

from benchmarks.gateway.contenders import ROOT
from benchmarks.gateway.machine import Provenance, provenance
from benchmarks.gateway.report import filled
from benchmarks.guard.samples import CHINESE, ENGLISH, SEED, term_list, tokens
from serving.guard.channels import Output
from serving.guard.filtering import TermFilter
from serving.guard.folding import Folding
from serving.guard.inspector import Asked, Inspector
from serving.guard.lists import Lists, simplified
from serving.guard.placeholders import Vault, nonce
from serving.guard.reading import Rules
from serving.guard.screening import screen
from serving.guard.spans import as_bytes
from serving.guard.terms import Terms
from serving.guard.values import PERSONAL_ACTIONS, Kind, Policy, Term
from serving.records import Block, Usage

TERMS = 20_000
SCAN_US, INSPECT_US = 3.0, 15.0
"""The limits: scan of one event, and the whole path of one event over the relay."""


class Figure(NamedTuple):
    """One line of the report."""

    what: str
    unit: str
    values: tuple[float, ...]
    limit: float | None = None

    def row(self) -> str:
        """As a table has it."""
        low, high = min(self.values), max(self.values)
        holds = "" if self.limit is None else ("yes" if median(self.values) <= self.limit else "no")
        limit = "" if self.limit is None else f"{self.limit:g}"
        cell = f"{median(self.values):.2f} ({low:.2f} to {high:.2f})"
        return f"| {self.what} | {self.unit} | {cell} | {limit} | {holds} |"


def timed(work: Callable[[], None], items: int, rounds: int) -> tuple[float, ...]:
    """Microseconds of CPU per item, by round."""
    work()
    out = []
    for _ in range(rounds):
        times, start = 0, time.process_time()
        while time.process_time() - start < 0.25:
            work()
            times += 1
        out.append(1e6 * (time.process_time() - start) / (times * items))
    return tuple(out)


def _event(text: str) -> bytes:
    event = {
        "id": "chatcmpl-0123456789abcdef0123456789abcdef", "object": "chat.completion.chunk",
        "created": 1_763_800_000, "model": "qwen3-32b",
        "choices": [{"index": 0, "delta": {"content": text}, "logprobs": None,
                     "finish_reason": None}],
    }  # fmt: skip
    return b"data: " + msgspec.json.encode(event) + b"\n\n"


def _vault() -> Vault:
    vault = Vault(nonce(b"bench", "request"))
    vault.placeholder(Kind.PHONE, "13800138000")
    return vault


def layouts(entries: Sequence[Term], rounds: int) -> list[Figure]:
    """Why the automaton holds bytes: its root walks its children one by one."""
    text, out = "我们今天讨论", []
    spellings: dict[str, Callable[[str], str]] = {"characters": str, "bytes of UTF-8": as_bytes}
    for name, spelling in spellings.items():
        automaton = ahocorasick.Automaton()
        for term in entries:
            automaton.add_word(spelling(term.text), term)
        automaton.make_automaton()

        def work(automaton: Any = automaton, spelling: Callable[[str], str] = spelling) -> None:
            for _ in automaton.iter(spelling(text)):
                pass

        out.append(Figure(f"search of six characters, keys of {name}", "us",
                          timed(work, 1, rounds)))  # fmt: skip
    return out


def scans(terms: Terms, rounds: int) -> list[Figure]:
    """The scan alone."""
    out = []
    for name, text in (("Chinese", CHINESE), ("English", ENGLISH)):
        pieces = tokens(text)

        def work(pieces: list[str] = pieces) -> None:
            found = TermFilter(terms, frozenset({"list"}), "*", lambda _: None)
            for piece in pieces:
                found.feed(piece)

        values = timed(work, len(pieces), rounds)
        out.append(Figure(f"scan, {name}, {TERMS} terms", "us/event", values, SCAN_US))
    return out


def inspections(terms: Terms, rounds: int) -> list[Figure]:
    """The whole path of an event: read, scan, hold back, write anew where something changed."""
    out = []
    settings = {
        "terms": (Policy(lists=frozenset({"list"})), None),
        "terms, placeholders, marks": (
            Policy(lists=frozenset({"list"}), ai_text="(AI)", ai_producer="p"), _vault()),
        "placeholders only": (Policy(), _vault()),
    }  # fmt: skip
    for name, text in (("Chinese", CHINESE), ("English", ENGLISH)):
        blocks = [Block(_event(piece), 1) for piece in tokens(text)]
        for what, (policy, vault) in settings.items():

            def work(
                blocks: list[Block] = blocks, policy: Policy = policy, vault: Vault | None = vault
            ) -> None:
                asked = Asked(lambda events: Usage(1, events), mark={"Label": "1"})
                inspector = Inspector(Output(policy, terms, vault), asked)
                for block in blocks:
                    inspector.feed(block)

            values = timed(work, len(blocks), rounds)
            out.append(Figure(f"inspect, {name}, {what}", "us/event", values, INSPECT_US))
    return out


def screenings(terms: Terms, folding: Folding, rounds: int) -> list[Figure]:
    """Inputs of some size, everything looked for."""
    out = []
    policy = Policy(lists=frozenset({"list"}), personal=PERSONAL_ACTIONS)
    rules = Rules(policy, terms, folding)
    for name, text in (("Chinese", CHINESE), ("English", ENGLISH)):
        for size in (500, 64_000):
            content = (
                (text * (size // len(text.encode()) + 1)).encode()[:size].decode("utf-8", "ignore")
            )
            body = msgspec.json.encode([{"role": "user", "content": content}])
            fields = {"model": msgspec.Raw(b'"m"'), "messages": msgspec.Raw(body)}

            def work(fields: dict[str, msgspec.Raw] = fields) -> None:
                screen(fields, rules, lambda n: nonce(b"bench", "request", n))

            values = timed(work, 1, rounds)
            out.append(Figure(f"screen an input, {name}, {size} bytes", "us", values))
    return out


async def _stall(folder: Path, rounds: int) -> tuple[list[float], list[float]]:
    """(milliseconds until a changed list holds, longest silence of the loop meanwhile)."""
    lists = Lists(folder)
    lists.load()
    took, silent = [], []
    for number in range(rounds):
        (folder / "more.txt").write_text(f"#! action: flag\nnumber {number}\n", "utf-8")
        done = asyncio.create_task(lists.refresh())
        start = last = time.perf_counter()
        longest = 0.0
        while not done.done():
            await asyncio.sleep(0)
            now = time.perf_counter()
            longest, last = max(longest, now - last), now
        took.append(1e3 * (time.perf_counter() - start))
        silent.append(1e3 * longest)
    return took, silent


def reloads(entries: Sequence[Term], rounds: int) -> list[Figure]:
    """A list that changes while the loop runs."""
    with tempfile.TemporaryDirectory() as name:
        text = "\n".join(["#! action: block", *(term.text for term in entries)])
        (Path(name) / "list.txt").write_text(text, "utf-8")
        took, silent = asyncio.run(_stall(Path(name), rounds))
    return [
        Figure(f"take up a changed list, {len(entries)} terms", "ms", tuple(took)),
        Figure("the loop's longest silence meanwhile", "ms", tuple(silent)),
    ]


def main(argv: Sequence[str]) -> int:
    """Print the figures, with the machine they come from."""
    parser = argparse.ArgumentParser(prog="benchmarks.guard speed", description=main.__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--page", type=Path, help="put the table into this page")
    given = parser.parse_args(argv)
    source = provenance(argv, ROOT, {})
    folding = Folding(simplified())
    entries = term_list(TERMS, random.Random(SEED))
    terms = Terms(entries, folding)
    figures = [
        *layouts(entries, given.rounds), *scans(terms, given.rounds),
        *inspections(terms, given.rounds),
        *screenings(terms, folding, given.rounds), *reloads(entries, given.rounds),
    ]  # fmt: skip
    text = markdown(figures, given.rounds, source)
    print(text)
    if given.page:
        page = given.page.read_text("utf-8")
        given.page.write_text(filled(page, "speed", text), "utf-8")
    return 0


def markdown(figures: Sequence[Figure], rounds: int, source: Provenance) -> str:
    """A table, and where it comes from."""
    dirty = " with changes" if source.is_dirty else ""
    loads = " ".join(f"{value:.2f}" for value in source.load_before)
    versions = ", ".join(f"{name} {value}" for name, value in source.versions.items())
    where = (
        f"`python -m benchmarks.guard speed`, {rounds} rounds, seed {SEED}; {source.at}, commit "
        f"{source.commit[:12]}{dirty}; {source.cpu_model}, {source.cores} cores, Linux "
        f"{source.kernel}, load average before {loads}; {versions}."
    )
    head = ["| what | unit | median (minimum to maximum) | limit | holds |",
            "| --- | --- | --- | --- | --- |"]  # fmt: skip
    return "\n".join([*head, *(figure.row() for figure in figures), "", where])
