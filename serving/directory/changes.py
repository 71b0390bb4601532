"""One change of the directory as a value, and what every command checks alike. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, TypeVar

from pydantic import BaseModel, ValidationError

from models.worded import Worded, checked, of
from serving.directory.newer import kept
from serving.directory.values import (
    MODELS,
    WHY_CHARS_MAX,
    Directory,
    Document,
    Event,
    Kind,
    document,
)
from serving.errors import CallerError
from serving.settings import one_line

Row = TypeVar("Row", bound=BaseModel)
SECRET = frozenset({"hmac", "previous_hmac", "ticket_hmac"})
"""Fields that no answer and no history ever shows."""
KEPT_MAX = 10_000
"""Rows of one kind: beyond it somebody's script runs away."""
_LOOKS = str.maketrans({"0": "o", "O": "o", "1": "l", "I": "l"})


class By(NamedTuple):
    """Who changes something, when and why."""

    actor: str
    at_ms: int
    why: str = ""


class Change(NamedTuple):
    """Rows to store together with the event that tells of them."""

    documents: list[Document]
    event: Event


def put(
    kind: Kind, row: BaseModel, action: str, by: By, details: Mapping[str, Any] | None = None
) -> Change:
    """A row to store, told in the history by `details`, or as a whole but for its secrets."""
    stored = document(kind, row)
    told = row.model_dump(mode="json", exclude_none=True) if details is None else details
    return Change([stored], event(f"{kind}:{stored.id}", action, by, told))


def keeping(directory: Directory, change: Change) -> Change:
    """The change with what a newer Ballast wrote into its rows and is not understood here."""
    rows = []
    for row in change.documents:
        unknown = directory.unknown.get(f"{row.kind}:{row.id}")
        data = kept(row.data, unknown) if unknown and row.data else row.data
        rows.append(Document(row.kind, row.id, data))
    return change._replace(documents=rows)


def event(subject: str, action: str, by: By, details: Mapping[str, Any]) -> Event:
    """What the history keeps of a change to `kind:id`. Raises CallerError for a reason that would
    break a line of a log."""
    if len(by.why) > WHY_CHARS_MAX:
        message = Worded(
            "directory.why_long",
            "why: at most {why_chars_max} characters",
            why_chars_max=WHY_CHARS_MAX,
        )
        raise CallerError("invalid_value", message, param="why")
    try:
        one_line(by.why)
    except ValueError as error:
        raise CallerError(
            "invalid_value",
            Worded("field", "{name}: {what}", name="why", what=of(error)),
            param="why",
        ) from None
    safe = {name: value for name, value in details.items() if name not in SECRET}
    return Event(by.at_ms, by.actor, action, subject, by.why, safe)


def found(rows: Mapping[str, Row], id_: str, kind: Kind) -> Row:
    """The row with an id. Raises CallerError."""
    row = rows.get(id_)
    if row is None:
        raise CallerError(
            "not_found",
            Worded("directory.none", "there is no {kind} {id}", kind=kind, id=repr(id_[:200])),
        )
    return row


def check_new(rows: Mapping[str, BaseModel], id_: str, kind: Kind) -> None:
    """Raises CallerError if the id is taken, or nothing more may be kept."""
    if id_ in rows:
        raise CallerError(
            "conflict",
            Worded("directory.taken", "{kind} {id} is there already", kind=kind, id=repr(id_)),
        )
    if len(rows) >= KEPT_MAX:
        raise CallerError(
            "conflict",
            Worded(
                "directory.many",
                "there are {rows} rows of kind {kind}: clear some out",
                rows=len(rows),
                kind=kind,
            ),
        )


def check_name(rows: Mapping[str, BaseModel], id_: str, kind: Kind) -> None:
    """As `check_new`, for a name that people read: refuses one that looks like another's."""
    check_new(rows, id_, kind)
    looks = _looks(id_)
    for other in rows:
        if _looks(other) == looks:
            message = Worded(
                "directory.looks_like",
                "{kind} {other} is there, which looks like {id}",
                kind=kind,
                other=repr(other),
                id=repr(id_),
            )
            raise CallerError("conflict", message)


def _looks(id_: str) -> str:
    """The same for names that people take for one another: capitals, 0 and O, 1, l and I."""
    return id_.translate(_LOOKS).lower()


def validated(model: type[Row], row: Mapping[str, Any]) -> Row:
    """The row as its type. Raises CallerError that names the field and repeats no value."""
    assert model in MODELS.values()
    try:
        return model.model_validate(dict(row))
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        name = ".".join(map(str, first["loc"])) or "body"
        message = Worded("field", "{name}: {what}", name=name, what=checked(first))
        raise CallerError("invalid_value", message, param=name) from None
