"""The admin API's paths for reviews: cases, texts, verdicts, complaints. Here is only HTTP.

Reading a text is an act like any other: it stands in the history before it is answered.
"""

# No `from __future__ import annotations`: FastAPI reads the handlers' annotations, and those name
# what only this module's functions know.
from collections.abc import Callable
from typing import Annotated, Any, Literal

import msgspec
from fastapi import APIRouter, Depends, Query, Response
from pydantic import Field

from models.worded import Worded
from serving.api.admin import Desk
from serving.api.admin_bodies import Id
from serving.codecs.reading import spoken
from serving.directory.changes import Change, event
from serving.directory.roles import Right
from serving.directory.values import WHY_CHARS_MAX
from serving.errors import CallerError
from serving.review.base import PAGE_MAX, Wanted
from serving.review.keeper import Reviews
from serving.review.values import Case, Kind, State, Text, appealed, judged
from serving.settings import Group, Words

WORDS_MAX = 20_000
Said = Annotated[str, Field(max_length=WORDS_MAX)]
Why = Annotated[str, Query(max_length=WHY_CHARS_MAX, description="Kept in the history.")]


class NewVerdict(Group):
    """What a reviewer says of a case."""

    verdict: Literal["fine", "violation", "false_alarm"]
    text: Words = Field("", max_length=WHY_CHARS_MAX)


class NewAppeal(Group):
    """Why a verdict is contested."""

    text: Words = Field(min_length=1, max_length=WHY_CHARS_MAX)


class NewComplaint(Group):
    """What somebody outside says; the words are sealed."""

    tenant: Id
    request_id: str = Field("", pattern=r"^([0-9a-f]{32})?$")
    category: str = Field("other", pattern=r"^[a-z][a-z0-9_]{0,39}$")
    words: Said = Field(min_length=1)


def add(router: APIRouter, reviews: Reviews, desk: Callable[..., Any]) -> None:
    """Read, judge, complain, erase."""
    _reading(router, reviews, desk)
    _judging(router, reviews, desk)

    @router.delete("/reviews")
    async def erase(
        at: Annotated[Desk, Depends(desk)], tenant: Id,
        end_user: Annotated[str, Query(pattern="^[0-9a-f]{32}$")], why: Why = "",
    ) -> dict[str, Any]:  # fmt: skip
        """Remove all cases of one person, by the HMAC that the ledger shows."""
        at.need(Right.MANAGE, tenant)
        await _told(at, f"{tenant}:{end_user}", "erase", why)
        return {"id": end_user, "removed": await reviews.erase(tenant, end_user)}


def _reading(router: APIRouter, reviews: Reviews, desk: Callable[..., Any]) -> None:
    @router.get("/reviews")
    async def listed(
        at: Annotated[Desk, Depends(desk)], kind: Kind | None = None, state: State | None = None,
        before: Annotated[str, Query(pattern=r"^\d{1,15}:[a-z0-9-]{1,80}$")] = f"{10**14}:0",
        limit: Annotated[int, Query(ge=1, le=PAGE_MAX)] = 100,
    ) -> Response:  # fmt: skip
        """Facts of cases, newest first; the next page is `before` the last one's `at_ms:id`."""
        at_ms, _, case_id = before.partition(":")
        wanted = Wanted(kind, state, _tenants(at), (int(at_ms), case_id), limit)
        cases = await reviews.listed(wanted)
        return _json({"cases": cases})

    @router.get("/reviews/{case_id}")
    async def one(at: Annotated[Desk, Depends(desk)], case_id: str) -> Response:
        """A case's facts and steps."""
        return _json(await _seen(at, reviews, case_id))

    @router.get("/reviews/{case_id}/text")
    async def text(at: Annotated[Desk, Depends(desk)], case_id: str, why: Why = "") -> Response:
        """The conversation, or the complaint's words. Who read it, and why, is in the history."""
        await _seen(at, reviews, case_id)
        await _told(at, case_id, "read", why)
        _, found = await reviews.read(case_id)
        return _json({"id": case_id} | _shown(found))


def _judging(router: APIRouter, reviews: Reviews, desk: Callable[..., Any]) -> None:
    @router.post("/reviews/{case_id}/verdict")
    async def verdict(
        at: Annotated[Desk, Depends(desk)], case_id: str, row: NewVerdict
    ) -> Response:
        """Judge a case; an appeal is for somebody who has not judged it yet."""
        seen = await _seen(at, reviews, case_id)
        by = at.by(row.text)
        state = State(row.verdict)
        judged(seen, state, by.actor, by.at_ms, row.text)  # refused before it is on record
        await _told(at, case_id, f"judge_{row.verdict}", row.text)
        case = await reviews.step(
            case_id, lambda found: judged(found, state, by.actor, by.at_ms, row.text)
        )
        return _json(case)

    @router.post("/reviews/{case_id}/appeal")
    async def appeal(at: Annotated[Desk, Depends(desk)], case_id: str, row: NewAppeal) -> Response:
        """Contest a verdict, for the person concerned."""
        seen = await _seen(at, reviews, case_id)
        by = at.by(row.text)
        appealed(seen, by.actor, by.at_ms, row.text)
        await _told(at, case_id, "appeal", row.text)
        case = await reviews.step(
            case_id, lambda found: appealed(found, by.actor, by.at_ms, row.text)
        )
        return _json(case)

    @router.post("/complaints", status_code=201)
    async def complain(at: Annotated[Desk, Depends(desk)], row: NewComplaint) -> dict[str, Any]:
        """Record a complaint; of a conversation that was sampled it names the request."""
        at.need(Right.REVIEW, row.tenant)
        by = at.by("")
        case = Case(
            f"complaint-{at.new_id()}", Kind.COMPLAINT, by.at_ms, row.tenant,
            request_id=row.request_id, why=row.category,
        )  # fmt: skip
        await _told(at, case.id, "complain", "")
        await reviews.add(case, Text(words=row.words))
        return {"id": case.id}


def _tenants(at: Desk) -> frozenset[str] | None:
    """Whose cases the actor may see; None is all. Raises CallerError for nobody's."""
    if at.may(Right.REVIEW):
        return None
    own = [a.tenants for a in at.actor.allowed if Right.REVIEW in a.rights and a.tenants]
    if not own:
        at.need(Right.REVIEW)
    return frozenset().union(*own)


async def _seen(at: Desk, reviews: Reviews, case_id: str) -> Case:
    """A case that the actor may see. To whoever may not, there is none."""
    tenants = _tenants(at)
    case = await reviews.find(case_id)
    if tenants is not None and tenants.isdisjoint((case.tenant, case.tenant.partition("/")[0])):
        raise CallerError(
            "not_found",
            Worded("review.none", "there is no case {case_id}", case_id=repr(case_id[:80])),
        )
    return case


async def _told(at: Desk, subject: str, action: str, why: str) -> None:
    """Into the history."""
    by = at.by(why)
    await at.change(lambda _: Change([], event(f"review:{subject}", f"review.{action}", by, {})))


def _shown(text: Text) -> dict[str, Any]:
    return {
        "prompt": text.prompt.decode(errors="replace"),
        "answer": spoken(text.answer),
        "answer_as_sent": text.answer.decode(errors="replace"),
        "is_cut": text.is_cut,
        "words": text.words,
    }


def _json(data: Any) -> Response:
    return Response(msgspec.json.encode(data), media_type="application/json")
