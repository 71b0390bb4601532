"""Where exactly in a text a term stands, once the fold of the text is known to hold one. Pure.

The careful half of `terms`: it keeps the place of every folded byte, measures gaps and looks at
what stands before and behind.
"""

from __future__ import annotations

import re
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
NO_WORDS = "\u3001-\u3003\u3008-\u3011\u3400-\u9fff\uff01-\uff0f\uff1a-\uff1f"
"""Chinese characters and their punctuation, as in a pattern: spaces, to the fold of words."""
HIDDEN = "\x7f"
_hidden = frozenset([*range(9), *range(14, 28), 127])
ASCII_WORDS = bytes(ord(HIDDEN) if i in _hidden else ord(chr(i).lower()) if chr(i).isalnum()
                    else 32 for i in range(256))  # fmt: skip
"""By byte of ASCII, what `Folding.words` makes of it; `HIDDEN` for what shows nothing."""
_is_plain = re.compile(f"[\x00-\x7f{NO_WORDS}]*").fullmatch
_GAPS = re.compile("  +").finditer


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
    plain = _plain_words(text)
    found = _fold_any(text, folding, is_inside) if plain is None else _fold(plain, is_inside)
    key, origin = found
    if is_last and key[-1] != SPACE:
        return Folded(key + SPACE, [*origin, len(text)])
    return found


def _plain_words(text: str) -> str | None:
    """Each character of a text folded, its length kept; None when a fold would change that."""
    if not _is_plain(text):
        return None
    folded = text.encode("ascii", "replace").translate(ASCII_WORDS).decode("latin-1")
    return None if HIDDEN in folded else folded


def _fold(text: str, is_inside: bool) -> Folded:
    """The same as `_fold_any` of a text that is folded already, in which nothing is hidden."""
    at = 0 if is_inside or text[:1] != SPACE else 1
    key, origin = [INSIDE if is_inside else SPACE], [-1]
    for gap in _GAPS(text):
        start, end = gap.span()
        key.append(text[at : start + 1])
        origin += range(at, start + 1)
        if end - start > GAP_MAX:
            key.append(BREAK + SPACE)
            origin += [start + GAP_MAX] * 2
        at = end
    return Folded("".join([*key, text[at:]]), [*origin, *range(at, len(text))])


def _fold_any(text: str, folding: Folding, is_inside: bool) -> Folded:
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
    return Folded("".join(key), origin)


def fold_compact(text: str, folding: Folding) -> Folded:
    """Text as the key of scripts without spaces: letters only."""
    known = {char: as_bytes(folding.compact[ord(char)]) for char in set(text)}
    pieces = [known[char] for char in text]
    origin = [at for at, piece in enumerate(pieces) for _ in piece]
    return Folded("".join(pieces), origin)


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
