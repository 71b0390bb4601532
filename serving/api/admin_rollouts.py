"""The admin API's paths for rollouts. Rules stand in `rollout.commands`; here is only HTTP."""

# No `from __future__ import annotations`: FastAPI reads the handlers' annotations, and those name
# what only this module's functions know.
import asyncio
from collections.abc import Callable
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends, Query, Response
from pydantic import Field

from serving.api.admin import Admin, Desk, plain
from serving.directory.changes import Change
from serving.directory.roles import Right
from serving.directory.values import WHY_CHARS_MAX, Directory
from serving.errors import CallerError
from serving.placement.values import PLAIN
from serving.rollout import commands
from serving.rollout.desk import RolloutDesk, one_of_few, staying
from serving.rollout.gap import Gap
from serving.rollout.moving import ceilings
from serving.rollout.values import BLUE_GREEN, CANARY, Checks
from serving.settings import Group, ModelName

PLANS_MAX = 2
"""Gaps that one gateway works out at a time: each reads a day of the ledger."""
Why = Annotated[str, Query(max_length=WHY_CHARS_MAX, description="Kept in the history.")]


class NewRollout(Group):
    """What is to move where, and how."""

    name: ModelName
    new: ModelName
    old: ModelName = ""
    """Empty: what the name means now."""
    steps: tuple[Annotated[int, Field(ge=1, le=100)], ...] = Field(CANARY, max_length=32)
    checks: Checks = Checks()
    is_in_place: bool = False
    gap_s: float | None = Field(None, gt=0, le=86_400)
    """How long no engine will be there; unsaid: the new model's time to ready."""
    accept: bool = False
    """The gap as it was told."""


def add(router: APIRouter, rollouts: RolloutDesk, admin: Admin, desk: Callable[..., Any]) -> None:
    """Read, ask, start, and the three verbs."""

    asking = asyncio.Semaphore(PLANS_MAX)

    async def told_of(row: NewRollout) -> dict[str, Any]:
        telling = _told(rollouts, admin, row)
        return await (one_of_few(asking, telling) if row.is_in_place else telling)

    @router.get("/rollouts")
    async def read(at: Annotated[Desk, Depends(desk)]) -> Response:
        """Every rollout that the directory holds, with its weight now."""
        at.need(Right.SEE)
        found = [plain(row) | {"percent": row.percent} for row in admin.known.rollouts.values()]
        return Response(msgspec.json.encode({"rollouts": found}), media_type="application/json")

    @router.post("/rollouts/plan")
    async def ask(at: Annotated[Desk, Depends(desk)], row: NewRollout) -> Response:
        """What starting it would mean; nothing is started."""
        at.need(Right.SEE)
        told = await told_of(row)
        return Response(msgspec.json.encode(told), media_type="application/json")

    @router.post("/rollouts", status_code=201)
    async def start(at: Annotated[Desk, Depends(desk)], row: NewRollout, why: Why = "") -> Response:
        """Refused while a gap is not accepted; the answer says what it is."""
        at.need(Right.ROLL)
        at.need_changeable("rollout", row.name)
        told = await told_of(row)
        if row.is_in_place and not row.accept:
            raise CallerError("conflict", f"{told['words']}. Say `accept` to start all the same")
        given = {
            "id": row.name, "old": told["old"], "new": row.new, "checks": row.checks.model_dump(),
            "steps": BLUE_GREEN if row.is_in_place else row.steps,
            "needs_engine": rollouts.has_engines(row.new), "is_in_place": row.is_in_place,
        }  # fmt: skip
        if told["ceilings"]:
            given["reason"] = f"started; {told['ceilings']}"
        version = await at.change(lambda d: commands.start(d, given, at.by(why)))
        body = {"id": row.name, "version": version} | told
        return Response(msgspec.json.encode(body), 201, media_type="application/json")

    _verbs(router, rollouts, desk)


def _verbs(router: APIRouter, rollouts: RolloutDesk, desk: Callable[..., Any]) -> None:
    async def do(
        at: Desk, name: str, decide: Callable[[Directory], Change], *, is_stop: bool = False
    ) -> dict[str, Any]:
        at.need(Right.ROLL)
        at.need_changeable("rollout", name, is_stop=is_stop)
        return {"id": name, "version": await at.change(decide)}

    @router.post("/rollouts/{name:path}/pause")
    async def pause(at: Annotated[Desk, Depends(desk)], name: str, why: Why = "") -> dict[str, Any]:
        return await do(at, name, lambda d: commands.pause(d, name, at.by(why)), is_stop=True)

    @router.post("/rollouts/{name:path}/resume")
    async def resume(
        at: Annotated[Desk, Depends(desk)], name: str, why: Why = ""
    ) -> dict[str, Any]:
        return await do(at, name, lambda d: commands.resume(d, name, at.by(why)))

    @router.post("/rollouts/{name:path}/abort")
    async def abort(at: Annotated[Desk, Depends(desk)], name: str, why: Why = "") -> dict[str, Any]:
        """All calls to the old model again, also of one that is done."""
        return await do(at, name, lambda d: commands.abort(d, name, at.by(why)), is_stop=True)

    @router.delete("/rollouts/{name:path}")
    async def close(at: Annotated[Desk, Depends(desk)], name: str, why: Why = "") -> dict[str, Any]:
        """Take the row of an ended rollout away; of one that is done once the settings say so."""
        meant = rollouts.routes[name].model if name in rollouts.routes else ""
        return await do(at, name, lambda d: commands.close(d, name, at.by(why), meant))


def _old(rollouts: RolloutDesk, admin: Admin, row: NewRollout) -> str:
    """The model that a name means now, or is said to. Raises CallerError."""
    meant = rollouts.meant(row.name)
    had = admin.known.rollouts.get(row.name)
    now = had.new if had is not None and had.state == "done" else meant
    old = row.old or now
    rollouts.check(row.name, old, row.new)
    if old != now:
        message = f"{row.name!r} means {now!r} now, not {old!r}"
        raise CallerError("conflict", message, param="old")
    return old


async def _told(rollouts: RolloutDesk, admin: Admin, row: NewRollout) -> dict[str, Any]:
    """What starting it means, in numbers and in words."""
    old = _old(rollouts, admin, row)
    stay = staying(admin.known.keys.values(), old, row.new)
    before, after = rollouts.routes[row.name], rollouts.routes.get(row.new, PLAIN)
    told: dict[str, Any] = {
        "old": old, "new": row.new, "keys_that_stay": stay, "gap": None,
        "ceilings": ceilings(row.new, before.ceilings, after.ceilings),
    }  # fmt: skip
    words = []
    if row.is_in_place:
        gap = await rollouts.gap(old, row.new, row.gap_s)
        told["gap"] = gap._asdict() | {"kept": [one._asdict() for one in gap.kept]}
        words.append(said(gap))
    elif not rollouts.has_engines(row.new):
        words.append(f"{row.new} has no engine of ours: third parties serve it from the first call")
    else:
        words.append("nothing is moved before an engine of the new model is there")
    if stay:
        words.append(f"{len(stay)} keys may not call {row.new} and stay on {old}")
    if told["ceilings"]:
        words.append(told["ceilings"])
    return told | {"words": "; ".join(words)}


def said(gap: Gap) -> str:
    """A gap in a sentence."""
    text = (
        f"for about {gap.gap_s:.0f} s no engine answers: of {gap.calls:.0f} calls expected"
        f" {gap.external_share:.0%} go to third parties at {gap.usd_per_hour:.2f} USD an hour"
        f" ({gap.usd:.4f} USD in all), {gap.waiting:.0f} wait and {gap.refused:.0f} are refused"
    )
    if gap.kept:
        first = gap.kept[0]
        text += f", first of all tenant {first.tenant}'s key {first.key} ({first.why})"
    if gap.unpriced:
        text += f"; no rate to dollars is known for {', '.join(gap.unpriced)}"
    return text
