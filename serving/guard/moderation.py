"""Asks an external moderation service about a text, and says what holds when it does not answer.

The address is the operator's: no tenant can set one, no redirect is followed, no proxy is taken
from the environment. The service gets the text and nothing that names who sent it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NamedTuple

import aiohttp
import msgspec

from serving.breaker import Breaker
from serving.errors import Kind
from serving.guard.values import Action
from serving.records import TargetState

TEXT_CHARS_MAX = 100_000
"""More is not sent: it counts as unanswered, for a part would say nothing of the whole."""
ANSWER_BYTES_MAX = 64 << 10
CATEGORIES_MAX = 16


class Service(NamedTuple):
    """The service of this deployment."""

    url: str
    token: str = ""
    timeout_s: float = 2.0
    """For the whole question: it stands before the first token."""
    concurrent_max: int = 64
    """Questions at once; more wait within their timeout."""


class Judgement(NamedTuple):
    """What is to be done with a text."""

    action: Action | None
    """None lets it pass."""
    reason: str
    """The service's categories, or why it was not asked."""
    is_answered: bool


class _Result(msgspec.Struct):
    flagged: bool = False
    categories: dict[str, bool] = {}


class _Answer(msgspec.Struct):
    """Ours (`action`, `categories`) or that of OpenAI's moderation route (`results`)."""

    action: str = ""
    categories: list[str] = []
    results: list[_Result] = []


class _Question(NamedTuple):
    """What the breaker knows a question by."""

    issued_s: float


_decode = msgspec.json.Decoder(_Answer).decode
_ACTIONS = {"pass": None, "flag": Action.FLAG, "block": Action.BLOCK}


class Moderator:
    """Asks one service. Owns its connections; `close` ends them."""

    def __init__(self, service: Service, clock: Callable[[], float]) -> None:
        self._service = service
        self._clock = clock
        self._state = TargetState()
        self._breaker = Breaker(self._state)
        self._places = asyncio.Semaphore(service.concurrent_max)
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """End the connections."""
        if self._session is not None:
            await self._session.close()

    async def ask(self, text: str, stage: str, fails_open: bool) -> Judgement:
        """Judge a text. `stage`: `input` or `output`. `fails_open`: what cannot be asked passes;
        else it is blocked."""
        unanswered = None if fails_open else Action.BLOCK
        if len(text) > TEXT_CHARS_MAX:
            return Judgement(unanswered, "too_long", False)
        question = _Question(self._clock())
        if self._state.open_until_s > question.issued_s:
            return Judgement(unanswered, "breaker_open", False)
        self._breaker.sent(question)
        try:
            async with asyncio.timeout(self._service.timeout_s), self._places:
                answer = await self._post(text, stage)
        except TimeoutError:
            return self._failed(question, Kind.TIMEOUT, unanswered)
        except (aiohttp.ClientError, OSError):
            return self._failed(question, Kind.CONNECT, unanswered)
        except (_Unusable, msgspec.MsgspecError, UnicodeError):
            return self._failed(question, Kind.PROTOCOL, unanswered)
        except asyncio.CancelledError:
            self._breaker.neither(question, self._clock())
            raise
        self._breaker.succeeded(question, self._clock())
        return answer

    def _failed(self, question: _Question, kind: Kind, action: Action | None) -> Judgement:
        self._breaker.failed(question, kind, self._clock(), None)
        return Judgement(action, kind, False)

    async def _post(self, text: str, stage: str) -> Judgement:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                cookie_jar=aiohttp.DummyCookieJar(), trust_env=False
            )
        headers = {"content-type": "application/json"}
        if self._service.token:
            headers["authorization"] = f"Bearer {self._service.token}"
        body = msgspec.json.encode({"input": text, "stage": stage})
        async with self._session.post(
            self._service.url, data=body, headers=headers, allow_redirects=False
        ) as response:
            if response.status != 200:
                raise _Unusable
            data = await response.content.read(ANSWER_BYTES_MAX + 1)
            while len(data) <= ANSWER_BYTES_MAX and (more := await response.content.readany()):
                data += more
        if len(data) > ANSWER_BYTES_MAX:
            raise _Unusable
        return _judged(_decode(data))


class _Unusable(Exception):  # noqa: N818 - a state of the service
    """An answer that says nothing."""


def _judged(answer: _Answer) -> Judgement:
    if answer.results:
        named = [name for r in answer.results for name, is_so in r.categories.items() if is_so]
        is_flagged = any(result.flagged for result in answer.results)
        return Judgement(Action.BLOCK if is_flagged else None, _names(named), True)
    if answer.action not in _ACTIONS:
        raise _Unusable
    return Judgement(_ACTIONS[answer.action], _names(answer.categories), True)


def _names(categories: list[str]) -> str:
    """Names as a log may hold them."""
    return ",".join(name[:32] for name in categories[:CATEGORIES_MAX] if name.isprintable())
