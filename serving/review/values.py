"""What is kept for people to judge: samples of conversations, and complaints. Pure.

A case has facts, which may be listed, and a text, which is sealed: facts name no person but by HMAC
and hold no word of the conversation.
"""

from __future__ import annotations

import msgspec

from models.worded import Worded
from serving.errors import CallerError
from serving.records import Label

NOTES_MAX = 100
"""Steps that one case may take: beyond it nobody reads them."""


class Kind(Label):
    """What a case is."""

    SAMPLE = "sample"
    COMPLAINT = "complaint"


class State(Label):
    """How far a case has come."""

    OPEN = "open"
    FINE = "fine"
    """A sample in order, or a complaint without ground."""
    VIOLATION = "violation"
    """The content broke a rule, or the complaint was right."""
    FALSE_ALARM = "false_alarm"
    """The filter found what was harmless."""
    APPEALED = "appealed"
    """Judged once, and contested: for another pair of eyes."""


VERDICTS = frozenset({State.FINE, State.VIOLATION, State.FALSE_ALARM})
HELD = frozenset({State.OPEN, State.APPEALED})
"""Complaints and appeals in these states outlast the retention: somebody still waits for them."""


class Note(msgspec.Struct, frozen=True):
    """One step of a case."""

    at_ms: int
    by: str
    """The administrator."""
    state: State
    text: str = ""


class Case(msgspec.Struct, frozen=True):
    """The facts of one sample or complaint."""

    id: str
    """Of a sample its request's."""
    kind: Kind
    at_ms: int
    tenant: str
    state: State = State.OPEN
    request_id: str = ""
    """Whose conversation it is about; of a complaint, when it names one."""
    model: str = ""
    project: str = ""
    feature: str = ""
    end_user: str = ""
    """HMAC, as in the ledger."""
    why: str = ""
    """Of a sample `random` or `flagged`; of a complaint its category."""
    outcome: str = ""
    target: str = ""
    findings: tuple[str, ...] = ()
    """`stage/kind/action`, without text."""
    notes: tuple[Note, ...] = ()
    revision: int = 0
    """Grows with each step, so that no two reviewers overwrite each other."""


class Text(msgspec.Struct, frozen=True):
    """What is sealed."""

    prompt: bytes = b""
    """The request's prompt member as sent, JSON."""
    answer: bytes = b""
    """What the client got: a body, or events."""
    is_cut: bool = False
    """It was longer than what is kept."""
    words: str = ""
    """Of a complaint: what was said, and how to answer whoever said it."""


def judged(case: Case, verdict: State, by: str, at_ms: int, text: str = "") -> Case:
    """The case with a verdict. Raises CallerError: an appeal is not judged by who judged first."""
    if verdict not in VERDICTS:
        names = ", ".join(sorted(VERDICTS))
        raise CallerError(
            "invalid_value",
            Worded("review.verdict", "verdict: one of {names}", names=names),
            param="verdict",
        )
    if case.kind is Kind.COMPLAINT and verdict is State.FALSE_ALARM:
        message = Worded(
            "review.complaint", "a complaint is `fine` (without ground) or a `violation`"
        )
        raise CallerError("invalid_value", message, param="verdict")
    if case.state is State.APPEALED and by in {n.by for n in case.notes if n.state in VERDICTS}:
        raise CallerError(
            "conflict",
            Worded("review.appeal", "an appeal is judged by somebody who has not judged it yet"),
        )
    return _stepped(case, Note(at_ms, by, verdict, text))


def appealed(case: Case, by: str, at_ms: int, text: str) -> Case:
    """The case, contested. Raises CallerError unless it was judged."""
    if case.state not in VERDICTS:
        raise CallerError(
            "conflict",
            Worded(
                "review.contest",
                "only what was judged can be contested; it is {state}",
                state=case.state,
            ),
        )
    return _stepped(case, Note(at_ms, by, State.APPEALED, text))


def _stepped(case: Case, note: Note) -> Case:
    if len(case.notes) >= NOTES_MAX:
        raise CallerError(
            "conflict",
            Worded("review.steps", "a case takes at most {notes_max} steps", notes_max=NOTES_MAX),
        )
    return msgspec.structs.replace(
        case, state=note.state, notes=(*case.notes, note), revision=case.revision + 1
    )
