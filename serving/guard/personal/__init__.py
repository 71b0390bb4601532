"""Finds personal data in text by rule: numbers with their checksums, signs, words that announce a
name or an address. Pure. Figures of recall and false positives: docs/guard.md."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from typing import NamedTuple

from serving.guard.folding import Folding
from serving.guard.glance import Glance, glance, is_encodable
from serving.guard.personal import chinese, digits, english, marks
from serving.guard.personal.cues import Cues
from serving.guard.values import Kind, Personal

_CUES = Cues(marks.CUES | english.CUES)
_STEP, _CONTEXT = 32_768, 256
"""Long texts are read in steps, with some of the text around, so that no single search takes long.
"""


def find(text: str, folding: Folding) -> list[Personal]:
    """Personal data in `text`, in order and apart; of two that overlap the first takes both."""
    out: list[Personal] = []
    for low, end, first, part in _parts(text):
        rules = due(part, folding)
        for found in read(part, folding, rules) if rules is not None else ():
            start = first + found.start
            if low <= start < end and not (out and start < out[-1].end):
                out.append(Personal(found.kind, start, first + found.end))
    return out


def prepare(folding: Folding) -> None:
    """Make what finding takes before the first text comes: some 70 ms."""
    _glances(folding.plain)


def is_clear(text: str, folding: Folding) -> bool:
    """Whether a glance tells that there is none, and none but everyday characters."""
    if len(text) <= _STEP:
        return due(text, folding) is None
    return all(due(part, folding) is None for *_, part in _parts(text))


def _parts(text: str) -> Iterator[tuple[int, int, int, str]]:
    """(where a step starts, where it ends, where its part starts, the part): a step with some text
    around it."""
    if len(text) <= _STEP + _CONTEXT:
        yield 0, len(text), 0, text
        return
    for low in range(0, len(text), _STEP):
        first = max(0, low - _CONTEXT)
        yield low, low + _STEP, first, text[first : low + _STEP + _CONTEXT]


class _Glances(NamedTuple):
    """What tells whether rules may find something in a text. Each module says in its `GLANCE` how
    that looks in a text of plain characters, before it is flat; it may say too much, never too
    little."""

    anything: Glance
    """A rare character, or what any of the others looks for."""
    in_ascii: Glance
    """The same of ASCII, in which no Chinese rule finds anything: a tenth of the pattern."""
    rare: Glance
    digits: Glance
    marks: Glance
    english: Glance
    chinese: Glance


@cache
def _glances(plain: str) -> _Glances:
    rare, rules = f"[^{plain}]", [each.GLANCE for each in (digits, marks, english, chinese)]
    anything, in_ascii = "|".join([rare, *rules]), "|".join([r"[^\t\n\r -~]", *rules[:3]])
    return _Glances(*map(glance, (anything, in_ascii, rare, *rules)))


class Due(NamedTuple):
    """Rules by which a text must be read."""

    digits: bool = True
    marks: bool = True
    english: bool = True
    chinese: bool = True


EVERY = Due()


def due(text: str, folding: Folding) -> Due | None:
    """None for a text in which no rule finds anything."""
    glances = _glances(folding.plain)
    if text.isascii():
        if not glances.in_ascii(text):
            return None
    elif not is_encodable(text):
        return EVERY
    elif not glances.anything(text):
        return None
    if glances.rare(text):
        return EVERY
    return Due(*(may_find(text) for may_find in glances[3:]))


def read(text: str, folding: Folding, rules: Due = EVERY) -> list[Personal]:
    """What rules find in a text of moderate length."""
    flat, origin = folding.flatten(text)
    signs = _CUES.signs(flat, rules.marks or rules.english)
    found: list[Personal] = []
    if rules.digits:
        found += digits.find(flat, signs)
    if rules.marks:
        found += marks.find(flat, signs)
    if rules.english:
        found += english.find(flat, signs)
    if rules.chinese and not flat.isascii():
        found += chinese.find(flat)
    apart = _apart(found)
    if origin is None:
        return apart
    return [Personal(kind, origin[a], origin[b - 1] + 1) for kind, a, b in apart]


def _apart(found: Iterable[Personal]) -> list[Personal]:
    out: list[Personal] = []
    for kind, start, end in sorted(found, key=lambda p: (p.start, -p.end)):
        if out and start < out[-1].end:
            last = out.pop()
            kind = Kind.IDENTITY if Kind.IDENTITY in (kind, last.kind) else last.kind
            start, end = last.start, max(end, last.end)
        out.append(Personal(kind, start, end))
    return out
