"""Asking for a key: somebody asks, an administrator decides, the asker fetches. Pure.

The key's value is made at the moment it is shown, to the approver or to the asker, never before;
so none is ever stored. What nobody decides or fetches lapses.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from models.worded import Worded
from serving import auth
from serving.directory import commands
from serving.directory.changes import (
    By,
    Change,
    check_name,
    check_new,
    event,
    found,
    put,
    validated,
)
from serving.directory.values import Directory, Event, KeyRequest, removed
from serving.errors import CallerError

DAY_MS = 86_400_000
WAITING_DAYS_MAX, APPROVED_DAYS_MAX = 30, 7
PER_TENANT_MAX = 20
"""Open at once: a runaway script must not fill the approver's desk."""
TERMS = ("feature", "overflow", "latency_class", "models", "expires")
_NO_HMAC = "0" * 64


def ask(directory: Directory, row: Mapping[str, Any], by: By) -> Change:
    """A request for a key, with a reason. Takes away those that have lapsed."""
    if not by.why.strip():
        raise CallerError(
            "invalid_value", Worded("directory.say_why", "say what the key is for"), param="why"
        )
    told = {"why": by.why, "by": by.actor, "at_ms": by.at_ms}
    request = validated(KeyRequest, dict(row) | told | {"approved_by": "", "approved_ms": 0})
    lapsed = [r for r in directory.requests.values() if has_lapsed(r, by.at_ms)]
    others = [r for r in directory.requests.values() if not has_lapsed(r, by.at_ms)]
    check_new({r.id: r for r in others}, request.id, "request")
    check_name({r.key: r for r in others}, request.key, "key")
    # As it would be made: what could never be approved is refused at once.
    commands.create_key(directory, _key(request, _NO_HMAC), by)
    if sum(r.tenant == request.tenant for r in others) >= PER_TENANT_MAX:
        message = Worded(
            "directory.requests_open",
            "{per_tenant_max} requests of tenant {tenant} are open already",
            per_tenant_max=PER_TENANT_MAX,
            tenant=repr(request.tenant),
        )
        raise CallerError("conflict", message)
    change = put("request", request, "ask", by)
    return Change([*change.documents, *(removed("request", r.id) for r in lapsed)], change.event)


def approve(directory: Directory, id_: str, by: By) -> Change:
    """Let the asker fetch the key."""
    request = _open(directory, id_, by)
    if request.approved_by:
        raise CallerError(
            "conflict",
            Worded("directory.approved", "request {id} is approved already", id=repr(id_)),
        )
    approved = request.model_copy(update={"approved_by": by.actor, "approved_ms": by.at_ms})
    return put("request", approved, "approve", by)


def approve_and_make(directory: Directory, id_: str, hmac: str, by: By) -> Change:
    """Approve, and make the key by the HMAC of its value, to be shown to the approver."""
    return _make(directory, _open(directory, id_, by), hmac, "approve", by)


def refuse(directory: Directory, id_: str, by: By) -> Change:
    """Take a request away, approved or not."""
    request = found(directory.requests, id_, "request")
    return Change([removed("request", id_)], _told(request, "refuse", by))


def fetch(directory: Directory, id_: str, marks: tuple[str, str], by: By) -> Change:
    """Make the key of an approved request, once. `marks` are the HMACs of the ticket, which only
    the asker was shown, and of the key's value."""
    request = _open(directory, id_, by)
    ticket, hmac = marks
    if not auth.is_same(request.ticket_hmac, ticket):
        raise CallerError(
            "invalid_value",
            Worded("directory.ticket", "this is not the request's ticket"),
            param="ticket",
        )
    if not request.approved_by:
        raise CallerError(
            "conflict",
            Worded("directory.not_approved", "request {id} is not approved yet", id=repr(id_)),
        )
    return _make(directory, request, hmac, "fetch", by)


def has_lapsed(request: KeyRequest, now_ms: int) -> bool:
    """Whether nobody decided on it, or fetched its key, in time."""
    if request.approved_by:
        return now_ms - request.approved_ms > APPROVED_DAYS_MAX * DAY_MS
    return now_ms - request.at_ms > WAITING_DAYS_MAX * DAY_MS


def _open(directory: Directory, id_: str, by: By) -> KeyRequest:
    request = found(directory.requests, id_, "request")
    if has_lapsed(request, by.at_ms):
        raise CallerError(
            "not_found",
            Worded("directory.lapsed", "request {id} has lapsed: ask again", id=repr(id_)),
        )
    return request


def _make(directory: Directory, request: KeyRequest, hmac: str, action: str, by: By) -> Change:
    made = commands.create_key(directory, _key(request, hmac), by)
    return Change([*made.documents, removed("request", request.id)], _told(request, action, by))


def _key(request: KeyRequest, hmac: str) -> dict[str, Any]:
    terms = {name: getattr(request, name) for name in TERMS}
    row = {"id": request.key, "tenant": request.tenant, "project": request.project}
    return row | terms | {"hmac": hmac}


def _told(request: KeyRequest, action: str, by: By) -> Event:
    """The request as it was asked for, in the history of what became of it."""
    return event(f"request:{request.id}", action, by, request.model_dump(mode="json"))
