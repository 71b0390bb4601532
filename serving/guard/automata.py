"""The two automata (Aho-Corasick) that find terms: words between spaces, and terms of scripts
without spaces. Pure and immutable.

Both hold UTF-8 bytes as characters: the library walks the children of a node one by one, and a root
with thousands of Chinese first characters makes that slow (measured in docs/decisions/0108). Each
answers twice: `quick` tells of a text without terms what must be held back, at the price of a few
set look-ups; `careful` knows every place.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import ahocorasick  # type: ignore[import-not-found]

from serving.guard.folding import SPACE, Folding, is_ideograph
from serving.guard.spans import (
    ASCII_WORDS,
    GAP_MAX,
    HIDDEN,
    INSIDE,
    NO_WORDS,
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

LOOK = -1
"""What `quick` answers when only `careful` can tell."""
_SHORT = 16
"""Characters looked up pair by pair; above, the automaton is faster."""
_has_no_words = re.compile(f"[{NO_WORDS}]*").fullmatch
_without_others = re.compile(f"[{NO_WORDS}][{NO_WORDS}]*").sub


def text_of(key: str) -> str:
    """The folded text of a key."""
    return key.encode("latin-1").decode("utf-8", "surrogatepass")


def _automaton(entries: Mapping[str, Sequence[Term]]) -> Any:
    automaton = ahocorasick.Automaton()
    for key, terms in entries.items():
        text = text_of(key)
        edges = not is_ideograph(text[0]), not is_ideograph(text[-1])
        automaton.add_word(key, Entry(len(key), tuple(terms), *edges))
    automaton.make_automaton()
    return automaton


def _place(text: str, letters: int, table: Mapping[int, str]) -> int:
    """Where the last so many folded letters of `text` start; LOOK when they start within a
    character, or with a gap too wide behind or between."""
    at, gap = len(text), 0
    while letters > 0:
        at -= 1
        folded = table[ord(text[at])]
        if folded and folded != SPACE:
            letters -= len(folded.strip())
            gap = 0
        else:
            gap += 1
            if gap > GAP_MAX:
                return LOOK
    return at if letters == 0 else LOOK


class Words:
    """Terms of scripts that put spaces between words; keys stand between spaces, open ones lack the
    second."""

    __slots__ = ("_automaton", "_folding", "_has_open", "_longest", "_match")

    def __init__(self, entries: Mapping[str, Sequence[Term]], folding: Folding) -> None:
        self._automaton = _automaton(entries)
        self._match = self._automaton.match
        self._folding = folding
        self._longest = max(map(len, entries))
        self._has_open = any(key[-1] != SPACE for key in entries)

    def quick(self, text: str, is_ascii: bool, is_inside: bool, is_last: bool) -> int:
        """Where a text without terms must be held back; LOOK when it may hold one."""
        if not is_ascii and _has_no_words(text):
            return len(text)
        rest = text if is_ascii else _without_others(SPACE, text)
        is_simple = rest.isascii()  # so that bytes stand for characters
        key = rest.encode().translate(ASCII_WORDS).decode("latin-1") if is_simple else HIDDEN
        if HIDDEN in key:
            key = as_bytes(self._folding.words.of(rest))
        if key[:1] != SPACE:
            key = (INSIDE if is_inside else SPACE) + key
        # A gap too wide is taken for one space here: this may only find more.
        while "  " in key:
            key = key.replace("  ", SPACE)
        if is_last:
            key += SPACE
        if self._has_open or key.find(SPACE, 1) > 0:
            for _ in self._automaton.iter(key):
                return LOOK
        if is_last:
            return len(text)
        at = self._hold(key)
        if at == len(key):
            return len(text)
        letters = key[at:].replace(SPACE, "")
        return _place(text, len(letters if is_ascii else text_of(letters)), self._folding.words)

    def _hold(self, key: str) -> int:
        """Where the longest suffix that begins a term starts, behind its space."""
        at, last = key.find(SPACE, max(0, len(key) - self._longest)), len(key) - 1
        while 0 <= at < last:
            if self._match(key[at:]):
                return at + 1
            at = key.find(SPACE, at + 1)
        return last + 1

    def careful(self, text: str, is_inside: bool, is_last: bool) -> tuple[list[Match], int]:
        """(terms, where to hold)."""
        if _has_no_words(text):
            return [], len(text)
        found = fold_words(text, self._folding, is_inside, is_last)
        matches = list(word_matches(self._automaton, found))
        at = len(found.key) if is_last else self._hold(found.key)
        return matches, found.origin[at] if at < len(found.key) else len(text)


class Compact:
    """Terms with letters of scripts without spaces; keys are letters only."""

    __slots__ = ("_automaton", "_firsts", "_folding", "_has_single", "_longest", "_match", "_pairs",
                 "may_be_ascii")  # fmt: skip

    def __init__(self, entries: Mapping[str, Sequence[Term]], folding: Folding) -> None:
        texts = [text_of(key) for key in entries]
        self._automaton = _automaton(entries)
        self._match = self._automaton.match
        self._folding = folding
        self._longest = max(map(len, entries))
        self._firsts = frozenset(text[0] for text in texts)
        self._pairs = frozenset(text[:2] for text in texts)
        self._has_single = any(len(text) == 1 for text in texts)
        self.may_be_ascii = any(first.isascii() for first in self._firsts)
        """Whether a term begins in ASCII, so that text of ASCII alone must be held back for it."""

    def quick(self, text: str, is_last: bool) -> int:
        """Where a text without terms must be held back; LOOK when it may hold one."""
        folded = self._folding.compact.of(text.replace(SPACE, ""))
        size = len(folded)
        if not size:
            return len(text)
        start = 0
        if size <= _SHORT and not self._has_single:
            pairs = self._pairs
            while start < size - 1 and folded[start : start + 2] not in pairs:
                start += 1
        if start == size - 1 and not self._has_single:
            # No two neighbours begin a term, so there is none.
            if is_last or folded[start] not in self._firsts:
                return len(text)
            return _place(text, 1, self._folding.compact)
        for _ in self._automaton.iter(as_bytes(folded)):
            return LOOK
        if is_last:
            return len(text)
        for at in range(max(start, size - self._longest), size):
            if folded[at] in self._firsts and self._match(as_bytes(folded[at:])):
                return _place(text, size - at, self._folding.compact)
        return len(text)

    def careful(self, text: str, is_inside: bool, is_last: bool) -> tuple[list[Match], int]:
        """(terms, where to hold)."""
        found = fold_compact(text, self._folding)
        edges = Edges(text, self._folding, is_inside, is_last)
        matches: list[Match] = []
        hold = len(text)
        for start, end, entry in compact_matches(self._automaton, found, text):
            stop = edges.stop(start, end, entry)
            if stop is None:
                hold = min(hold, start)
            elif stop:
                matches += [Match(start, end, stop, term) for term in entry.terms]
        if not is_last:
            hold = min(hold, compact_hold(self._automaton, found, text, self._longest))
        return matches, hold
