"""What one pass over a text tells all rules: where numbers start, and the words that announce
personal data, many at once and whatever their case. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import ahocorasick  # type: ignore[import-not-found]

from serving.guard.values import Kind

_NUMBER = re.compile("[0-9][0-9]*")
"""Begins with a set of characters, which `re` looks for many times faster than for a repetition."""


def words(text: str) -> frozenset[str]:
    """A list of words, parted by spaces."""
    return frozenset(text.split())


class Announced(NamedTuple):
    """What a word announces."""

    kind: Kind
    pattern: re.Pattern[str]
    """How it reads."""


class Signs(NamedTuple):
    """Places in a text at which a rule may find something; without one it need not look."""

    numbers: Sequence[int]
    """Where digits start."""
    cues: Sequence[tuple[int, Announced]]
    """(end of a word, what it announces), in order."""


def matches(pattern: re.Pattern[str], text: str, starts: Sequence[int]) -> Iterator[re.Match[str]]:
    """The same as `pattern.finditer(text)` for a pattern that matches at no other places than
    these, which are in order."""
    end = 0
    for at in starts:
        if at >= end and (found := pattern.match(text, at)) is not None:
            end = found.end()
            yield found


class Cues:
    """Words, each with what it announces. Immutable. A word with a capital counts only so, others
    in any case. Words beyond ASCII must not overlap."""

    def __init__(self, announced: Mapping[str, Announced]) -> None:
        spellings: dict[str, dict[str, Announced]] = {}
        for cue, what in announced.items():
            others = {cue.upper(), cue.title(), cue[0].upper() + cue[1:]}
            spelled = {cue} if cue[0].isupper() else {cue} | others
            spellings.setdefault(cue.lower(), {}).update(dict.fromkeys(spelled, what))
        self._automaton = ahocorasick.Automaton()
        for lower, known in spellings.items():
            if lower.isascii():
                self._automaton.add_word(lower, (len(lower), known))
        self._automaton.make_automaton()
        self._others = {cue: what for cue, what in announced.items() if not cue.isascii()}
        self._other = re.compile("|".join(map(re.escape, self._others)))

    def find(self, text: str) -> list[tuple[int, Announced]]:
        """(end of the word, what it announces) for words that are not the end of a longer one."""
        out = []
        is_ascii = text.isascii()
        # Every character keeps its place, so that the places found are those in the text.
        plain = text if is_ascii else text.encode("ascii", "replace").decode("ascii")
        for last, (size, known) in self._automaton.iter(plain.lower()):
            start, end = last + 1 - size, last + 1
            what = known.get(text[start:end])
            if what is not None and not _is_letter(text[start - 1 : start]):
                out.append((end, what))
        if not is_ascii:
            out += [
                (found.end(), self._others[found[0]])
                for found in self._other.finditer(text)
                if not _is_letter(text[found.start() - 1 : found.start()])
            ]
            out.sort(key=lambda cue: cue[0])
        return out

    def signs(self, text: str, has_cues: bool = True) -> Signs:
        """What a text gives away in one pass; without `has_cues` its numbers only."""
        numbers = [found.start() for found in _NUMBER.finditer(text)]
        return Signs(numbers, self.find(text) if has_cues else ())


def _is_letter(char: str) -> bool:
    return char.isascii() and char.isalpha()
