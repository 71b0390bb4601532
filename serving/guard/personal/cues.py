"""Finds the words that announce personal data, many at once and whatever their case. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import ahocorasick  # type: ignore[import-not-found]


def words(text: str) -> frozenset[str]:
    """A list of words, parted by spaces."""
    return frozenset(text.split())


class Cues:
    """Words, each with the pattern of what it announces. Immutable. A word with a capital counts
    only so, others in any case."""

    def __init__(self, patterns: Mapping[str, re.Pattern[str]]) -> None:
        self._automaton = ahocorasick.Automaton()
        for cue, pattern in patterns.items():
            others = {cue.upper(), cue.title(), cue[0].upper() + cue[1:]}
            for spelling in {cue} if cue[0].isupper() else {cue} | others:
                self._automaton.add_word(spelling, (len(spelling), pattern))
        self._automaton.make_automaton()

    def find(self, text: str) -> Iterator[tuple[int, re.Pattern[str]]]:
        """(end of the word, its pattern) for words that are not the end of a longer one."""
        for last, (size, pattern) in self._automaton.iter(text):
            before = text[last - size] if last >= size else " "
            if not (before.isascii() and before.isalpha()):
                yield last + 1, pattern
