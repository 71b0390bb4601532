"""What the guard finds of a corpus whose answers are known: recall and false alarms by kind.

A corpus is text, one case a line: what should be found stands between `⟦KIND:` and `⟧`, a line
without marks holds nothing to be found, `#` starts a comment, and `\\uXXXX` and `\\n` are the
characters they name.
"""

from __future__ import annotations

import argparse
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.gateway.report import filled
from serving import guard
from serving.guard import personal, termfile
from serving.guard.folding import Folding
from serving.guard.lists import simplified
from serving.guard.terms import Terms

FOLDER = Path(guard.__file__).parent / "corpus"
PERSONAL = (
    "personal.zh", "personal.zh.unseen", "personal.zh.talk", "personal.zh.talk.unseen",
    "personal.en", "personal.en.unseen", "personal.en.talk", "personal.en.talk.unseen",
)  # fmt: skip
TERMS = ("terms.zh", "terms.en")
_MARK = re.compile(r"⟦([A-Z]+):([^⟧]*)⟧")
_ESCAPE = re.compile(r"\\u([0-9a-f]{4})|\\n")

Span = tuple[str, int, int]
"""Kind, start, end."""
Find = Callable[[str], list[Span]]


class Case(NamedTuple):
    """One line of a corpus."""

    text: str
    expected: tuple[Span, ...]


class Score(NamedTuple):
    """How one kind fared."""

    kind: str
    expected: int
    found: int
    """Of the expected ones, those of which some was found under their kind."""
    exact: int
    """Of those, found from the first to the last character."""
    false: int
    """Found where nothing, or another kind, was expected."""


class Measured(NamedTuple):
    """How one corpus fared."""

    name: str
    cases: int
    clean: int
    """Cases that hold nothing to be found."""
    clean_alarmed: int
    """Of those, the ones in which something was found."""
    scores: tuple[Score, ...]
    errors: tuple[str, ...]
    """`missed KIND: ...` and `false KIND: ...`, with the text."""


def read(name: str) -> list[Case]:
    """The cases of a corpus."""
    lines = (FOLDER / f"{name}.txt").read_text("utf-8").splitlines()
    return [_case(line) for line in lines if line.strip() and not line.startswith("#")]


def _case(line: str) -> Case:
    text, expected, at = "", [], 0
    for mark in _MARK.finditer(line):
        text += _plain(line[at : mark.start()])
        value = _plain(mark[2])
        expected.append((mark[1], len(text), len(text) + len(value)))
        text, at = text + value, mark.end()
    return Case(text + _plain(line[at:]), tuple(expected))


def _plain(text: str) -> str:
    return _ESCAPE.sub(lambda m: chr(int(m[1], 16)) if m[1] else "\n", text)


def measure(name: str, cases: Sequence[Case], find: Find) -> Measured:
    """Compare what is found with what should be."""
    expected: Counter[str] = Counter()
    found: Counter[str] = Counter()
    exact: Counter[str] = Counter()
    false: Counter[str] = Counter()
    errors: list[str] = []
    alarmed = 0
    for case in cases:
        spans = find(case.text)
        alarmed += bool(spans) and not case.expected
        for kind, start, end in case.expected:
            expected[kind] += 1
            hits = [s for s in spans if s[0] == kind and s[1] < end and start < s[2]]
            found[kind] += bool(hits)
            exact[kind] += (kind, start, end) in hits
            if not hits:
                errors.append(f"missed {kind}: {case.text[start:end]!r} in {case.text!r}")
        for kind, start, end in spans:
            if not any(k == kind and s < end and start < e for k, s, e in case.expected):
                false[kind] += 1
                errors.append(f"false {kind}: {case.text[start:end]!r} in {case.text!r}")
    kinds = sorted(expected.keys() | false.keys())
    scores = tuple(Score(k, expected[k], found[k], exact[k], false[k]) for k in kinds)
    clean = sum(not case.expected for case in cases)
    return Measured(name, len(cases), clean, alarmed, scores, tuple(errors))


def personal_finder(folding: Folding) -> Find:
    """The rules for personal data."""
    return lambda text: [(str(k), a, b) for k, a, b in personal.find(text, folding)]


def term_finder(folding: Folding) -> Find:
    """The terms of `terms.list.txt`."""
    terms = termfile.read("test", (FOLDER / "terms.list.txt").read_text("utf-8"))
    matcher = Terms(terms, folding)

    def find(text: str) -> list[Span]:
        found = matcher.search(text, is_inside=False, is_last=True)
        return [("TERM", match.start, match.end) for match in found.matches]

    return find


def measured() -> list[Measured]:
    """All corpora."""
    folding = Folding(simplified())
    by_name = {name: personal_finder(folding) for name in PERSONAL}
    by_name |= {name: term_finder(folding) for name in TERMS}
    return [measure(name, read(name), find) for name, find in by_name.items()]


def markdown(found: Iterable[Measured]) -> str:
    """Tables, as docs/guard.md has them."""
    lines = ["| corpus | kind | expected | recall | exact | false alarms |",
             "| --- | --- | --- | --- | --- | --- |"]  # fmt: skip
    clean = []
    for one in found:
        for s in one.scores:
            recall = f"{s.found / s.expected:.0%} ({s.found})" if s.expected else "-"
            lines.append(
                f"| {one.name} | {s.kind} | {s.expected} | {recall} | {s.exact} | {s.false} |"
            )
        clean.append(
            f"{one.name}: {one.cases} lines; an alarm in {one.clean_alarmed} of the "
            f"{one.clean} that hold nothing"
        )
    return "\n".join([*lines, "", *clean])


def main(argv: Sequence[str]) -> int:
    """Print recall and false alarms."""
    parser = argparse.ArgumentParser(prog="benchmarks.guard corpus", description=main.__doc__)
    parser.add_argument("--errors", action="store_true", help="and every miss and false alarm")
    parser.add_argument("--page", type=Path, help="put the table into this page")
    given = parser.parse_args(argv)
    found = measured()
    print(markdown(found))
    if given.page:
        page = given.page.read_text("utf-8")
        given.page.write_text(filled(page, "corpus", markdown(found)), "utf-8")
    if given.errors:
        for one in found:
            print("\n".join([f"\n{one.name}", *one.errors]))
    return 0
