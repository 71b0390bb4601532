"""The admin API's path for limits: what callers may ask for and how much of it is left.

Answers from this process's memory, as its own requests are judged; here is only HTTP.
"""

# No `from __future__ import annotations`: FastAPI reads the handlers' annotations, and those name
# what only this module's functions know.
from collections.abc import Callable, Iterator
from typing import Annotated, Any, NamedTuple

import msgspec
from fastapi import APIRouter, Depends, Query, Response

from serving import auth
from serving.allowances import Allowances
from serving.api.admin import Admin, Desk
from serving.directory.roles import Right
from serving.directory.values import Directory
from serving.limits.sharing import Sharing
from serving.records import Subject

SHOWN_MAX = 1000


class Limits(NamedTuple):
    """What the path reads; built by the composition root."""

    allowances: Allowances
    sharing: Sharing
    clock: Callable[[], float]


def add(router: APIRouter, limits: Limits, admin: Admin, desk: Callable[..., Any]) -> None:
    """Limits and their use."""

    @router.get("/limits")
    async def read(
        at: Annotated[Desk, Depends(desk)],
        subject: Annotated[str, Query(max_length=300)] = "",
    ) -> Response:
        """Of each key, project and tenant with an allowance, among those the actor may see, what it
        may ask for and what is left of that; `subject` is one of them, like `key:shop`."""
        if not any(Right.SEE in one.rights for one in at.actor.allowed):
            at.need(Right.SEE)
        now_s = limits.clock()
        found = [
            {"subject": one.id, "tenant": tenant,
             "limits": [use._asdict() for use in limits.allowances.uses(one, now_s)]}
            for tenant, one in _subjects(admin.known)
            if subject in ("", one.id) and (at.may(Right.SEE) or at.may(Right.SEE, tenant))
        ]  # fmt: skip
        body = {
            "subjects": found[:SHOWN_MAX], "left_out": max(0, len(found) - SHOWN_MAX),
            "away": limits.sharing.away,
        }  # fmt: skip
        return Response(msgspec.json.encode(body), media_type="application/json")


def _subjects(known: Directory) -> Iterator[tuple[str, Subject]]:
    """Who has an allowance, with whose tenant that is."""
    for key in known.keys.values():
        for one in auth.subject(f"key:{key.id}", key.allowance):
            yield key.tenant, one
    for project in known.projects.values():
        for one in auth.subject(f"project:{project.id}", project.allowance):
            yield project.tenant, one
    for tenant in known.tenants.values():
        for one in auth.subject(f"tenant:{tenant.id}", tenant.allowance):
            yield tenant.id, one
