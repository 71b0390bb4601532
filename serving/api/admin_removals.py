"""The admin API's paths that take rows away. Rules stand in `directory.removals`; here is only
HTTP."""

# No `from __future__ import annotations`: FastAPI reads the handlers' annotations, and those name
# what only this module's functions know.
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query

from serving.api.admin import Desk
from serving.directory import removals
from serving.directory.roles import Right
from serving.directory.values import WHY_CHARS_MAX

Why = Annotated[str, Query(max_length=WHY_CHARS_MAX, description="Kept in the history.")]


def add(router: APIRouter, desk: Callable[..., Any]) -> None:
    """Keys, projects, tenants."""

    @router.delete("/keys/{id_}")
    async def remove_key(
        at: Annotated[Desk, Depends(desk)], id_: str, why: Why = ""
    ) -> dict[str, Any]:
        """Only one that was revoked or has expired."""
        at.need_of_key(Right.MANAGE, id_)
        at.need_changeable("key", id_)
        version = await at.change(lambda d: removals.remove_key(d, id_, at.by(why)))
        return {"id": id_, "version": version}

    @router.delete("/projects/{id_:path}")
    async def remove_project(
        at: Annotated[Desk, Depends(desk)], id_: str, why: Why = ""
    ) -> dict[str, Any]:
        """`tenant:name`; only one that no key names."""
        at.need(Right.MANAGE, id_.rpartition(":")[0])
        version = await at.change(lambda d: removals.remove_project(d, id_, at.by(why)))
        return {"id": id_, "version": version}

    @router.delete("/tenants/{id_:path}")
    async def remove_tenant(
        at: Annotated[Desk, Depends(desk)], id_: str, why: Why = ""
    ) -> dict[str, Any]:
        """Only one that is suspended and has nothing any more."""
        forwarder, _, customer = id_.partition("/")
        at.need(Right.MANAGE, forwarder if customer else None)
        at.need_changeable("tenant", id_)
        version = await at.change(lambda d: removals.remove_tenant(d, id_, at.by(why)))
        return {"id": id_, "version": version}
