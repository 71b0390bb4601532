"""Reads a term list: one term a line, and what holds for the whole list in lines that start with
`#!`. Pure.

    # anything behind one # is a comment
    #! category: gambling
    #! action: block
    #! sensitivity: internal
    赌博网站
    casino bonus
    gambl*
    彩票预测<TAB>flag
    内部代号<TAB>mask<TAB>project names

The list's name is its file's. The sensitivity is what a term makes of an input at least. `*` at the
end of a term lets the word go on; without it `class` is no `ass`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from serving.guard.values import Action, Term
from serving.records import Sensitivity

_T = TypeVar("_T")
TERMS_MAX = 200_000
"""Terms of one list."""
_ACTIONS = {action.name.lower(): action for action in Action}
_LEVELS = {level.name.lower(): level for level in Sensitivity}


class ListFault(ValueError):  # noqa: N818 - names a place in a file
    """A list that cannot be used: names the list, the line and what to do; never the term."""


class _Head:
    """What the lines that start with `#!` say."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.category = name
        self.action: Action | None = None
        self.sensitivity = Sensitivity.PUBLIC

    def read(self, line: str, number: int) -> None:
        key, _, value = (part.strip() for part in line.partition(":"))
        if key == "category" and 0 < len(value) <= 64:
            self.category = value
        elif key == "action":
            self.action = _one_of(_ACTIONS, value, self.name, number)
        elif key == "sensitivity":
            self.sensitivity = _one_of(_LEVELS, value, self.name, number)
        else:
            raise ListFault(
                f"{self.name}, line {number}: '#!' is followed by category, action or sensitivity"
            )

    def term(self, line: str, number: int) -> Term:
        """One entry."""
        text, *more = (part.strip() for part in line.split("\t"))
        action, category = self.action, self.category
        if len(more) > 2:
            raise ListFault(f"{self.name}, line {number}: more than term, action and category")
        if more and more[0]:
            action = _one_of(_ACTIONS, more[0], self.name, number)
        if len(more) > 1 and more[1]:
            category = more[1][:64]
        if action is None:
            raise ListFault(
                f"{self.name}, line {number}: say '#! action: block', mask or flag, above the terms"
            )
        return Term(text, self.name, category, action, self.sensitivity)


def read(name: str, text: str) -> list[Term]:
    """The terms of one list. Raises ListFault."""
    head = _Head(name)
    terms: list[Term] = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("#!"):
            head.read(line[2:], number)
        elif line.strip() and not line.startswith("#"):
            terms.append(head.term(line, number))
            if len(terms) > TERMS_MAX:
                raise ListFault(f"{name}: more than {TERMS_MAX} terms; split the list")
    return terms


def _one_of(known: Mapping[str, _T], value: str, name: str, number: int) -> _T:
    if value not in known:
        raise ListFault(f"{name}, line {number}: one of {', '.join(known)} is expected")
    return known[value]
