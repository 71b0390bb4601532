"""Applies term lists to one text that arrives in pieces: flags, masks, blocks. Pure.

However the text is cut, the same characters leave: what is decided, and when, depends on the text
alone. Masking is by character, so a masked term need not be held until the next one is known.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from serving.guard.terms import Terms
from serving.guard.values import Action, Match

Report = Callable[[Match], None]
_BLOCK, _MASK = Action.BLOCK, Action.MASK


class TermFilter:
    """One text on its way. Mutable; belongs to one channel of one answer."""

    __slots__ = ("_condemned", "_held", "_is_inside", "_lists", "_mask", "_report", "_terms",
                 "is_blocked")  # fmt: skip

    def __init__(self, terms: Terms, lists: frozenset[str], mask: str, report: Report) -> None:
        self._terms = terms
        self._lists = lists
        self._mask = mask
        self._report = report
        self._held = ""
        self._condemned = 0
        """Of the held characters, so many are masked whatever follows."""
        self._is_inside = False
        self.is_blocked = False
        """A term that blocks was met: nothing more leaves."""

    @property
    def held(self) -> int:
        """Characters held back."""
        return len(self._held)

    def feed(self, text: str, is_last: bool = False) -> str:
        """What may leave now. `is_last`: the text is complete and nothing is held back; what comes
        after that is another text."""
        if self.is_blocked:
            return ""
        if self._held:
            text = self._held + text
        terms = self._terms
        if is_last and not terms.is_short(text) and terms.clears(text):
            hold = len(text)
        else:
            hold = terms.quick(text, self._is_inside, is_last)
        if hold >= 0 and not self._condemned:
            out = self._release(text, hold)
        else:
            out = self._look(text, is_last)
        if is_last:
            self._is_inside = False
        return out

    def _look(self, text: str, is_last: bool) -> str:
        found = self._terms.search(text, self._is_inside, is_last)
        hold = found.hold
        matches = [match for match in found.matches if match.term.list in self._lists]
        blocking = [match for match in matches if match.term.action is _BLOCK]
        if blocking:
            return self._block(text, matches, blocking)
        return self._apply(text, matches, hold)

    def _release(self, text: str, hold: int) -> str:
        self._held = text[hold:]
        text = text[:hold]
        if text:
            self._is_inside = self._terms.folding.ends_in_word(text, self._is_inside)
        return text

    def _apply(self, text: str, matches: list[Match], hold: int) -> str:
        """Mask and report what starts in the part that leaves; the rest is found again later."""
        leaving = [match for match in matches if match.start < hold]
        for match in leaving:
            self._report(match)
        condemned = self._condemned
        spans = [(match.start, match.end) for match in leaving if match.term.action is _MASK]
        out = self._release(masked(text, [(0, condemned), *spans], self._mask), hold)
        # What is held stays as it was: a masked letter can be part of another term.
        self._held = text[hold:]
        self._condemned = max([condemned, *(end for _, end in spans)]) - hold
        self._condemned = max(self._condemned, 0)
        return out

    def _block(self, text: str, matches: list[Match], blocking: list[Match]) -> str:
        """End at the first blocking term as if the text had come character by character."""
        first = min(blocking, key=lambda match: (match.stop, match.start))
        read = text[: first.stop]
        is_last = first.stop > len(text)
        hold = self._terms.search(read, self._is_inside, is_last).hold
        known = [match for match in matches if match.stop <= first.stop]
        out = self._apply(text, known, min(first.start, hold))
        for match in known:
            if match.start >= min(first.start, hold):
                self._report(match)
        self.is_blocked = True
        self._held = ""
        return out


def masked(text: str, spans: Iterable[tuple[int, int]], mask: str) -> str:
    """A text with a mask for each character of some spans."""
    for start, end in spans:
        if start < end:
            text = text[:start] + mask * (end - start) + text[end:]
    return text
