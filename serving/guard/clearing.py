"""Clears whole texts of terms: most hold none, and that is told by a few passes of C and Rust. Pure
and immutable.

What the automata look for is looked for here in a key that may only find more: every gap counts as
one, however wide. So what is cleared holds no term, and what is not is read by the automata.

To make one space of each gap takes longer than to look for terms. So words are first looked for
with the gaps as they are: a term of several words is then met as it is written, or its beginning
before a gap of two spaces or more is. Only a text that may hold one is looked at with single ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from serving.guard.folding import MARKS, SPACE, Folding
from serving.guard.glance import glance, is_encodable
from serving.guard.spans import ASCII_WORDS, HIDDEN

_TWO, _WIDE = SPACE * 2, SPACE * 8
"""A wide run of them, as Chinese leaves it, is faster taken apart than halved."""
_WORDS_MAX = 5
"""Of a longer term only so many words are looked for: its beginnings would make many patterns."""
_PIECE = 256
"""Characters folded together where a text is not plain: only pieces with a rare character take the
slow way."""
_ASCII = bytes(range(128))
_SIGNS = bytes(i for i in _ASCII if not chr(i).isalnum())
_LOWER = bytes(ord(chr(i).lower()) if i < 128 else i for i in range(256))
_OF_MARKS = bytes(sorted({mark.encode()[0] for marks in MARKS for mark in marks}))
"""First bytes of the marks in UTF-8, none of which begins a Chinese character of daily use: without
it, the rest of a mark is no UTF-8 and is left out."""


class Clearing:
    """Terms of both scripts, by their folded texts: words between spaces, and letters only."""

    __slots__ = ("_compact", "_drops", "_folding", "_is_plain", "_words")

    def __init__(self, words: Iterable[str], compact: Iterable[str], folding: Folding) -> None:
        words, compact = list(words), list(compact)
        self._folding = folding
        self._is_plain = glance(f"^[{folding.plain}]*$")
        self._words = glance("|".join(_beginnings(words))) if words else None
        self._compact = glance("|".join(map(_literal, compact))) if compact else None
        is_mixed = any(char.isascii() for text in compact for char in text)
        self._drops = (_SIGNS if is_mixed else _ASCII) + _OF_MARKS
        """Bytes that no term of the second kind holds."""

    def clears(self, text: str, is_plain: bool = False) -> bool:
        """Whether a whole text holds no term for sure. `is_plain`: all of its characters are known
        to be of daily use."""
        if not (is_plain or is_encodable(text)):
            return False
        if text.isascii():
            return self._words is None or self._has_no_words(self._ascii(text))
        pieces = [(text, True)] if is_plain else self.pieces(text)
        if self._compact is not None and self._compact(self.compact_key(pieces)):
            return False
        return self._words is None or self._has_no_words(self.words_key(pieces))

    def _has_no_words(self, key: str) -> bool:
        assert self._words is not None
        if key.isspace() or not self._words(f"{SPACE}{key}{SPACE}"):
            return True
        return _TWO in key and not self._words(_between_spaces(key))

    def pieces(self, text: str) -> list[tuple[str, bool]]:
        """A text cut up, each piece with whether it is plain."""
        if (is_plain := self._is_plain(text)) or len(text) <= _PIECE:
            return [(text, is_plain)]
        cuts = [text[at : at + _PIECE] for at in range(0, len(text), _PIECE)]
        return [(cut, self._is_plain(cut)) for cut in cuts]

    def _ascii(self, text: str) -> str:
        key = text.encode().translate(ASCII_WORDS).decode()
        return self._folding.words.of(text) if HIDDEN in key else key

    def words_key(self, pieces: Iterable[tuple[str, bool]]) -> str:
        """What words are looked for in: those of the text, its gaps as they are."""
        fold = self._folding.words.of
        return "".join(
            text.encode("ascii", "replace").translate(ASCII_WORDS).decode()
            if is_plain
            else fold(text)
            for text, is_plain in pieces
        )

    def compact_key(self, pieces: Iterable[tuple[str, bool]]) -> str:
        """What terms without spaces are looked for in: the letters of the text, without those of
        ASCII where no term has one."""
        fold = self._folding.compact.of
        return "".join(self._letters(text) if is_plain else fold(text) for text, is_plain in pieces)

    def _letters(self, text: str) -> str:
        return text.encode().translate(_LOWER, self._drops).decode("utf-8", "ignore")


def _between_spaces(key: str) -> str:
    """One space for each run of them, and one at each end."""
    if key.find(_WIDE) >= 0:
        key = SPACE.join(key.split())
    while "  " in key:
        key = key.replace("  ", SPACE)
    return f"{SPACE}{key}{SPACE}"


def _beginnings(words: Iterable[str]) -> Iterator[str]:
    """Patterns for words, each behind a space and all but the open ones before one."""
    for text in words:
        parts = text[1:].split(SPACE, _WORDS_MAX)
        for count in range(1, min(len(parts) - (not parts[-1]), _WORDS_MAX)):
            yield _literal(SPACE + SPACE.join(parts[:count]) + _TWO)
        yield _literal(SPACE + SPACE.join(parts[:_WORDS_MAX]) + SPACE * (len(parts) > _WORDS_MAX))


def _literal(text: str) -> str:
    """A text as a pattern for itself."""
    return "".join(
        char if char.isalnum() or char == SPACE else f"\\x{{{ord(char):x}}}" for char in text
    )
