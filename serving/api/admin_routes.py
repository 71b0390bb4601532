"""The admin API's paths: what is known, tenants, projects, administrators, kill switches.

Keys stand in `admin_keys`, the history in `admin_history`. Here is only HTTP.
"""

# No `from __future__ import annotations`: FastAPI reads the handlers' annotations, and those name
# what only this module's functions know.
from collections.abc import Callable
from typing import Annotated, Any, NamedTuple

import msgspec
from fastapi import APIRouter, Depends, FastAPI, Header, Query, Response

from serving import auth
from serving.api import (
    admin_audit,
    admin_budgets,
    admin_costs,
    admin_evaluations,
    admin_history,
    admin_keys,
    admin_limits,
    admin_removals,
    admin_reviews,
    admin_rollouts,
    admin_scorecard,
)
from serving.api.actors import Actors
from serving.api.admin import Admin, Desk, answer_errors, plain, said
from serving.api.admin_bodies import (
    NewAdministrator,
    NewProject,
    NewSwitch,
    NewTenant,
    Scope,
    TenantChange,
)
from serving.api.admin_limits import Limits
from serving.api.console import paths as console
from serving.api.console.paths import Elsewhere
from serving.directory import commands
from serving.directory.roles import Right
from serving.directory.values import WHY_CHARS_MAX, Directory, names
from serving.finance.desk import FinanceDesk
from serving.review.keeper import Reviews
from serving.rollout.desk import RolloutDesk

Why = Annotated[str, Query(max_length=WHY_CHARS_MAX, description="Kept in the history.")]


class Behind(NamedTuple):
    """What answers behind some of the paths."""

    reviews: Reviews
    limits: Limits
    finance: FinanceDesk
    elsewhere: Elsewhere
    rollouts: RolloutDesk


def mount(app: FastAPI, admin: Admin, actors: Actors, behind: Behind) -> None:
    """Add the admin API to the ops application."""

    async def desk(authorization: Annotated[str | None, Header()] = None) -> Desk:
        return Desk(admin, await actors.administrator(authorization, admin.utc_ms()))

    async def counter(authorization: Annotated[str | None, Header()] = None) -> Desk:
        return Desk(admin, await actors.asker(authorization, admin.utc_ms()))

    answer_errors(app)
    router = APIRouter(prefix="/admin/v1", tags=["admin"])
    _reading(router, admin, desk)
    _tenants(router, desk)
    _people(router, desk)
    _switches(router, admin, desk)
    admin_keys.add(router, desk)
    admin_keys.add_requests(router, admin, counter)
    admin_removals.add(router, desk)
    admin_history.add(router, admin, desk)
    admin_audit.add(router, admin.auditor, desk)
    admin_reviews.add(router, behind.reviews, desk)
    admin_limits.add(router, behind.limits, admin, desk)
    admin_budgets.add(router, admin, desk)
    admin_costs.add(router, behind.finance, desk)
    admin_scorecard.add(router, behind.finance, admin, desk)
    admin_evaluations.add(router, behind.finance, desk)
    admin_rollouts.add(router, behind.rollouts, admin, desk)
    app.include_router(router)
    console.add(app, behind.elsewhere, desk)


class Shown(NamedTuple):
    """What one actor sees of the directory."""

    tenants: list[dict[str, Any]]
    projects: list[dict[str, Any]]
    keys: list[dict[str, Any]]
    administrators: list[dict[str, Any]]
    switches: list[dict[str, Any]]
    requests: list[dict[str, Any]]


def _shown(found: Directory, at: Desk) -> Shown:
    """The rows of the actor's tenants; administrators and what switches stop in all only to those
    who see all tenants."""
    is_all = at.may(Right.SEE)

    def seen(tenant: str) -> bool:
        return is_all or at.may(Right.SEE, tenant)

    return Shown(
        [plain(row) for row in found.tenants.values() if seen(row.id)],
        [plain(row) for row in found.projects.values() if seen(row.tenant)],
        [plain(row) for row in found.keys.values() if seen(row.tenant)],
        [plain(row) for row in found.administrators.values() if is_all],
        [plain(s) for s in found.switches.values() if s.scope != "tenant" or seen(s.value)],
        [plain(row) for row in found.requests.values() if seen(row.tenant)],
    )


def _reading(router: APIRouter, admin: Admin, desk: Callable[..., Any]) -> None:
    @router.get("/whoami")
    async def whoami(at: Annotated[Desk, Depends(desk)]) -> dict[str, Any]:
        """Who asks, and what is allowed over which tenants; null is all."""
        allowed = [
            {"rights": sorted(one.rights), "tenants": one.tenants and sorted(one.tenants)}
            for one in at.actor.allowed
        ]
        return {"id": at.actor.id, "allowed": allowed}

    @router.get("/directory")
    async def read(at: Annotated[Desk, Depends(desk)]) -> Response:
        """Tenants, projects, keys and administrators without their values, switches, and requests
        for keys: those of the tenants that the actor may see."""
        if not any(Right.SEE in one.rights for one in at.actor.allowed):
            at.need(Right.SEE)
        found = admin.known
        shown = _shown(found, at)
        ids = {f"tenant:{row['id']}" for row in shown.tenants}
        ids |= {f"key:{row['id']}" for row in shown.keys}
        ids |= {f"administrator:{row['id']}" for row in shown.administrators}
        standing = [name for name in names(admin.standing()) if name in ids]
        body = {"version": found.version, "in_settings": standing} | shown._asdict()
        return Response(msgspec.json.encode(body), media_type="application/json")


def _owner(tenant: str) -> str | None:
    """Whose administrators may make and change a tenant: a customer's, those of its forwarder;
    any other's, those of all tenants."""
    forwarder, _, customer = tenant.partition("/")
    return forwarder if customer else None


def _tenants(router: APIRouter, desk: Callable[..., Any]) -> None:
    @router.post("/tenants", status_code=201)
    async def create(
        at: Annotated[Desk, Depends(desk)], row: NewTenant, why: Why = ""
    ) -> dict[str, Any]:
        at.need(Right.MANAGE, _owner(row.id))
        at.need_changeable("tenant", row.id)
        version = await at.change(lambda d: commands.create_tenant(d, said(row), at.by(why)))
        return {"id": row.id, "version": version}

    @router.patch("/tenants/{id_:path}")
    async def change(
        at: Annotated[Desk, Depends(desk)], id_: str, row: TenantChange, why: Why = ""
    ) -> dict[str, Any]:
        at.need(Right.MANAGE, _owner(id_))
        at.need_changeable("tenant", id_)
        version = await at.change(lambda d: commands.change_tenant(d, id_, said(row), at.by(why)))
        return {"id": id_, "version": version}

    @router.post("/projects", status_code=201)
    async def create_project(
        at: Annotated[Desk, Depends(desk)], row: NewProject, why: Why = ""
    ) -> dict[str, Any]:
        at.need(Right.MANAGE, row.tenant)
        version = await at.change(lambda d: commands.create_project(d, said(row), at.by(why)))
        return {"id": f"{row.tenant}:{row.name}", "version": version}


def _people(router: APIRouter, desk: Callable[..., Any]) -> None:
    @router.post("/administrators", status_code=201)
    async def create(
        at: Annotated[Desk, Depends(desk)], row: NewAdministrator, why: Why = ""
    ) -> dict[str, Any]:
        """The answer shows the administrator's key, this once."""
        at.need(Right.MANAGE)
        at.need_changeable("administrator", row.id)
        key, hmac = at.new_value(auth.ADMIN_PREFIX)
        given = said(row) | {"hmac": hmac}
        version = await at.change(lambda d: commands.create_administrator(d, given, at.by(why)))
        return {"id": row.id, "key": key, "version": version}

    @router.delete("/administrators/{id_}")
    async def remove(at: Annotated[Desk, Depends(desk)], id_: str, why: Why = "") -> dict[str, Any]:
        at.need(Right.MANAGE)
        at.need_changeable("administrator", id_)
        version = await at.change(lambda d: commands.remove_administrator(d, id_, at.by(why)))
        return {"id": id_, "version": version}


def _switches(router: APIRouter, admin: Admin, desk: Callable[..., Any]) -> None:
    @router.post("/switches", status_code=201)
    async def throw(at: Annotated[Desk, Depends(desk)], row: NewSwitch) -> dict[str, Any]:
        """An alias stops its model. `is_known` says whether this gateway has what is named: one of
        another version or spelling may not, so it is thrown all the same."""
        at.need(Right.SWITCH, row.value if row.scope == "tenant" else None)
        tenants = admin.known.tenants if row.scope == "tenant" else {}
        value = admin.targets.get(row.scope, {}).get(row.value, row.value)
        is_known = row.scope == "all" or row.value in (tenants or admin.targets.get(row.scope, {}))
        version = await at.change(
            lambda d: commands.throw_switch(d, row.scope, value, at.by(row.why))
        )
        return {"id": f"{row.scope}:{value}", "version": version, "is_known": is_known}

    @router.delete("/switches")
    async def take_back(
        at: Annotated[Desk, Depends(desk)], scope: Scope, value: str = "", why: Why = ""
    ) -> dict[str, Any]:
        """Who sees some tenants only takes back only what was thrown by the same."""
        value = admin.targets.get(scope, {}).get(value, value)
        at.need(Right.SWITCH, value if scope == "tenant" else None)
        thrown = admin.known.switches.get(f"{scope}:{value}")
        if thrown is not None and thrown.by != at.actor.id:
            at.need(Right.SWITCH)
        version = await at.change(lambda d: commands.take_back_switch(d, scope, value, at.by(why)))
        return {"id": f"{scope}:{value}", "version": version}
