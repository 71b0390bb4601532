"""Blind votes: which of two answers a person finds better, without knowing whose they are. Pure.

Which side an arm stands on follows from evaluation, question and person by a hash: the same when
the page is drawn again, and for half of the people the other way round.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from typing import Literal

import msgspec

from serving.evaluation import intervals
from serving.evaluation.intervals import Interval
from serving.evaluation.values import Answer, Asked, Evaluation, Vote

Said = Literal["left", "right", "tie", "neither"]
VOTES_FEW = 20
"""Decided votes below which a result is called few."""


class Pair(msgspec.Struct, frozen=True):
    """What a voter sees."""

    question: str
    text: str
    left: str
    right: str
    done: int
    """Of the evaluation's pairs, those this person has voted on."""
    pairs: int


class Tally(msgspec.Struct, frozen=True):
    """All votes of an evaluation."""

    voters: int
    votes: int
    wins: tuple[int, int]
    """Of base and candidate."""
    ties: int
    neither: int
    """Both were bad."""
    candidate: Interval | None
    """The candidate's share of decided votes; votes on one question count as a group."""
    is_few: bool


def is_swapped(evaluation: str, question: str, voter: str) -> bool:
    """Whether the candidate stands on the left."""
    seed = f"{evaluation}\0{question}\0{voter}".encode()
    return bool(hashlib.sha256(seed).digest()[0] & 1)


def pairs(found: Evaluation) -> list[tuple[Asked, Answer, Answer]]:
    """What can be voted on: both arms answered, and not in the same words."""
    first: dict[tuple[str, int], Answer] = {}
    for one in found.answers:
        if one.is_answered and one.text:
            first.setdefault((one.question, one.arm), one)
    both = [(q, first.get((q.id, 0)), first.get((q.id, 1))) for q in found.questions]
    return [(q, a, b) for q, a, b in both if a is not None and b is not None and a.text != b.text]


def next_pair(found: Evaluation, voter: str, voted: Collection[str]) -> Pair | None:
    """The next one for a person, in an order of their own; None when all are done."""
    known = pairs(found)
    left = [one for one in known if one[0].id not in voted]
    if not left:
        return None

    def place(one: tuple[Asked, Answer, Answer]) -> bytes:
        return hashlib.sha256(f"{voter}\0{found.id}\0{one[0].id}".encode()).digest()

    question, base, candidate = min(left, key=place)
    one, other = base.text, candidate.text
    if is_swapped(found.id, question.id, voter):
        one, other = other, one
    return Pair(question.id, question.text, one, other, len(known) - len(left), len(known))


def choice(evaluation: str, question: str, voter: str, said: Said) -> str:
    """What is stored of what a person said: the arm, not the side."""
    if said in ("tie", "neither"):
        return said
    return str(int((said == "right") != is_swapped(evaluation, question, voter)))


def is_voting(found: Evaluation, voter: str, votes: Iterable[Vote]) -> bool:
    """Whether a person has begun to vote and is not done."""
    done = {one.question for one in votes if one.voter == voter}
    return bool(done) and next_pair(found, voter, done) is not None


def tally(votes: Sequence[Vote]) -> Tally:
    """What all said."""
    wins = sum(one.choice == "0" for one in votes), sum(one.choice == "1" for one in votes)
    groups: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for one in _decided(votes):
        groups[one.question][0] += one.choice == "1"
        groups[one.question][1] += 1
    share = intervals.share([(upper, lower) for upper, lower in groups.values()])
    ties, neither = (sum(one.choice == name for one in votes) for name in ("tie", "neither"))
    voters = len({one.voter for one in votes})
    return Tally(voters, len(votes), wins, ties, neither, share, sum(wins) < VOTES_FEW)


def _decided(votes: Iterable[Vote]) -> list[Vote]:
    return [one for one in votes if one.choice in ("0", "1")]
