"""What an administrator can change, as functions from one state to rows and an event. Pure.

Refuses what would leave the directory contradicting itself; never sees a key, only its HMAC. Times
are arguments. The caller has checked the actor's rights.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple, TypeVar

from pydantic import BaseModel, ValidationError

from serving.directory.values import (
    MODELS,
    WHY_CHARS_MAX,
    Directory,
    Document,
    Event,
    Kind,
    Project,
    Scope,
    Switch,
    document,
    removed,
)
from serving.errors import CallerError
from serving.settings import Administrator, KeySettings, TenantSettings

_Row = TypeVar("_Row", bound=BaseModel)
_SECRET = frozenset({"hmac", "previous_hmac"})
GRACE_S_MAX = 30 * 86_400
KEPT_MAX = 10_000
"""Rows of one kind: beyond it somebody's script runs away."""


class By(NamedTuple):
    """Who changes something, when and why."""

    actor: str
    at_ms: int
    why: str = ""


class Change(NamedTuple):
    """Rows to store together with the event that tells of them."""

    documents: list[Document]
    event: Event


def create_tenant(directory: Directory, row: Mapping[str, Any], by: By) -> Change:
    """A new tenant. A residency must be said: where data may go is nobody's default."""
    if "residency" not in row:
        raise CallerError("invalid_value", "say the tenant's residency", param="residency")
    tenant = _validated(TenantSettings, row)
    _check_new(directory.tenants, tenant.id, "tenant")
    forwarder, _, customer = tenant.id.partition("/")
    if customer and forwarder not in directory.tenants:
        message = f"{tenant.id!r} is a customer of {forwarder!r}, which is not there"
        raise CallerError("invalid_value", message, param="id")
    return _put("tenant", tenant, "create", by)


def change_tenant(directory: Directory, id_: str, changes: Mapping[str, Any], by: By) -> Change:
    """Another residency, or suspended or not. Every gateway obeys within a second or stops."""
    tenant = _found(directory.tenants, id_, "tenant")
    return _put("tenant", _changed(tenant, changes, id_), "change", by, changes)


def create_project(directory: Directory, row: Mapping[str, Any], by: By) -> Change:
    """A project of a tenant."""
    project = _validated(Project, row)
    _found(directory.tenants, project.tenant, "tenant")
    _check_new(directory.projects, project.id, "project")
    return _put("project", project, "create", by)


def create_key(directory: Directory, row: Mapping[str, Any], by: By) -> Change:
    """A key for a tenant's project, by the HMAC of its value."""
    key = _validated(KeySettings, row)
    _found(directory.tenants, key.tenant, "tenant")
    _check_new(directory.keys, key.id, "key")
    if key.project != "default":
        _found(directory.projects, f"{key.tenant}:{key.project}", "project")
    return _put("key", key, "create", by)


def change_key(directory: Directory, id_: str, changes: Mapping[str, Any], by: By) -> Change:
    """Another class, allow-list, expiry and so on; never its value or its owner."""
    key = _found(directory.keys, id_, "key")
    fixed = sorted({"tenant", "is_revoked", *_SECRET, "previous_until"} & set(changes))
    if fixed:
        message = f"{', '.join(fixed)}: rotate or revoke the key, or create another"
        raise CallerError("invalid_value", message, param=fixed[0])
    return _put("key", _changed(key, changes, id_), "change", by, changes)


def rotate_key(directory: Directory, id_: str, hmac: str, grace_s: int, by: By) -> Change:
    """A new value for a key; the old one stays good for `grace_s` seconds, at most 30 days."""
    key = _found(directory.keys, id_, "key")
    if key.is_revoked:
        raise CallerError("conflict", f"key {id_!r} has been revoked: create another")
    if not 0 <= grace_s <= GRACE_S_MAX:
        message = f"grace_s: 0 to {GRACE_S_MAX} seconds"
        raise CallerError("invalid_value", message, param="grace_s")
    until = datetime.fromtimestamp(by.at_ms / 1e3 + grace_s, UTC)
    update = {"hmac": hmac, "previous_hmac": key.hmac, "previous_until": until}
    row = key.model_copy(update=update)
    return _put("key", row, "rotate", by, {"previous_until": until.isoformat()})


def revoke_key(directory: Directory, id_: str, by: By) -> Change:
    """A key that is known and refused from now on, with both its values."""
    key = _found(directory.keys, id_, "key")
    row = key.model_copy(update={"is_revoked": True})
    return _put("key", row, "revoke", by, {"was_revoked": key.is_revoked})


def create_administrator(directory: Directory, row: Mapping[str, Any], by: By) -> Change:
    """A person or service with a role."""
    new = _validated(Administrator, row)
    _check_new(directory.administrators, new.id, "administrator")
    return _put("administrator", new, "create", by)


def remove_administrator(directory: Directory, id_: str, by: By) -> Change:
    """Its key is unknown from now on."""
    _found(directory.administrators, id_, "administrator")
    return Change([removed("administrator", id_)], _event("administrator", id_, "remove", by, {}))


def throw_switch(directory: Directory, scope: Scope, value: str, by: By) -> Change:
    """Stop everything new of a model, tenant, provider or jurisdiction, or all. Says who and why;
    throwing it again leaves the first one standing."""
    if not by.why.strip():
        raise CallerError("invalid_value", "say why", param="why")
    row = {"scope": scope, "value": value, "why": by.why, "by": by.actor, "at_ms": by.at_ms}
    switch = _validated(Switch, row)
    if (scope == "all") != (not value):
        message = "`value` names what is stopped; it is empty for `all` and only there"
        raise CallerError("invalid_value", message, param="value")
    _check_new(directory.switches, switch.id, "switch")
    return _put("switch", switch, "throw", by)


def take_back_switch(directory: Directory, scope: Scope, value: str, by: By) -> Change:
    """Let it flow again."""
    id_ = f"{scope}:{value}"
    _found(directory.switches, id_, "switch")
    return Change([removed("switch", id_)], _event("switch", id_, "take_back", by, {}))


def _put(
    kind: Kind, row: BaseModel, action: str, by: By, details: Mapping[str, Any] | None = None
) -> Change:
    stored = document(kind, row)
    told = row.model_dump(mode="json", exclude_none=True) if details is None else dict(details)
    return Change([stored], _event(kind, stored.id, action, by, told))


def _event(kind: Kind, id_: str, action: str, by: By, details: Mapping[str, Any]) -> Event:
    safe = {name: value for name, value in details.items() if name not in _SECRET}
    return Event(by.at_ms, by.actor, action, f"{kind}:{id_}", by.why[:WHY_CHARS_MAX], safe)


def _found(rows: Mapping[str, _Row], id_: str, kind: Kind) -> _Row:
    row = rows.get(id_)
    if row is None:
        raise CallerError("not_found", f"there is no {kind} {id_[:200]!r}")
    return row


def _check_new(rows: Mapping[str, BaseModel], id_: str, kind: Kind) -> None:
    if id_ in rows:
        raise CallerError("conflict", f"{kind} {id_!r} is there already")
    if any(id_.lower() == other.lower() for other in rows):
        message = f"a {kind} is there that differs from {id_!r} in capitals only"
        raise CallerError("conflict", message)
    if len(rows) >= KEPT_MAX:
        raise CallerError("conflict", f"there are {len(rows)} rows of kind {kind}: clear some out")


def _changed(row: _Row, changes: Mapping[str, Any], id_: str) -> _Row:
    if "id" in changes:
        raise CallerError("invalid_value", "an id is for ever", param="id")
    return _validated(type(row), row.model_dump() | dict(changes) | {"id": id_})


def _validated(model: type[_Row], row: Mapping[str, Any]) -> _Row:
    assert model in MODELS.values()
    try:
        return model.model_validate(dict(row))
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        name = ".".join(map(str, first["loc"])) or "body"
        raise CallerError("invalid_value", f"{name}: {first['msg']}", param=name) from None
