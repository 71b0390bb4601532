"""Finds the terms of lists in text, whole or arriving in pieces. Pure; a `Terms` never changes.

Two automata (Aho-Corasick): words of scripts with spaces stand in one between spaces, all other
terms in one without any. Both hold UTF-8 bytes as characters: the library walks the children of a
node one by one, and its root would have thousands of Chinese first characters (measured in
docs/decisions/0108).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, NamedTuple

import ahocorasick  # type: ignore[import-not-found]

from serving.guard.folding import SPACE, Folding, is_ideograph
from serving.guard.spans import (
    GAP_MAX,
    INSIDE,
    Edges,
    Entry,
    as_bytes,
    compact_hold,
    compact_matches,
    fold_compact,
    fold_words,
    word_matches,
)
from serving.guard.values import Match, Term

TERM_CHARS_MAX = 64
HOLD_CHARS_MAX = TERM_CHARS_MAX * (GAP_MAX + 1)
"""The longest part of an answer that can be held back: a term with all gaps as wide as they may be.
"""
_ASCII_WORDS = bytes(ord(chr(i).lower()) if chr(i).isalnum() else 32 for i in range(256))
_NO_WORDS = re.compile(
    "[\u3001-\u3003\u3008-\u3011\u3400-\u9fff\uff01-\uff0f\uff1a-\uff1f]*"
).fullmatch
"""Chinese characters and their punctuation: spaces, to the automaton of words."""
_ASCII_HIDDEN = frozenset(map(chr, [*range(9), *range(14, 28), 127]))


class Found(NamedTuple):
    """What a search tells."""

    matches: tuple[Match, ...]
    hold: int
    """Where the longest suffix starts that may still become a term; the text's length if none."""


class Terms:
    """All lists at once. Raises ValueError for a term that no text can hold."""

    __slots__ = (
        "_ascii_compact", "_compact", "_compact_longest", "_firsts", "_words", "_words_longest",
        "folding", "size",
    )  # fmt: skip

    def __init__(self, terms: Iterable[Term], folding: Folding) -> None:
        self.folding = folding
        words: dict[str, list[Term]] = {}
        compact: dict[str, list[Term]] = {}
        for term in terms:
            is_compact, key = _key_of(term, folding)
            (compact if is_compact else words).setdefault(key, []).append(term)
        self.size = len(words) + len(compact)
        self._words, self._words_longest = _automaton(words)
        self._compact, self._compact_longest = _automaton(compact)
        self._firsts = frozenset(_text_of(key)[0] for key in compact)
        self._ascii_compact = any(first.isascii() for first in self._firsts)

    def search(self, text: str, is_inside: bool, is_last: bool) -> Found:
        """The terms in `text` and what must be held back. `is_inside`: a letter stood just before
        it. `is_last`: nothing follows."""
        hold = self.quick(text, is_inside, is_last)
        return Found((), hold) if hold >= 0 else self._careful(text, is_inside, is_last)

    def quick(self, text: str, is_inside: bool, is_last: bool) -> int:
        """What must be held back when the text holds no term; -1 when that takes a closer look."""
        hold = size = len(text)
        is_ascii = text.isascii()
        words, compact = self._words, self._compact
        if words is not None and (is_ascii or not _NO_WORDS(text)):
            if is_ascii and _ASCII_HIDDEN.isdisjoint(text):
                key = text.encode().translate(_ASCII_WORDS).decode("latin-1")
            else:
                key = text.translate(self.folding.words)
            lead = 0
            if key[:1] != SPACE:
                key = (INSIDE if is_inside else SPACE) + key
                lead = 1
            # A gap too wide is taken for one space here: this may only find more.
            while "  " in key:
                key = key.replace("  ", SPACE)
            if not is_ascii:
                key = as_bytes(key)
            if is_last:
                key += SPACE
            for _ in words.iter(key):
                return -1
            if not is_last:
                at = _word_hold(words, key, self._words_longest)
                if at < len(key):
                    if not is_ascii or len(key) != size + lead:
                        return -1
                    hold = at - lead
        if compact is not None and (self._ascii_compact or not is_ascii):
            folded = text.translate(self.folding.compact)
            for _ in compact.iter(as_bytes(folded)):
                return -1
            if not is_last:
                at = self._quick_hold(folded)
                if at < len(folded):
                    rest = text[at:].translate(self.folding.compact)
                    if len(folded) != size or rest != folded[at:]:
                        return -1
                    hold = min(hold, at)
        return hold

    def _quick_hold(self, folded: str) -> int:
        automaton, firsts, size = self._compact, self._firsts, len(folded)
        for at in range(max(0, size - self._compact_longest), size):
            if folded[at] in firsts and automaton.match(as_bytes(folded[at:])):
                return at
        return size

    def _careful(self, text: str, is_inside: bool, is_last: bool) -> Found:
        """The same with every place known: for texts in which something was found."""
        matches: list[Match] = []
        hold = len(text)
        if self._words is not None:
            found = fold_words(text, self.folding, is_inside, is_last)
            matches += word_matches(self._words, found)
            if not is_last:
                at = _word_hold(self._words, found.key, self._words_longest)
                hold = found.origin[at] if at < len(found.key) else hold
        if self._compact is not None:
            found = fold_compact(text, self.folding)
            edges = Edges(text, self.folding, is_inside, is_last)
            for start, end, entry in compact_matches(self._compact, found, text):
                stop = edges.stop(start, end, entry)
                if stop is None:
                    hold = min(hold, start)
                elif stop:
                    matches += [Match(start, end, stop, term) for term in entry.terms]
            if not is_last:
                hold = min(hold, compact_hold(self._compact, found, text, self._compact_longest))
        matches.sort(key=lambda match: match[:3])
        return Found(tuple(matches), hold)


def _key_of(term: Term, folding: Folding) -> tuple[bool, str]:
    """(whether it goes into the compact automaton, its key)."""
    text = term.text.removesuffix("*")
    if len(text) > TERM_CHARS_MAX:
        raise ValueError(f"{term.list}: a term has at most {TERM_CHARS_MAX} characters")
    compact = text.translate(folding.compact)
    if any(map(is_ideograph, compact)):
        key, is_compact = compact, True
    else:
        words = " ".join(text.translate(folding.words).split())
        key, is_compact = SPACE + words + ("" if term.text.endswith("*") else SPACE), False
    if not key.strip():
        raise ValueError(f"{term.list}: a term needs at least one letter or digit")
    if len(key) > 2 * TERM_CHARS_MAX:
        raise ValueError(f"{term.list}: a term is too long once its letters are written out")
    return is_compact, as_bytes(key)


def _automaton(entries: dict[str, list[Term]]) -> tuple[Any, int]:
    """(automaton, longest key in bytes); none for no entries."""
    if not entries:
        return None, 0
    automaton = ahocorasick.Automaton()
    for key, terms in entries.items():
        automaton.add_word(key, Entry(len(key), tuple(terms), *_edges_of(key)))
    automaton.make_automaton()
    return automaton, max(map(len, entries))


def _text_of(key: str) -> str:
    return key.encode("latin-1").decode("utf-8", "surrogatepass")


def _edges_of(key: str) -> tuple[bool, bool]:
    """Whether the first and the last character are letters of a script with spaces."""
    text = _text_of(key)
    return not is_ideograph(text[0]), not is_ideograph(text[-1])


def _word_hold(automaton: Any, key: str, longest: int) -> int:
    """Where the longest suffix that begins a term starts, behind its space."""
    at, last = key.find(SPACE, max(0, len(key) - longest)), len(key) - 1
    while 0 <= at < last:
        if automaton.match(key[at:]):
            return at + 1
        at = key.find(SPACE, at + 1)
    return last + 1
