"""The admin API's paths for evaluations: blind votes on pairs of answers, and what they come to.

Here is only HTTP. No path tells whose answer stands on which side, voted or not.
"""

# No `from __future__ import annotations`: FastAPI reads the handlers' annotations, and those name
# what only this module's functions know.
from collections.abc import Callable
from typing import Annotated, Any, TypeVar

import msgspec
from fastapi import APIRouter, Depends, Path, Response
from pydantic import Field

from models.worded import Worded, of
from serving.api.admin import Desk
from serving.directory.roles import Right
from serving.errors import CallerError
from serving.evaluation import store, verdict, votes
from serving.evaluation.values import Evaluation, Vote
from serving.finance.base import Database
from serving.finance.desk import FinanceDesk
from serving.settings import Group, Words

T = TypeVar("T")
Id = Annotated[str, Path(pattern=r"^[0-9a-f]{1,40}$")]


class NewVote(Group):
    """What a person says of a pair."""

    question: Words = Field(min_length=1, max_length=200)
    choice: votes.Said


def add(router: APIRouter, finance: FinanceDesk, desk: Callable[..., Any]) -> None:
    """Pairs, votes, results."""
    _voting(router, finance, desk)

    @router.get("/evaluations")
    async def listed(at: Annotated[Desk, Depends(desk)]) -> Response:
        """What is kept, newest first: set, time, number of questions."""
        at.need(Right.SEE)
        found = await _asked(finance, store.listed)
        return _json({"evaluations": [one._asdict() for one in found]})

    @router.get("/evaluations/{evaluation}")
    async def result(at: Annotated[Desk, Depends(desk)], evaluation: Id) -> Response:
        """The arms, their figures with intervals (but how alike they answer: the command line
        knows), and the votes so far; null for a voter who is not done: by its changes the tally
        would tell whose each answer was."""
        at.need(Right.SEE)
        voter = at.actor.id

        def work(database: Database) -> dict[str, Any]:
            found = store.get(database, evaluation)
            cast = store.votes(database, found.id)
            return {
                "id": found.id, "name": found.name, "created_ms": found.created_ms,
                "results": verdict.results(found, is_compared=False),
                "votes": None if votes.is_voting(found, voter, cast) else votes.tally(cast),
            }  # fmt: skip

        return _json(await _asked(finance, work))


def _voting(router: APIRouter, finance: FinanceDesk, desk: Callable[..., Any]) -> None:
    @router.get("/evaluations/{evaluation}/pair")
    async def pair(at: Annotated[Desk, Depends(desk)], evaluation: Id) -> Response:
        """The next pair for this person, sides by lot; null when all are done. For reviewers."""
        at.need(Right.REVIEW)
        voter = at.actor.id

        def work(database: Database) -> votes.Pair | None:
            found = store.get(database, evaluation)
            done = {one.question for one in store.votes(database, found.id) if one.voter == voter}
            return votes.next_pair(found, voter, done)

        return _json({"pair": await _asked(finance, work)})

    @router.post("/evaluations/{evaluation}/votes", status_code=201)
    async def vote(
        at: Annotated[Desk, Depends(desk)], evaluation: Id, row: NewVote
    ) -> dict[str, Any]:
        """One vote a person and pair; a second one replaces it."""
        at.need(Right.REVIEW)
        voter, at_ms = at.actor.id, at.by("").at_ms
        found = await _asked(finance, lambda database: store.get(database, evaluation))
        _need_pair(found, row.question)
        choice = votes.choice(evaluation, row.question, voter, row.choice)
        cast = Vote(row.question, voter, choice)
        await finance.change(lambda database: store.vote(database, evaluation, cast, at_ms))
        return {"id": row.question}


def _need_pair(found: Evaluation, question: str) -> None:
    if question not in {one.id for one, _, _ in votes.pairs(found)}:
        template = "no pair {name} to vote on"
        said = Worded("evaluation.no_pair", template, name=repr(question[:80]))
        raise CallerError("not_found", said, param="question")


async def _asked(finance: FinanceDesk, work: Callable[[Database], T]) -> T:
    try:
        return await finance.ask(lambda _, database: work(database))
    except store.EvaluationError as error:
        raise CallerError("not_found", of(error)) from None


def _json(body: Any) -> Response:
    return Response(msgspec.json.encode(body), media_type="application/json")
