"""The admin API's paths for keys and for requests of keys. A new key is shown once, in the answer
that makes it. Here is only HTTP.
"""

# No `from __future__ import annotations`: FastAPI reads the handlers' annotations, and those name
# what only this module's functions know.
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Query

from models.worded import Worded
from serving import auth
from serving.api.admin import Admin, Desk, plain, said
from serving.api.admin_bodies import KeyTerms, NewKey, NewRequest
from serving.directory import commands, key_requests
from serving.directory.roles import Right
from serving.directory.values import WHY_CHARS_MAX
from serving.errors import CallerError

Why = Annotated[str, Query(max_length=WHY_CHARS_MAX, description="Kept in the history.")]


def add(router: APIRouter, desk: Callable[..., Any]) -> None:
    """Keys: create, change, rotate, revoke."""

    @router.post("/keys", status_code=201)
    async def create(
        at: Annotated[Desk, Depends(desk)], row: NewKey, why: Why = ""
    ) -> dict[str, Any]:
        """The answer shows the key, this once."""
        at.need(Right.MANAGE, row.tenant)
        _need_for(at, row)
        at.need_changeable("key", row.id)
        key, hmac = at.new_value(auth.KEY_PREFIX)
        given = row.model_dump(exclude_none=True) | {"hmac": hmac}
        version = await at.change(lambda d: commands.create_key(d, given, at.by(why)))
        return {"id": row.id, "key": key, "version": version}

    @router.patch("/keys/{id_}")
    async def change(
        at: Annotated[Desk, Depends(desk)], id_: str, row: KeyTerms, why: Why = ""
    ) -> dict[str, Any]:
        at.need_of_key(Right.MANAGE, id_)
        _need_for(at, row)
        at.need_changeable("key", id_)
        version = await at.change(lambda d: commands.change_key(d, id_, said(row), at.by(why)))
        return {"id": id_, "version": version}

    @router.post("/keys/{id_}/rotate")
    async def rotate(
        at: Annotated[Desk, Depends(desk)], id_: str,
        grace_s: Annotated[int, Body(embed=True)] = 86_400, why: Why = "",
    ) -> dict[str, Any]:  # fmt: skip
        """The answer shows the new value, this once; the old one stays good for `grace_s`."""
        at.need_of_key(Right.MANAGE, id_)
        at.need_changeable("key", id_)
        key, hmac = at.new_value(auth.KEY_PREFIX)
        version = await at.change(lambda d: commands.rotate_key(d, id_, hmac, grace_s, at.by(why)))
        return {"id": id_, "key": key, "version": version}

    @router.post("/keys/{id_}/revoke")
    async def revoke(at: Annotated[Desk, Depends(desk)], id_: str, why: Why = "") -> dict[str, Any]:
        at.need_of_key(Right.SWITCH, id_)
        at.need_changeable("key", id_)
        version = await at.change(lambda d: commands.revoke_key(d, id_, at.by(why)))
        return {"id": id_, "version": version}


def _need_for(at: Desk, row: KeyTerms) -> None:
    """A key outside the bills, or one that speaks for others, is not one tenant's matter."""
    if row.is_load_test or row.is_forwarder or row.is_canary:
        at.need(Right.MANAGE)


def add_requests(router: APIRouter, admin: Admin, desk: Callable[..., Any]) -> None:
    """Requests for keys. `desk` knows API keys too."""

    @router.post("/key-requests", status_code=201)
    async def ask(at: Annotated[Desk, Depends(desk)], row: NewRequest) -> dict[str, Any]:
        """The answer shows a ticket, this once; it fetches the key once that is approved."""
        tenant = row.tenant or at.actor.tenant
        if not tenant:
            raise CallerError(
                "invalid_value",
                Worded("directory.say_tenant", "say for which tenant"),
                param="tenant",
            )
        at.need(Right.ASK, tenant)
        id_, (ticket, hmac) = at.new_id(), at.new_value(auth.TICKET_PREFIX)
        given = said(row) | {"id": id_, "tenant": tenant, "ticket_hmac": hmac}
        version = await at.change(lambda d: key_requests.ask(d, given, at.by(row.why)))
        return {"id": id_, "ticket": ticket, "version": version}

    @router.get("/key-requests")
    async def read(at: Annotated[Desk, Depends(desk)]) -> dict[str, Any]:
        """Those of the actor's tenants that are open."""
        now_ms = admin.utc_ms()
        rows = [
            plain(row)
            for row in admin.known.requests.values()
            if at.may(Right.ASK, row.tenant) and not key_requests.has_lapsed(row, now_ms)
        ]
        return {"requests": rows}

    _decisions(router, desk)


def _decisions(router: APIRouter, desk: Callable[..., Any]) -> None:
    """What an administrator, and then the asker, does with a request."""

    @router.post("/key-requests/{id_}/approve")
    async def approve(
        at: Annotated[Desk, Depends(desk)],
        id_: str,
        show: Annotated[bool, Body(embed=True)] = False,
        why: Why = "",
    ) -> dict[str, Any]:
        """With `show` the answer shows the key, this once; else the asker fetches it."""
        at.need_of_request(Right.MANAGE, id_)
        if not show:
            version = await at.change(lambda d: key_requests.approve(d, id_, at.by(why)))
            return {"id": id_, "version": version}
        key, hmac = at.new_value(auth.KEY_PREFIX)
        version = await at.change(lambda d: key_requests.approve_and_make(d, id_, hmac, at.by(why)))
        return {"id": id_, "key": key, "version": version}

    @router.post("/key-requests/{id_}/refuse")
    async def refuse(at: Annotated[Desk, Depends(desk)], id_: str, why: Why = "") -> dict[str, Any]:
        at.need_of_request(Right.MANAGE, id_)
        version = await at.change(lambda d: key_requests.refuse(d, id_, at.by(why)))
        return {"id": id_, "version": version}

    @router.post("/key-requests/{id_}/fetch")
    async def fetch(
        at: Annotated[Desk, Depends(desk)], id_: str,
        ticket: Annotated[str, Body(embed=True, max_length=200)],
    ) -> dict[str, Any]:  # fmt: skip
        """The answer shows the key, this once."""
        at.need_of_request(Right.ASK, id_)
        key, hmac = at.new_value(auth.KEY_PREFIX)
        marks = at.mark(ticket), hmac
        version = await at.change(lambda d: key_requests.fetch(d, id_, marks, at.by("")))
        return {"id": id_, "key": key, "version": version}
