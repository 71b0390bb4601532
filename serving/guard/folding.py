"""Folds text so that spellings of one word look alike: case, width, accents, traditional
characters, look-alike letters, invisible characters, separators.

Pure. The converter from traditional to simplified characters is an argument, for its tables are
files. Three tables, because scripts part words differently:

- `words`: for scripts that put spaces between words. Everything that is no letter or digit of such
  a script is a space, so that a term stands between spaces and `Scunthorpe` holds nothing.
- `compact`: for scripts without spaces (Chinese, Japanese, Korean, Thai). Separators vanish, so
  that a term written with gaps is found.
- `flat`: character by character, for patterns of digits and names; offsets stay as they are.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable

SPACE = " "
_CACHED_MAX = 120_000
"""More code points than living languages use; beyond it a fold is computed each time."""
_IDEOGRAPHS = (
    (0x0E00, 0x0EFF), (0x1000, 0x109F), (0x1100, 0x11FF), (0x1780, 0x17FF), (0x3005, 0x3007),
    (0x3021, 0x3029), (0x3040, 0x30FF), (0x3100, 0x318F), (0x31A0, 0x31BF), (0x31F0, 0x31FF),
    (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xAC00, 0xD7AF), (0xF900, 0xFAFF), (0x20000, 0x323AF),
)  # fmt: skip
"""Letters of scripts that do not part words by spaces, or, as Korean, join endings to them."""
_MARKS = (
    (0x0300, 0x036F), (0x1AB0, 0x1AFF), (0x1DC0, 0x1DFF), (0x20D0, 0x20FF), (0x3099, 0x309A),
    (0xFE00, 0xFE2F), (0xE0100, 0xE01EF),
)  # fmt: skip
"""Accents, strokes and selectors that can be laid over any letter."""
_FILLERS = frozenset("\u115f\u1160\u3164\uffa0\u17b4\u17b5")
"""Letters by their class, but nothing to be seen."""
_ACCENTED = ((0x00C0, 0x058F), (0x1E00, 0x1FFF))
"""Latin, Greek, Cyrillic: where an accent does not make another letter for our purpose."""
_PAIRS = (
    "аa еe оo рp сc уy хx іi јj ѕs һh ԁd ԛq ԝw ѵv мm тt кk нh вb "
    "οo αa νv ιi κk ρp τt υu χx βb εe μm ηn ζz ıi øo łl đd"
)
_LOOK_ALIKES = {ord(pair[0]): pair[1] for pair in _PAIRS.split()}
"""Cyrillic, Greek and other letters drawn like Latin ones; both sides are folded alike."""
_CONTROL_SPACES = frozenset("\t\n\v\f\r\x1c\x1d\x1e\x1f\x85")
_DASHES = dict.fromkeys("‐‑‒–—―−﹣", "-")

_HAN = range(0x4E00, 0xA000)
"""Chinese characters of daily use: all but the traditional ones stay as they are in a fold."""
MARKS = ("，。、", "；：？！“”", "‘’（）《》…—·【】「」『』〈〉～")
"""Marks of Chinese beyond ASCII that stand for nothing in a fold, by how usual they are."""
_SHORT, _FEW = 48, 40
"""Characters of a text that a table folds faster one by one; different ones of a text that change,
beyond which the table is faster too."""


class Table(dict[int, str]):
    """A translation table that works out an entry when it is first met."""

    def __init__(self, fold: Callable[[str], str], plain: str, simplify: Iterable[int]) -> None:
        """`plain`: ranges of characters, as in a pattern, that the fold leaves alone, besides
        Chinese ones that `simplify` does not name."""
        super().__init__()
        self._fold = fold
        han = _ranges(_HAN, simplify)
        self.others: Callable[[str], list[str]] = re.compile(f"[^{plain}{han}]").findall
        """The characters of a text that may change, in their order."""

    def __missing__(self, code: int) -> str:
        folded = self._fold(chr(code))
        if len(self) < _CACHED_MAX:
            self[code] = folded
        return folded

    def of(self, text: str) -> str:
        """The same as `text.translate(self)`. Most characters of a long text stay as they are, and
        the few different ones that change are replaced one after the other."""
        if len(text) < _SHORT:
            return text.translate(self)
        others = set(self.others(text))
        if len(others) > _FEW:
            return text.translate(self)
        changes = {old: new for old in others if (new := self[ord(old)]) != old}
        if not changes.keys().isdisjoint("".join(changes.values())):
            return text.translate(self)
        for old, new in changes.items():
            text = text.replace(old, new)
        return text


def _rest(codes: range, without: Iterable[int]) -> Iterable[tuple[int, int]]:
    """The ranges that are left of `codes`, both ends included."""
    low = codes.start
    for gap in [*sorted(code for code in without if code in codes), codes.stop]:
        if low < gap:
            yield low, gap - 1
        low = gap + 1


def _ranges(codes: range, without: Iterable[int]) -> str:
    """The same, as in a pattern."""
    return "".join(f"{chr(low)}-{chr(high)}" for low, high in _rest(codes, without))


def _within(code: int, ranges: Iterable[tuple[int, int]]) -> bool:
    return any(low <= code <= high for low, high in ranges)


def is_ideograph(char: str) -> bool:
    """Whether a letter belongs to a script without spaces between words."""
    return _within(ord(char), _IDEOGRAPHS)


def is_invisible(char: str) -> bool:
    """Whether a character shows nothing of its own: joiners, controls, accents, selectors."""
    if char in _FILLERS or _within(ord(char), _MARKS):
        return True
    category = unicodedata.category(char)
    return category == "Cf" or (category == "Cc" and char not in _CONTROL_SPACES)


def _letters(char: str) -> str:
    """The letters and digits a character stands for, in one case and width, without accents; ""
    for a separator or something invisible."""
    if is_invisible(char):
        return ""
    out = []
    for piece in unicodedata.normalize("NFKC", char).casefold():
        bare = piece
        if _within(ord(piece), _ACCENTED):
            bare = unicodedata.normalize("NFD", piece)[0]
        digit = unicodedata.decimal(bare, -1)
        if digit >= 0:
            bare = str(digit)
        is_letter = bare.isalnum() or unicodedata.category(bare)[0] == "M"
        if is_letter and not is_invisible(bare):
            out.append(bare.translate(_LOOK_ALIKES))
    return "".join(out)


class Folding:
    """The tables, made once; `simplify` turns traditional characters into simplified ones, one for
    one. Immutable but for what it has worked out."""

    def __init__(self, simplify: dict[int, str]) -> None:
        self._simplify = simplify
        self.plain = f"\t\n\r -~{''.join(MARKS)}{_ranges(_HAN, simplify)}"
        """Characters of daily use, as in a pattern: visible ASCII, Chinese ones that every fold
        leaves alone, and their marks."""
        self.words = Table(self._word, "a-z0-9 ", _HAN)
        self.compact = Table(self._compact, "a-z0-9", simplify)
        self.flat = Table(self._flat, "\t\n -~", simplify)

    def _word(self, char: str) -> str:
        if is_invisible(char):
            return ""
        folded = "".join(SPACE if is_ideograph(c) else c for c in _letters(char))
        return folded if folded.strip() else SPACE

    def _compact(self, char: str) -> str:
        return _letters(char).translate(self._simplify)

    def _flat(self, char: str) -> str:
        simple = char.translate(self._simplify)
        wide = unicodedata.normalize("NFKC", simple)
        if len(wide) != 1:
            return simple if len(simple) == 1 else char
        digit = unicodedata.decimal(wide, -1)
        return _DASHES.get(char) or (str(digit) if digit >= 0 else wide)

    def ends_in_word(self, text: str, before: bool) -> bool:
        """Whether a letter put behind `text` would go on with a word; `before` tells it for the
        empty text."""
        words = self.words
        folded = words[ord(text[-1])] if text else ""
        if folded:
            return folded[-1] != SPACE
        for char in reversed(text):
            folded = words[ord(char)]
            if folded:
                return folded[-1] != SPACE
        return before

    def flatten(self, text: str) -> tuple[str, list[int] | None]:
        """Flat text without invisible characters, and where each of its characters stood; None
        when all stood where they stand."""
        if text.isascii() and text.isprintable():
            return text, None
        flat, words = self.flat.of(text), self.words
        if all(words[ord(char)] for char in set(self.flat.others(flat))):
            return flat, None
        origin = [i for i, char in enumerate(flat) if words[ord(char)]]
        return "".join(flat[i] for i in origin), origin
