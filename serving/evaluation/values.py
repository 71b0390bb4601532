"""What an evaluation is made of. Values only; they are stored as JSON."""

from __future__ import annotations

import msgspec

TEXT_CHARS_MAX = 4000
ARMS = 2


class Arm(msgspec.Struct, frozen=True):
    """Who is asked."""

    name: str
    """As it was typed."""
    model: str
    target: str
    """`own`, an offering's id, or empty: wherever the gateway sends it."""


class Asked(msgspec.Struct, frozen=True):
    """A question as people see it."""

    id: str
    text: str


class Answer(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one arm said to one question, once."""

    question: str
    is_answered: bool
    """False: nothing came. A question without an answer is not passed."""
    faults: dict[str, str] = {}
    """Check -> what is wrong; empty where nothing is."""
    is_refused: bool = False
    finish: str = ""
    tokens: int = 0
    """Of the answer, as its target told."""
    whole_ms: int = 0
    """Until the whole answer was there."""
    target: str = ""
    """Who answered, as the gateway said."""
    request_id: str = ""
    text: str = ""
    why: str = ""
    """Why nothing came."""
    arm: int = 0
    """0 or 1."""

    @property
    def is_passed(self) -> bool:
        """It came, and nothing that was checked is wrong with it."""
        return self.is_answered and not any(self.faults.values())


class Evaluation(msgspec.Struct, frozen=True):
    """One set asked of two arms; the first is the base, the second the candidate."""

    id: str
    name: str
    """The set's file."""
    digest: str
    """Of what it asks."""
    created_ms: int
    arms: tuple[Arm, Arm]
    questions: tuple[Asked, ...]
    answers: tuple[Answer, ...]
    repeats: int = 1


class Vote(msgspec.Struct, frozen=True):
    """What one person said of one pair. `choice` is `0`, `1` (the arm), `tie` or `neither`."""

    question: str
    voter: str
    choice: str
