"""Evaluations and votes in the ledger's database, SQLite or PostgreSQL. Blocking, as the books."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from models.worded import Worded
from serving.evaluation.values import Arm, Evaluation, Vote
from serving.finance.base import Database, Work

KEPT_MAX = 200
FACTS_BYTES_MAX = 16 << 20
_ADD = "INSERT INTO evaluations (id, created_ms, facts) VALUES (:id, :created_ms, :facts)"
_COUNT = "SELECT count(*) FROM evaluations"
_GET = "SELECT facts FROM evaluations WHERE id = :id"
_LIST = "SELECT id FROM evaluations ORDER BY created_ms DESC, id DESC LIMIT :limit"
_DROP = "DELETE FROM evaluations WHERE id = :id"
_DROP_VOTES = "DELETE FROM evaluation_votes WHERE evaluation = :id"
_VOTE = (
    "INSERT INTO evaluation_votes (evaluation, question, voter, choice, at_ms)"
    " VALUES (:id, :question, :voter, :choice, :at_ms)"
    " ON CONFLICT (evaluation, question, voter)"
    " DO UPDATE SET choice = excluded.choice, at_ms = excluded.at_ms"
)
_VOTES = (
    "SELECT question, voter, choice FROM evaluation_votes WHERE evaluation = :id"
    " ORDER BY question, voter LIMIT :limit"
)
VOTES_MAX = 500_000
_PAID = (
    "SELECT currency, sum(micro) FROM attempts WHERE request_id = :id AND currency <> ''"
    " GROUP BY currency"
)
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Evaluation).decode


class EvaluationError(Exception):
    """It cannot be kept, or is not there."""


class Head(msgspec.Struct, frozen=True):
    """What a list shows."""

    id: str
    name: str
    created_ms: int
    questions: tuple[msgspec.Raw, ...] = ()
    arms: tuple[Arm, Arm] | None = None


class Listed(NamedTuple):
    """One evaluation, without its answers."""

    id: str
    name: str
    created_ms: int
    questions: int
    models: tuple[str, str] = ("", "")
    """The base's and the candidate's."""


def add(
    database: Database, found: Evaluation, kept_max: int = KEPT_MAX,
    bytes_max: int = FACTS_BYTES_MAX,
) -> None:  # fmt: skip
    """Keep one. Raises EvaluationError when it is too large or too many are kept;
    LedgerUnavailable."""
    facts = _encode(found)
    if len(facts) > bytes_max:
        template = "{count} bytes of answers; at most {most}"
        raise EvaluationError(
            Worded("evaluation.large", template, count=len(facts), most=bytes_max)
        )

    def work(at: Work) -> None:
        if int(at.rows(_COUNT)[0][0]) >= kept_max:
            template = "{count} evaluations are kept: remove one first"
            raise EvaluationError(Worded("evaluation.many", template, count=kept_max))
        at.run(_ADD, {"id": found.id, "created_ms": found.created_ms, "facts": facts})

    database.write(work)


def get(database: Database, evaluation: str) -> Evaluation:
    """One. Raises EvaluationError, LedgerUnavailable."""
    rows = database.rows(_GET, {"id": evaluation})
    if not rows:
        template = "there is no evaluation {name}"
        raise EvaluationError(Worded("evaluation.none", template, name=repr(evaluation[:80])))
    return _decode(bytes(rows[0][0]))


def listed(database: Database) -> list[Listed]:
    """All, newest first. Read one by one: all at once would be gigabytes of answers."""
    found = []
    for (id_,) in database.rows(_LIST, {"limit": KEPT_MAX}):
        for (facts,) in database.rows(_GET, {"id": id_}):  # none: removed meanwhile
            one = msgspec.json.decode(bytes(facts), type=Head)
            count = len(one.questions)
            found.append(Listed(one.id, one.name, one.created_ms, count, _models(one)))
    return found


def _models(head: Head) -> tuple[str, str]:
    return ("", "") if head.arms is None else (head.arms[0].model, head.arms[1].model)


def remove(database: Database, evaluation: str) -> bool:
    """With its votes. Whether there was one."""

    def work(at: Work) -> bool:
        at.run(_DROP_VOTES, {"id": evaluation})
        return at.run(_DROP, {"id": evaluation}) > 0

    return database.write(work)


def vote(database: Database, evaluation: str, cast: Vote, at_ms: int) -> None:
    """A person's vote; one said again replaces the one before."""
    values = {
        "id": evaluation, "question": cast.question, "voter": cast.voter, "choice": cast.choice,
        "at_ms": at_ms,
    }  # fmt: skip
    database.write(lambda at: at.run(_VOTE, values))


def votes(database: Database, evaluation: str) -> list[Vote]:
    """All of one evaluation."""
    rows = database.rows(_VOTES, {"id": evaluation, "limit": VOTES_MAX})
    return [Vote(*row) for row in rows]


def paid(database: Database, found: Evaluation) -> tuple[dict[str, int], dict[str, int]]:
    """What each arm's calls cost by currency, micro-units at list price, as far as their rows are
    in the ledger: not before a second or two have passed, and not once they are trimmed."""
    sums: tuple[dict[str, int], dict[str, int]] = ({}, {})
    for one in found.answers:
        rows = database.rows(_PAID, {"id": one.request_id}) if one.request_id else []
        for currency, micro in rows:
            sums[one.arm][currency] = sums[one.arm].get(currency, 0) + int(micro)
    return sums
