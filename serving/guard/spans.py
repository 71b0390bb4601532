"""Where exactly in a text a term stands, once the fold of the text is known to hold one. Pure.

The careful half of `terms`: it keeps the place of every folded byte, measures gaps and looks at
what stands before and behind.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any, NamedTuple

import msgspec

from serving.guard.folding import SPACE, Folding
from serving.guard.values import Match, Term

GAP_MAX = 16
"""Separators and invisible characters between two letters of a term; more ends it."""
INSIDE, BREAK = "\x01", "\x02"
"""Stand before a text that goes on with a word, and for a gap too wide; no fold yields them."""
_CLAUSE = frozenset("，。！？；：、,.!?;:…\n\r")
"""Ends a clause: what stands on its two sides is one word only if every gap is such a one."""


class Entry(msgspec.Struct, frozen=True, gc=False):
    """What an automaton holds for a key; out of the collector's sight, for there are thousands."""

    size: int
    """Bytes of the key."""
    terms: tuple[Term, ...]
    starts_word: bool
    """Whether its first character is one of a script with spaces: no such may stand before it."""
    ends_word: bool


class Folded(NamedTuple):
    """A folded text."""

    key: str
    """Its UTF-8 bytes, as Latin-1."""
    origin: list[int]
    """By byte of the key: the index of its character in the text."""


def as_bytes(folded: str) -> str:
    """UTF-8 bytes as Latin-1 characters."""
    if folded.isascii():
        return folded
    return folded.encode("utf-8", "surrogatepass").decode("latin-1")


def fold_words(text: str, folding: Folding, is_inside: bool, is_last: bool) -> Folded:
    """Text as the key of words: one space for each run of separators, a break for a wide gap."""
    key, origin = [INSIDE if is_inside else SPACE], [-1]
    gap, has_separator = 0, not is_inside
    for at, char in enumerate(text):
        folded = folding.words[ord(char)]
        if folded and folded != SPACE:
            gap, has_separator = 0, False
        else:
            gap += 1
            has_separator = has_separator or bool(folded)
            if gap == GAP_MAX + 1:
                folded = BREAK + (SPACE if has_separator else "")
        for piece in folded:
            if piece != SPACE or key[-1] != SPACE:
                data = as_bytes(piece)
                key += data
                origin += [at] * len(data)
    if is_last and key[-1] != SPACE:
        key.append(SPACE)
        origin.append(len(text))
    return Folded("".join(key), origin)


def fold_compact(text: str, folding: Folding) -> Folded:
    """Text as the key of scripts without spaces: letters only."""
    key: list[str] = []
    origin: list[int] = []
    for at, char in enumerate(text):
        data = as_bytes(folding.compact[ord(char)])
        key += data
        origin += [at] * len(data)
    return Folded("".join(key), origin)


def word_matches(automaton: Any, found: Folded) -> Iterator[Match]:
    """Terms that stand between spaces; one with an open end needs no space behind it."""
    key, origin = found
    for at, entry in automaton.iter(key):
        first = at + 2 - entry.size
        is_closed = key[at] == SPACE
        end = origin[at - 1 if is_closed else at] + 1
        for term in entry.terms:
            yield Match(origin[first], end, origin[at] + 1, term)


def compact_matches(automaton: Any, found: Folded, text: str) -> Iterator[tuple[int, int, Entry]]:
    """(start, end, entry) of terms whose gaps are ones that a writer leaves inside a word."""
    key, origin = found
    for at, entry in automaton.iter(key):
        places = origin[at + 1 - entry.size : at + 1]
        if _is_one_word(places, text):
            yield places[0], places[-1] + 1, entry


def _is_one_word(places: list[int], text: str) -> bool:
    steps = gaps = 0
    has_clause = False
    for here, there in pairwise(places):
        steps += there > here
        if there > here + 1:
            gaps += 1
            between = text[here + 1 : there]
            if len(between) > GAP_MAX:
                return False
            has_clause = has_clause or not _CLAUSE.isdisjoint(between)
    return not has_clause or (gaps == steps and steps > 1)


def compact_hold(automaton: Any, found: Folded, text: str, longest: int) -> int:
    """Where the longest suffix that begins a term starts, no gap in it too wide."""
    key, origin = found
    last = len(key) - 1
    if last < 0 or len(text) - origin[last] - 1 > GAP_MAX:
        return len(text)
    window = max(0, len(key) - longest)
    for at in range(last, window, -1):
        if origin[at] - origin[at - 1] - 1 > GAP_MAX:
            window = at
            break
    for at in range(window, last + 1):
        if ord(key[at]) & 0xC0 != 0x80 and automaton.match(key[at:]):
            return origin[at]
    return len(text)


class Edges:
    """Decides whether a mixed term (`T恤`) stands by itself at its Latin ends."""

    def __init__(self, text: str, folding: Folding, is_inside: bool, is_last: bool) -> None:
        self._text = text
        self._folding = folding
        self._is_inside = is_inside
        self._is_last = is_last

    def stop(self, start: int, end: int, entry: Entry) -> int | None:
        """Characters needed to be sure; 0 when it is part of a longer word, None when not yet
        known."""
        if entry.starts_word and self._folding.ends_in_word(self._text[:start], self._is_inside):
            return 0
        if not entry.ends_word:
            return end
        for at in range(end, min(end + GAP_MAX + 1, len(self._text))):
            folded = self._folding.words[ord(self._text[at])]
            if folded:
                return at + 1 if folded[0] == SPACE else 0
        if self._is_last:
            return len(self._text) + 1
        return end + GAP_MAX + 1 if len(self._text) > end + GAP_MAX else None
