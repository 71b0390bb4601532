"""Asks a set of questions of two arms through the running gateway, both in the same minutes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection
from typing import NamedTuple

import aiohttp
from msgspec.structs import replace

from ballast.messages import Said
from ballast.problem import ProblemError
from ballast.web import code_of, error_text, in_words
from serving.evaluation.questions import Question, answered
from serving.evaluation.values import ARMS, Answer, Arm

ANSWER_BYTES_MAX = 4 << 20
AT_ONCE_MAX = 32
ATTEMPTS_MAX = 3
RETRY_S_MAX = 20.0
_AGAIN = frozenset({429, 503})
"""We are full or too fast: that says nothing of an arm, so it is asked again."""
_STOPS = frozenset({401, 403, 404})


class Plan(NamedTuple):
    """What is asked, of whom, how."""

    questions: tuple[Question, ...]
    arms: tuple[Arm, Arm]
    repeats: int
    at_once: int
    timeout_s: float


def arm(text: str, model: str, known: Collection[str]) -> Arm:
    """`TARGET` (of `model`) or `MODEL@TARGET` of a known model; no target is wherever the gateway
    sends it. Raises ProblemError."""
    name, at, target = text.partition("@")
    # An offering's own name may hold an `@`, but then there is a slash before it.
    if not at or (name not in known and "/" in name):
        name, target = model, text
    if name not in known or (not at and not target):
        raise ProblemError(
            Said(
                "evaluate.no_model",
                text=f"{text!r}",
                name=f"{name!r}",
                names=", ".join(sorted(known)) or "none",
            ),
            Said("evaluate.write_arm"),
        )
    return Arm(text, name, target)


async def ask(url: str, key: str, plan: Plan, told: Callable[[int, int], None]) -> list[Answer]:
    """All answers, in the order of questions, repeats and arms. `told`: done and in all. Raises
    ProblemError when the gateway will not let this key ask so."""
    places = [
        (question, number)
        for question in plan.questions
        for _ in range(plan.repeats)
        for number in range(ARMS)
    ]
    gate, done = asyncio.Semaphore(plan.at_once), 0

    async def one(session: aiohttp.ClientSession, question: Question, number: int) -> Answer:
        nonlocal done
        async with gate:
            found = await _ask(session, f"{url}/chat/completions", question, plan.arms[number])
        done += 1
        told(done, len(places))
        return replace(found, arm=number)

    timeout = aiohttp.ClientTimeout(total=plan.timeout_s)
    head = {"authorization": f"Bearer {key}"}
    async with aiohttp.ClientSession(timeout=timeout, headers=head) as session:
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(one(session, *place)) for place in places]
        except* ProblemError as problems:
            raise problems.exceptions[0] from None
    return [task.result() for task in tasks]


async def _ask(session: aiohttp.ClientSession, url: str, question: Question, arm: Arm) -> Answer:
    head = {"x-ballast-pin": arm.target} if arm.target else {}
    body = question.body(arm.model)
    for attempt in range(1, ATTEMPTS_MAX + 1):
        begun_s = time.monotonic()
        try:
            async with session.post(url, json=body, headers=head, allow_redirects=False) as reply:
                data = await _read(reply)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            return Answer(question.id, is_answered=False, why=type(error).__name__)
        if reply.status in _STOPS:
            raise ProblemError(
                Said("evaluate.refused", name=arm.name, status=reply.status, data=in_words(data)),
                Said("evaluate.canary_key"),
            )
        if reply.status not in _AGAIN or attempt == ATTEMPTS_MAX:
            break
        await asyncio.sleep(_pause_s(reply.headers.get("Retry-After", "")))
    if reply.status == 200:
        found = answered(question, data)
    else:
        why = f"{reply.status} {': '.join(filter(None, (code_of(data), error_text(data))))}"
        found = Answer(question.id, is_answered=False, why=why[:300])
    return replace(
        found, request_id=reply.headers.get("x-request-id", ""),
        target=reply.headers.get("x-ballast-target", ""),
        whole_ms=round(1000 * (time.monotonic() - begun_s)),
    )  # fmt: skip


async def _read(reply: aiohttp.ClientResponse) -> bytes:
    data = bytearray()
    async for piece in reply.content.iter_any():
        data += piece
        if len(data) > ANSWER_BYTES_MAX:
            raise aiohttp.ClientPayloadError("larger than an answer may be")
    return bytes(data)


def _pause_s(text: str) -> float:
    try:
        return min(max(0.0, float(text)), RETRY_S_MAX)
    except ValueError:
        return 1.0
