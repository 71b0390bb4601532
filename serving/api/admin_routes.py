"""The admin API's paths: tenants, projects, keys, administrators, kill switches, history.

A new key is shown once, in the answer that makes it. Here is only HTTP.
"""

# No `from __future__ import annotations`: FastAPI reads the handlers' annotations, and those name
# what only this module's functions know.
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Body, Depends, FastAPI, Header, Query
from pydantic import BaseModel

from serving import auth
from serving.api.admin import ADMIN_PREFIX, Admin, Desk, actor_of, answer_errors
from serving.api.admin_bodies import (
    KeyTerms,
    NewAdministrator,
    NewKey,
    NewProject,
    NewSwitch,
    NewTenant,
    Scope,
    TenantChange,
)
from serving.directory import chain, commands
from serving.directory.base import decode_event
from serving.directory.roles import Right
from serving.directory.values import WHY_CHARS_MAX, names
from serving.errors import CallerError

Why = Annotated[str, Query(max_length=WHY_CHARS_MAX, description="Kept in the history.")]
PAGE = 10_000


def mount(app: FastAPI, admin: Admin) -> None:
    """Add the admin API to the ops application."""
    answer_errors(app)
    app.include_router(_router(admin))


def _router(admin: Admin) -> APIRouter:
    def desk(authorization: Annotated[str | None, Header()] = None) -> Desk:
        return Desk(admin, actor_of(admin, authorization, datetime.now(UTC)))

    router = APIRouter(prefix="/admin/v1", tags=["admin"])
    _reading(router, admin, desk)
    _tenants(router, desk)
    _keys(router, desk)
    _people(router, desk)
    return router


def _reading(router: APIRouter, admin: Admin, desk: Callable[..., Desk]) -> None:
    @router.get("/directory")
    async def read(at: Annotated[Desk, Depends(desk)]) -> dict[str, Any]:
        """Tenants, projects, keys and administrators without their values, and switches."""
        at.need(Right.SEE)
        found = admin.known
        hidden = {"hmac", "previous_hmac"}
        rows = {
            name: [_plain(row, hidden) for row in getattr(found, name).values()]
            for name in ("tenants", "projects", "keys", "administrators", "switches")
        }
        return {"version": found.version, "in_settings": names(admin.standing()), **rows}

    @router.get("/history")
    async def history(
        at: Annotated[Desk, Depends(desk)], after: Annotated[int, Query(ge=0)] = 0,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    ) -> dict[str, Any]:  # fmt: skip
        """Changes above number `after`, in order, each with the hash that chains it."""
        at.need(Right.SEE_HISTORY)
        entries = await admin.policies.history(after, limit)
        return {
            "entries": [
                {"number": e.number, "hash": e.hash.hex()}
                | msgspec.to_builtins(decode_event(e.data))
                for e in entries
            ]
        }

    @router.get("/history/verify")
    async def verify(
        at: Annotated[Desk, Depends(desk)], number: int = 0, head: str = ""
    ) -> dict[str, Any]:
        """Check the whole chain, and that it still holds an entry seen before."""
        at.need(Right.SEE_HISTORY)
        entries: list[chain.Entry] = []
        while page := await admin.policies.history(len(entries), PAGE):
            entries += page
        try:
            kept = (number, bytes.fromhex(head)) if number else None
        except ValueError:
            raise CallerError(
                "invalid_value", "head: the hash, in hex digits", param="head"
            ) from None
        found = chain.breaks(entries, kept)
        last = entries[-1] if entries else chain.Entry(0, b"", chain.GENESIS)
        return {
            "is_whole": not found, "breaks": [b._asdict() for b in found],
            "head": {"number": last.number, "hash": last.hash.hex()},
        }  # fmt: skip


def _tenants(router: APIRouter, desk: Callable[..., Desk]) -> None:
    @router.post("/tenants", status_code=201)
    async def create(
        at: Annotated[Desk, Depends(desk)], row: NewTenant, why: Why = ""
    ) -> dict[str, Any]:
        at.need(Right.MANAGE)
        at.need_changeable("tenant", row.id)
        version = await at.change(lambda d: commands.create_tenant(d, _said(row), at.by(why)))
        return {"id": row.id, "version": version}

    @router.patch("/tenants/{id_:path}")
    async def change(
        at: Annotated[Desk, Depends(desk)], id_: str, row: TenantChange, why: Why = ""
    ) -> dict[str, Any]:
        at.need(Right.MANAGE)
        at.need_changeable("tenant", id_)
        version = await at.change(lambda d: commands.change_tenant(d, id_, _said(row), at.by(why)))
        return {"id": id_, "version": version}

    @router.post("/projects", status_code=201)
    async def create_project(
        at: Annotated[Desk, Depends(desk)], row: NewProject, why: Why = ""
    ) -> dict[str, Any]:
        at.need(Right.MANAGE)
        version = await at.change(lambda d: commands.create_project(d, _said(row), at.by(why)))
        return {"id": f"{row.tenant}:{row.name}", "version": version}


def _keys(router: APIRouter, desk: Callable[..., Desk]) -> None:
    @router.post("/keys", status_code=201)
    async def create(
        at: Annotated[Desk, Depends(desk)], row: NewKey, why: Why = ""
    ) -> dict[str, Any]:
        """The answer shows the key, this once."""
        at.need(Right.MANAGE)
        at.need_changeable("key", row.id)
        key, hmac = at.new_value(auth.KEY_PREFIX)
        given = _said(row) | {"hmac": hmac}
        version = await at.change(lambda d: commands.create_key(d, given, at.by(why)))
        return {"id": row.id, "key": key, "version": version}

    @router.patch("/keys/{id_}")
    async def change(
        at: Annotated[Desk, Depends(desk)], id_: str, row: KeyTerms, why: Why = ""
    ) -> dict[str, Any]:
        at.need(Right.MANAGE)
        at.need_changeable("key", id_)
        version = await at.change(lambda d: commands.change_key(d, id_, _said(row), at.by(why)))
        return {"id": id_, "version": version}

    @router.post("/keys/{id_}/rotate")
    async def rotate(
        at: Annotated[Desk, Depends(desk)],
        id_: str,
        grace_s: Annotated[int, Body(embed=True)] = 86_400,
        why: Why = "",
    ) -> dict[str, Any]:
        """The answer shows the new value, this once; the old one stays good for `grace_s`."""
        at.need(Right.MANAGE)
        at.need_changeable("key", id_)
        key, hmac = at.new_value(auth.KEY_PREFIX)
        version = await at.change(lambda d: commands.rotate_key(d, id_, hmac, grace_s, at.by(why)))
        return {"id": id_, "key": key, "version": version}

    @router.post("/keys/{id_}/revoke")
    async def revoke(at: Annotated[Desk, Depends(desk)], id_: str, why: Why = "") -> dict[str, Any]:
        at.need(Right.SWITCH)
        at.need_changeable("key", id_)
        version = await at.change(lambda d: commands.revoke_key(d, id_, at.by(why)))
        return {"id": id_, "version": version}


def _people(router: APIRouter, desk: Callable[..., Desk]) -> None:
    @router.post("/administrators", status_code=201)
    async def create(
        at: Annotated[Desk, Depends(desk)], row: NewAdministrator, why: Why = ""
    ) -> dict[str, Any]:
        """The answer shows the administrator's key, this once."""
        at.need(Right.MANAGE)
        at.need_changeable("administrator", row.id)
        key, hmac = at.new_value(ADMIN_PREFIX)
        given = _said(row) | {"hmac": hmac}
        version = await at.change(lambda d: commands.create_administrator(d, given, at.by(why)))
        return {"id": row.id, "key": key, "version": version}

    @router.delete("/administrators/{id_}")
    async def remove(at: Annotated[Desk, Depends(desk)], id_: str, why: Why = "") -> dict[str, Any]:
        at.need(Right.MANAGE)
        at.need_changeable("administrator", id_)
        version = await at.change(lambda d: commands.remove_administrator(d, id_, at.by(why)))
        return {"id": id_, "version": version}

    @router.post("/switches", status_code=201)
    async def throw(at: Annotated[Desk, Depends(desk)], row: NewSwitch) -> dict[str, Any]:
        at.need(Right.SWITCH)
        version = await at.change(
            lambda d: commands.throw_switch(d, row.scope, row.value, at.by(row.why))
        )
        return {"id": f"{row.scope}:{row.value}", "version": version}

    @router.delete("/switches")
    async def take_back(
        at: Annotated[Desk, Depends(desk)], scope: Scope, value: str = "", why: Why = ""
    ) -> dict[str, Any]:
        at.need(Right.SWITCH)
        version = await at.change(lambda d: commands.take_back_switch(d, scope, value, at.by(why)))
        return {"id": f"{scope}:{value}", "version": version}


def _said(row: BaseModel) -> dict[str, Any]:
    """What the body holds, without what it leaves out."""
    return row.model_dump(exclude_none=True)


def _plain(row: BaseModel, hidden: set[str]) -> dict[str, Any]:
    return row.model_dump(mode="json", exclude_none=True, exclude=hidden)
