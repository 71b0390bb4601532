"""Finds the terms of lists in text, whole or arriving in pieces. Pure; a `Terms` never changes: a
new list is a new value."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from pydantic_core import SchemaError

from models.worded import Worded
from serving.guard.automata import LOOK, Compact, Words, text_of
from serving.guard.clearing import Clearing
from serving.guard.folding import SPACE, Folding, is_ideograph
from serving.guard.spans import GAP_MAX, as_bytes
from serving.guard.values import Match, Term

TERM_CHARS_MAX = 64
HOLD_CHARS_MAX = TERM_CHARS_MAX * (GAP_MAX + 1)
"""The longest part of an answer that can be held back: a term with all gaps as wide as they may be.
"""


_SHORT, _SHORT_ASCII = 96, 384
"""Characters of a short text (see `is_short`)."""


class Found(NamedTuple):
    """What a search tells."""

    matches: tuple[Match, ...]
    hold: int
    """Where the longest suffix starts that may still become a term; the text's length if none."""


class Terms:
    """All lists at once. Raises ValueError for a term that no text can hold."""

    __slots__ = ("_clearing", "_compact", "_words", "folding", "size")

    def __init__(self, terms: Iterable[Term], folding: Folding) -> None:
        self.folding = folding
        words: dict[str, list[Term]] = {}
        compact: dict[str, list[Term]] = {}
        for term in terms:
            is_compact, key = _key_of(term, folding)
            (compact if is_compact else words).setdefault(key, []).append(term)
        self.size = len(words) + len(compact)
        self._words = Words(words, folding) if words else None
        self._compact = Compact(compact, folding) if compact else None
        self._clearing = _clearing(words, compact, folding)

    def clears(self, text: str, is_plain: bool = False) -> bool:
        """Whether a whole text holds no term for sure; False where it may hold one. `is_plain`: a
        glance has told that its characters are everyday ones (`personal.is_clear`)."""
        if self.is_short(text):
            return self.quick(text, is_inside=False, is_last=True) != LOOK
        return self._clearing is not None and self._clearing.clears(text, is_plain)

    def is_short(self, text: str) -> bool:
        """Whether the automata tell of a text as fast as a glance, which has its price however
        short a text is."""
        return len(text) <= _SHORT or (len(text) <= _SHORT_ASCII and text.isascii())

    def quick(self, text: str, is_inside: bool, is_last: bool) -> int:
        """What must be held back when the text holds no term; LOOK when it may hold one.
        `is_inside`: a letter stood just before it. `is_last`: nothing follows."""
        hold = len(text)
        is_ascii = text.isascii()
        if self._words is not None:
            hold = self._words.quick(text, is_ascii, is_inside, is_last)
            if hold == LOOK:
                return LOOK
        compact = self._compact
        if compact is not None and (not is_ascii or compact.may_be_ascii):
            other = compact.quick(text, is_last)
            hold = min(hold, other)
        return hold

    def careful(self, text: str, is_inside: bool, is_last: bool) -> Found:
        """The terms in a text and what must be held back."""
        matches: list[Match] = []
        hold = len(text)
        if self._words is not None:
            matches, hold = self._words.careful(text, is_inside, is_last)
        if self._compact is not None:
            more, other = self._compact.careful(text, is_inside, is_last)
            matches += more
            hold = min(hold, other)
        matches.sort(key=lambda match: match[:3])
        return Found(tuple(matches), hold)

    def search(self, text: str, is_inside: bool, is_last: bool) -> Found:
        """The same as `careful`, and quick where nothing is found: each automaton looks closer only
        for what it may have found itself."""
        matches: list[Match] = []
        hold = len(text)
        is_ascii = text.isascii()
        if self._words is not None:
            hold = self._words.quick(text, is_ascii, is_inside, is_last)
            if hold == LOOK:
                matches, hold = self._words.careful(text, is_inside, is_last)
        compact = self._compact
        if compact is not None and (not is_ascii or compact.may_be_ascii):
            other = compact.quick(text, is_last)
            if other == LOOK:
                more, other = compact.careful(text, is_inside, is_last)
                matches += more
            hold = min(hold, other)
        matches.sort(key=lambda match: match[:3])
        return Found(tuple(matches), hold)


def _clearing(words: Iterable[str], compact: Iterable[str], folding: Folding) -> Clearing | None:
    """None for lists that are too large for it: then all texts are read by the automata."""
    try:
        return Clearing(map(text_of, words), map(text_of, compact), folding)
    except SchemaError:
        return None


def _key_of(term: Term, folding: Folding) -> tuple[bool, str]:
    """(whether it goes into the compact automaton, its key)."""
    text = term.text.removesuffix("*")
    if len(text) > TERM_CHARS_MAX:
        template = "{list}: a term has at most {most} characters"
        raise ValueError(Worded("terms.long", template, list=term.list, most=TERM_CHARS_MAX))
    compact = text.translate(folding.compact)
    if any(map(is_ideograph, compact)):
        key, is_compact = compact, True
    else:
        words = " ".join(text.translate(folding.words).split())
        key, is_compact = SPACE + words + ("" if term.text.endswith("*") else SPACE), False
    if not key.strip():
        template = "{list}: a term needs at least one letter or digit"
        raise ValueError(Worded("terms.empty", template, list=term.list))
    if len(key) > 2 * TERM_CHARS_MAX:
        template = "{list}: a term is too long once its letters are written out"
        raise ValueError(Worded("terms.folded", template, list=term.list))
    return is_compact, as_bytes(key)
