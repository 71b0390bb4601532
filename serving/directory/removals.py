"""Rows that are of no more use, taken away: only what cannot be missed, with an entry in the
history, which keeps all that they were. Pure.

A key's id may be made again afterwards: the books then hold two keys of one name, and the history
tells when each of them was there.
"""

from __future__ import annotations

from models.worded import Worded
from serving.directory.changes import By, Change, event, found
from serving.directory.values import Directory, Kind, removed
from serving.errors import CallerError


def remove_key(directory: Directory, id_: str, by: By) -> Change:
    """A key that was revoked or has expired; to callers it stays unknown."""
    key = found(directory.keys, id_, "key")
    has_expired = key.expires is not None and key.expires.timestamp() * 1e3 <= by.at_ms
    if not key.is_revoked and not has_expired:
        raise CallerError(
            "conflict",
            Worded("directory.key_good", "key {id} is still good: revoke it first", id=repr(id_)),
        )
    return _remove("key", id_, by)


def remove_project(directory: Directory, id_: str, by: By) -> Change:
    """A project that no key names, and nobody asks for."""
    project = found(directory.projects, id_, "project")
    own = (project.tenant, project.name)
    users = [k.id for k in directory.keys.values() if (k.tenant, k.project) == own]
    users += [r.id for r in directory.requests.values() if (r.tenant, r.project) == own]
    _check_unused("project", id_, users)
    return _remove("project", id_, by)


def remove_tenant(directory: Directory, id_: str, by: By) -> Change:
    """A suspended tenant without keys, projects, requests, customers and administrators."""
    tenant = found(directory.tenants, id_, "tenant")
    if not tenant.is_suspended:
        raise CallerError(
            "conflict",
            Worded("directory.tenant_in", "tenant {id} is let in: suspend it first", id=repr(id_)),
        )
    users = [key.id for key in directory.keys.values() if key.tenant == id_]
    users += [project.id for project in directory.projects.values() if project.tenant == id_]
    users += [request.id for request in directory.requests.values() if request.tenant == id_]
    users += [other for other in directory.tenants if other.startswith(f"{id_}/")]
    users += [a.id for a in directory.administrators.values() if id_ in (a.tenants or ())]
    _check_unused("tenant", id_, users)
    return _remove("tenant", id_, by)


def _check_unused(kind: Kind, id_: str, users: list[str]) -> None:
    if users:
        names = ", ".join(map(repr, users[:5])) + (" ..." if len(users) > 5 else "")
        raise CallerError(
            "conflict",
            Worded(
                "directory.still_named",
                "{kind} {id} is still named by {names}",
                kind=kind,
                id=repr(id_),
                names=names,
            ),
        )


def _remove(kind: Kind, id_: str, by: By) -> Change:
    return Change([removed(kind, id_)], event(f"{kind}:{id_}", "remove", by, {}))
