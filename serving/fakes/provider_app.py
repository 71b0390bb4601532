"""The fake provider's routes: keys, choice of scenario, and the record of what arrived."""

from __future__ import annotations

import asyncio
import hmac
import json
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from aiohttp import web

from models.provider import Provider as Row
from serving.fakes import dialects, forms, pooled, spoken
from serving.fakes.exchange import Exchange, Record, Timing
from serving.fakes.provider_answer import Json
from serving.fakes.rule_refusals import refusals
from serving.fakes.scenarios import Scenario, parse_name
from serving.fakes.server import BODY_BYTES_MAX

_RECORDS_MAX: Final = 1000
_HEARING = ("transcriptions", "translations")
_KEY_HEADERS: Final = ("authorization", "x-api-key", "api-key", "x-goog-api-key")
_SECRET_HEADERS: Final = frozenset((*_KEY_HEADERS, "cookie"))


@dataclass(frozen=True, slots=True)
class ProviderSettings:
    """What a fake provider is told when it starts. Raises ValueError for an unknown scenario."""

    key: str = "fake-provider-key"
    scenario: str = "ok"
    """For requests that choose none themselves; `name` or `name:number`."""
    host: str = "127.0.0.1"
    port: int = 0
    """0 = any free port."""
    ttft_ms: float = 0.0
    itl_ms: float = 0.0
    output_tokens: int = 12
    """Length of an answer that `max_tokens` does not cut."""
    row: Row | None = None
    """The provider to play: `rule:n` then refuses as its n-th error rule says."""
    head: Mapping[str, str] = field(default_factory=dict)
    """On every answer, say of a rate limit."""

    def __post_init__(self) -> None:
        if parse_name(self.scenario) is None:
            raise ValueError(f"unknown scenario {self.scenario!r}")


class Provider:
    """State and handlers of one fake provider."""

    def __init__(self, settings: ProviderSettings) -> None:
        self._key = settings.key
        self._default = settings.scenario
        self._output_tokens = settings.output_tokens
        self._timing = Timing(settings.ttft_ms, settings.itl_ms)
        self._row = settings.row
        self._head = settings.head
        self._refusals = tuple(made for _, made in refusals(settings.row)) if settings.row else ()
        self._script: deque[str] = deque()
        self._records: deque[Record] = deque(maxlen=_RECORDS_MAX)
        self._visits: Counter[str] = Counter()

    def app(self) -> web.Application:
        """The web application. Any path before the route's name is accepted: `/v1`,
        `/compatible-mode/v1`, `/api/paas/v4`."""
        app = web.Application(client_max_size=BODY_BYTES_MAX)
        app.on_response_prepare.append(self._headed)
        router = app.router
        router.add_get("/__requests", self._requests)
        router.add_delete("/__requests", self._forget)
        router.add_post("/__control", self._control)
        router.add_route("*", "/__redirected{rest:.*}", self._redirected)
        router.add_post("/{base:.*}chat/completions", self._chat)
        router.add_post("/{base:.*}completions", self._completions)
        router.add_post("/{base:.*}embeddings", self._pooled)
        router.add_post("/{base:.*}rerank", self._pooled)
        for name in ("speech", *_HEARING):
            router.add_post(f"/{{base:.*}}audio/{name}", self._pooled)
        router.add_post("/{base:.*}messages", self._messages)
        router.add_post("/{base:.*}models/{model}:{verb}", self._generate)
        router.add_get("/{base:.*}models", self._models)
        return app

    async def _headed(self, _: web.Request, response: web.StreamResponse) -> None:
        response.headers.update(self._head)

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        return await self._answer(request, "chat")

    async def _completions(self, request: web.Request) -> web.StreamResponse:
        return await self._answer(request, "completions")

    async def _pooled(self, request: web.Request) -> web.StreamResponse:
        """What is made of the text where nothing goes wrong, else what happens to a chat."""
        return await self._answer(request, request.path.rpartition("/")[2])

    async def _messages(self, request: web.Request) -> web.StreamResponse:
        return await self._answer(request, "anthropic")

    async def _generate(self, request: web.Request) -> web.StreamResponse:
        return await self._answer(request, "gemini")

    async def _answer(self, request: web.Request, surface: str) -> web.StreamResponse:
        record = await self._recorded(request)
        if record.authorization != "right":
            record.outcome = "done"
            return _error(401, "Incorrect API key provided.", "invalid_api_key")
        body = record.body
        if not isinstance(body, dict):
            record.outcome = "done"
            return _error(400, "We could not parse the JSON body of your request.", None)
        named = request.match_info.get("model") or body.get("model", "")
        model, _, suffix = str(named).partition("@")
        given = request.headers.get("x-fake-scenario") or suffix or self._scripted()
        found = parse_name(given)
        if found is None:
            record.outcome = "done"
            return _error(500, f"fake provider: unknown scenario {given!r}", "unknown_scenario")
        scenario, argument = found
        record.scenario = given
        if surface in pooled.FORMS and scenario.name == "ok":
            record.outcome = "done"
            said = pooled.answered(surface, body, model)
            if isinstance(said, str):
                return _error(400, said, None)
            return web.json_response(said)
        if surface == "speech" and scenario.name == "ok":
            record.outcome = "done"
            return _answered(spoken.answered(body))
        if surface in _HEARING and scenario.name == "ok":
            record.outcome = "done"
            return _answered(forms.transcript(request, body))
        exchange = dialects.exchange(surface)(
            request=request,
            body=body,
            answer=dialects.right(surface, body, model, self._output_tokens),
            record=record,
            timing=self._timing,
            argument=argument,
            visits=self._visits[scenario.name],
            refusals=self._refusals,
            always_usage=self._row is not None and self._row.stream_usage == "always",
        )
        self._visits[scenario.name] += 1
        return await self._play(scenario, exchange)

    async def _play(self, scenario: Scenario, exchange: Exchange) -> web.StreamResponse:
        record = exchange.record
        try:
            response = await scenario.play(exchange)
        except asyncio.CancelledError:
            _mark_lost(record)
            raise
        except ConnectionError:
            _mark_lost(record)
            return exchange.response
        record.outcome = "done"
        return response

    def _scripted(self) -> str:
        return self._script.popleft() if self._script else self._default

    async def _recorded(self, request: web.Request) -> Record:
        if request.content_type == forms.FORM:
            body: Any = await forms.members(request)
        else:
            raw = await request.read()
            try:
                body = json.loads(raw) if raw else None
            except ValueError:
                body = raw.decode("utf-8", "replace")
        headers = {
            name: value
            for name, value in request.headers.items()
            if name.lower() not in _SECRET_HEADERS
        }
        record = Record(request.method, request.path, headers, self._judged(request), body)
        self._records.append(record)
        return record

    def _judged(self, request: web.Request) -> str:
        shown = [request.headers[name] for name in _KEY_HEADERS if name in request.headers]
        if not shown:
            return "absent"
        right = (self._key, f"Bearer {self._key}")
        is_right = any(hmac.compare_digest(shown[0].encode(), text.encode()) for text in right)
        return "right" if is_right and len(shown) == 1 else "wrong"

    async def _redirected(self, request: web.Request) -> web.Response:
        record = await self._recorded(request)
        record.outcome = "done"
        return _error(418, "The redirect was followed.", "redirect_followed")

    async def _models(self, request: web.Request) -> web.Response:
        record = await self._recorded(request)
        record.outcome = "done"
        if record.authorization != "right":
            return _error(401, "Incorrect API key provided.", "invalid_api_key")
        model = {"id": "fake-model", "object": "model", "created": 0, "owned_by": "fake"}
        return web.json_response({"object": "list", "data": [model]})

    async def _requests(self, _request: web.Request) -> web.Response:
        return web.json_response([asdict(record) for record in self._records])

    async def _forget(self, _request: web.Request) -> web.Response:
        self._records.clear()
        return web.json_response({})

    async def _control(self, request: web.Request) -> web.Response:
        """`script` (list) and `default` choose scenarios, `ttft_ms` and `itl_ms` the pace, `reset`
        forgets script, visits and records first."""
        given: Json = await request.json()
        names = [*given.get("script", ()), given.get("default", self._default)]
        unknown = [name for name in names if parse_name(str(name)) is None]
        unknown += given.keys() - {"script", "default", "ttft_ms", "itl_ms", "reset"}
        if unknown:
            return _error(400, f"fake provider: unknown: {unknown}", "unknown_scenario")
        if given.get("reset"):
            self._script.clear()
            self._visits.clear()
            self._records.clear()
        self._default = names.pop()
        self._script.extend(names)
        self._timing.ttft_ms = float(given.get("ttft_ms", self._timing.ttft_ms))
        self._timing.itl_ms = float(given.get("itl_ms", self._timing.itl_ms))
        state = {"script": list(self._script), "default": self._default, **asdict(self._timing)}
        return web.json_response(state)


def _mark_lost(record: Record) -> None:
    if record.outcome == "open":
        record.outcome = "disconnected"


def _answered(said: tuple[str, bytes] | str) -> web.Response:
    """Sound or what was heard in it, else what was wrong with the request."""
    if isinstance(said, str):
        return _error(400, said, None)
    return web.Response(body=said[1], content_type=said[0])


def _error(status: int, message: str, code: str | None) -> web.Response:
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": code}
    return web.json_response({"error": error}, status=status)
