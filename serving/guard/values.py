"""The values of the guard: what is looked for, what was found, what is done about it.

A finding names a kind and a place, never the text: findings may be logged and counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import IntEnum
from typing import NamedTuple

import msgspec

from serving.records import Label, Sensitivity


class Action(IntEnum):
    """What is done with a finding, mildest first."""

    FLAG = 0
    """Counted and told, nothing changes."""
    MASK = 1
    """The text is replaced: a term by mask characters, personal data by a placeholder."""
    BLOCK = 2
    """The request is refused, or the answer ends with finish_reason `content_filter`."""


class Kind(Label):
    """Kinds of personal data, and of secrets. The value is what a placeholder shows the model."""

    IDENTITY = "IDCARD"
    """PRC resident identity number, 18 digits with a good checksum."""
    OLD_IDENTITY = "OLDID"
    """The 15-digit form, void since 2013: no checksum, so only flagged."""
    PHONE = "PHONE"
    BANK_CARD = "BANKCARD"
    EMAIL = "EMAIL"
    NAME = "NAME"
    ADDRESS = "ADDRESS"
    SSN = "SSN"
    PASSPORT = "PASSPORT"
    IBAN = "IBAN"
    CREDENTIAL = "SECRET"
    """Keys and tokens of machines: they make an input secret."""


class Personal(NamedTuple):
    """Personal data in a text, as offsets into it."""

    kind: Kind
    start: int
    end: int


class Term(msgspec.Struct, frozen=True, gc=False):
    """One entry of a term list."""

    text: str
    """As written in its file. A `*` at its end lets a word go on."""
    list: str
    category: str
    action: Action
    sensitivity: Sensitivity = Sensitivity.PUBLIC
    """What its presence makes of an input at least."""


class Match(NamedTuple):
    """A term in a text, as offsets into it."""

    start: int
    end: int
    stop: int
    """Characters that had to be read to be sure; behind the end when a word must have ended."""
    term: Term


class Finding(msgspec.Struct, frozen=True, gc=False):
    """What was found where, without the text."""

    kind: str
    """A list's category, a `Kind`, or `opaque`, `unreadable`, `moderation`."""
    action: Action
    where: str
    """The member of the body (`messages`, `tools`) or of the answer (`content`, `reasoning`)."""
    source: str = ""
    """The term list, or `personal`."""
    sensitivity: Sensitivity = Sensitivity.PUBLIC
    """What it makes of an input at least."""


class Counts(dict[Finding, int]):
    """How often what was found: a `collections.Counter`, which takes a microsecond to make."""

    def __missing__(self, finding: Finding) -> int:
        return 0


def classify(label: Sensitivity, findings: Iterable[Finding]) -> Sensitivity:
    """How sensitive an input is: what its tenant says, or more if more was found. Masking changes
    nothing here: what was masked is still known to the caller's answer, and a rule missed may be
    among what was not found."""
    return max([label, *(finding.sensitivity for finding in findings)])


PERSONAL_ACTIONS: Mapping[Kind, Action] = {
    kind: Action.FLAG if kind is Kind.OLD_IDENTITY else Action.MASK for kind in Kind
}


class Policy(msgspec.Struct, frozen=True):
    """What the guard does for one tenant. The default looks at nothing: `relay`."""

    label: Sensitivity = Sensitivity.INTERNAL
    """The least an input of this tenant is."""
    lists: frozenset[str] = frozenset()
    """Term lists, by name, that hold for inputs and answers."""
    personal: Mapping[Kind, Action] = {}
    """Kinds looked for in inputs. Masked ones leave the premises as placeholders only."""
    opaque: Sensitivity = Sensitivity.PERSONAL
    """What pictures, sound and prompts in tokens are at least: nobody here can read them."""
    opaque_action: Action = Action.FLAG
    mask: str = "*"
    """One character, written for each character of a masked term."""
    ai_text: str = ""
    """Appended once to each answer in text, for people; empty for none."""
    ai_producer: str = ""
    """Name or code of the service in the metadata of an answer; empty for no metadata."""
    moderation: str = "off"
    """`off`, or what holds when the external service does not answer: `open`, `closed`."""

    @property
    def looks(self) -> bool:
        """Whether inputs are read at all."""
        return bool(self.lists or self.personal or self.moderation != "off")

    @property
    def rewrites(self) -> bool:
        """Whether each answer must be inspected, whatever its input held."""
        return bool(self.lists or self.ai_text or self.ai_producer or self.moderation != "off")

    @property
    def is_relay(self) -> bool:
        """Whether neither inputs nor answers are looked at."""
        return not (self.looks or self.rewrites)
