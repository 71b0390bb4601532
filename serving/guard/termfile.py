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

from models.worded import Worded
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
            template = "{list}, line {number}: '#!' is followed by category, action or sensitivity"
            raise ListFault(Worded("terms.head", template, list=self.name, number=number))

    def term(self, line: str, number: int) -> Term:
        """One entry."""
        text, *more = (part.strip() for part in line.split("\t"))
        action, category = self.action, self.category
        if len(more) > 2:
            template = "{list}, line {number}: more than term, action and category"
            raise ListFault(Worded("terms.columns", template, list=self.name, number=number))
        if more and more[0]:
            action = _one_of(_ACTIONS, more[0], self.name, number)
        if len(more) > 1 and more[1]:
            category = more[1][:64]
        if action is None:
            template = (
                "{list}, line {number}: say '#! action: block', mask or flag, above the terms"
            )
            raise ListFault(Worded("terms.no_action", template, list=self.name, number=number))
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
                template = "{list}: more than {most} terms; split the list"
                raise ListFault(Worded("terms.many", template, list=name, most=TERMS_MAX))
    return terms


def _one_of(known: Mapping[str, _T], value: str, name: str, number: int) -> _T:
    if value not in known:
        template = "{list}, line {number}: one of {known} is expected"
        raise ListFault(
            Worded("terms.one_of", template, list=name, number=number, known=list(known))
        )
    return known[value]
