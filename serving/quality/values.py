"""What is asked, what came back, and what has changed since. Values only.

The prompts are ours, so their answers are nobody's personal data and are kept in plain text.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from serving.records import Label

TEXT_CHARS_MAX = 4000


class Expect(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What makes an answer valid; all that is said must hold."""

    keys: dict[str, Literal["string", "integer", "number", "boolean", "array", "object"]] = {}
    """Members of the JSON object that the answer, or the call's arguments, must be."""
    tool: str = ""
    """Name of the tool that must be called."""
    contains: tuple[str, ...] = ()
    """One of these must stand in the text, in upper or lower case."""
    refuses: bool = False
    """The model ought to decline."""


class Prompt(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One canary."""

    id: str
    messages: list[dict[str, Any]]
    expect: Expect
    max_tokens: int = 200
    more: dict[str, Any] = {}
    """Further members of the request: tools, response_format."""


class Run(msgspec.Struct, frozen=True):
    """One prompt asked once of one target."""

    at_ms: int
    model: str
    target: str
    """`own`, or an offering's id."""
    prompt: str
    is_answered: bool
    """False: nothing came; that is availability, not quality, and counts nowhere here."""
    is_valid: bool = False
    is_refused: bool = False
    tokens: int = 0
    text: str = ""
    is_baseline: bool = False
    """One of the first: what later ones are compared with."""
    why: str = ""
    """Why it is not valid, or not answered."""


class Sign(Label):
    """What can change."""

    VALIDITY = "validity"
    REFUSALS = "refusals"
    LENGTH = "length"
    AGREEMENT = "agreement"


class Drift(msgspec.Struct, frozen=True):
    """A change that chance does not explain."""

    model: str
    target: str
    sign: Sign
    before: float
    now: float
    chance: float
    """How likely at least as large a change is if nothing changed; 0 where no test is made."""
