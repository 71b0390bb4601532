"""What an administrator can change, as functions from one state to rows and an event. Pure.

Refuses what would leave the directory contradicting itself; never sees a key, only its HMAC. Times
are arguments. The caller has checked the actor's rights.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from models.worded import Worded
from serving.directory.changes import (
    SECRET,
    By,
    Change,
    Row,
    check_name,
    check_new,
    event,
    found,
    put,
    validated,
)
from serving.directory.values import Directory, Project, Scope, Switch, removed
from serving.errors import CallerError
from serving.records import Role
from serving.settings import Administrator, KeySettings, TenantSettings

GRACE_S_MAX = 30 * 86_400


def create_tenant(directory: Directory, row: Mapping[str, Any], by: By) -> Change:
    """A new tenant. A residency must be said: where data may go is nobody's default."""
    if "residency" not in row:
        raise CallerError(
            "invalid_value",
            Worded("directory.residency", "say the tenant's residency"),
            param="residency",
        )
    tenant = validated(TenantSettings, row)
    check_name(directory.tenants, tenant.id, "tenant")
    forwarder, _, customer = tenant.id.partition("/")
    if customer and forwarder not in directory.tenants:
        message = Worded(
            "directory.customer",
            "{id} is a customer of {forwarder}, which is not there",
            id=repr(tenant.id),
            forwarder=repr(forwarder),
        )
        raise CallerError("invalid_value", message, param="id")
    return put("tenant", tenant, "create", by)


def change_tenant(directory: Directory, id_: str, changes: Mapping[str, Any], by: By) -> Change:
    """Another residency, or suspended or not. Every gateway obeys within a second or stops."""
    tenant = found(directory.tenants, id_, "tenant")
    return put("tenant", _changed(tenant, changes, id_), "change", by, changes)


def create_project(directory: Directory, row: Mapping[str, Any], by: By) -> Change:
    """A project of a tenant."""
    project = validated(Project, row)
    found(directory.tenants, project.tenant, "tenant")
    check_name(directory.projects, project.id, "project")
    return put("project", project, "create", by)


def create_key(directory: Directory, row: Mapping[str, Any], by: By) -> Change:
    """A key for a tenant's project, by the HMAC of its value."""
    key = validated(KeySettings, row)
    found(directory.tenants, key.tenant, "tenant")
    check_name(directory.keys, key.id, "key")
    if key.project != "default":
        found(directory.projects, f"{key.tenant}:{key.project}", "project")
    return put("key", key, "create", by)


def change_key(directory: Directory, id_: str, changes: Mapping[str, Any], by: By) -> Change:
    """Another class, allow-list, expiry and so on; never its value or its owner."""
    key = found(directory.keys, id_, "key")
    fixed = sorted({"tenant", "project", "is_revoked", *SECRET, "previous_until"} & set(changes))
    if fixed:
        message = Worded(
            "directory.key_fixed",
            "{fixed}: rotate or revoke the key, or create another",
            fixed=[*fixed],
        )
        raise CallerError("invalid_value", message, param=fixed[0])
    return put("key", _changed(key, changes, id_), "change", by, changes)


def rotate_key(directory: Directory, id_: str, hmac: str, grace_s: int, by: By) -> Change:
    """A new value for a key; the old one stays good for `grace_s` seconds, at most 30 days."""
    key = found(directory.keys, id_, "key")
    if key.is_revoked:
        raise CallerError(
            "conflict",
            Worded(
                "directory.key_revoked", "key {id} has been revoked: create another", id=repr(id_)
            ),
        )
    if not 0 <= grace_s <= GRACE_S_MAX:
        message = Worded(
            "directory.grace", "grace_s: 0 to {grace_s_max} seconds", grace_s_max=GRACE_S_MAX
        )
        raise CallerError("invalid_value", message, param="grace_s")
    until = datetime.fromtimestamp(by.at_ms / 1e3 + grace_s, UTC)
    update = {"hmac": hmac, "previous_hmac": key.hmac, "previous_until": until}
    row = key.model_copy(update=update)
    return put("key", row, "rotate", by, {"previous_until": until.isoformat()})


def revoke_key(directory: Directory, id_: str, by: By) -> Change:
    """A key that is known and refused from now on, with both its values."""
    key = found(directory.keys, id_, "key")
    row = key.model_copy(update={"is_revoked": True})
    return put("key", row, "revoke", by, {"was_revoked": key.is_revoked})


def create_administrator(directory: Directory, row: Mapping[str, Any], by: By) -> Change:
    """A person or service with a role, for all tenants or for some."""
    new = validated(Administrator, row)
    check_name(directory.administrators, new.id, "administrator")
    for tenant in new.tenants or ():
        found(directory.tenants, tenant, "tenant")
    return put("administrator", new, "create", by)


def remove_administrator(directory: Directory, id_: str, by: By) -> Change:
    """Its key is unknown from now on. The last who may make others stays."""
    found(directory.administrators, id_, "administrator")
    left = [a for a in directory.administrators.values() if a.id != id_]
    if not any(a.role is Role.ADMIN and a.tenants is None for a in left):
        message = Worded(
            "directory.last_admin",
            "{id} is the last administrator of all: make another first",
            id=repr(id_),
        )
        raise CallerError("conflict", message)
    told = event(f"administrator:{id_}", "remove", by, {})
    return Change([removed("administrator", id_)], told)


def throw_switch(directory: Directory, scope: Scope, value: str, by: By) -> Change:
    """Stop everything new of a model, tenant, provider or jurisdiction, or all. Says who and why;
    throwing it again leaves the first one standing."""
    if not by.why.strip():
        raise CallerError("invalid_value", Worded("directory.why_needed", "say why"), param="why")
    row = {"scope": scope, "value": value, "why": by.why, "by": by.actor, "at_ms": by.at_ms}
    switch = validated(Switch, row)
    if (scope == "all") != (not value):
        message = Worded(
            "directory.switch_value",
            "`value` names what is stopped; it is empty for `all` and only there",
        )
        raise CallerError("invalid_value", message, param="value")
    check_new(directory.switches, switch.id, "switch")
    return put("switch", switch, "throw", by)


def take_back_switch(directory: Directory, scope: Scope, value: str, by: By) -> Change:
    """Let it flow again."""
    id_ = f"{scope}:{value}"
    found(directory.switches, id_, "switch")
    return Change([removed("switch", id_)], event(f"switch:{id_}", "take_back", by, {}))


def _changed(row: Row, changes: Mapping[str, Any], id_: str) -> Row:
    if "id" in changes:
        raise CallerError(
            "invalid_value", Worded("directory.id_fixed", "an id is for ever"), param="id"
        )
    return validated(type(row), row.model_dump() | dict(changes) | {"id": id_})
