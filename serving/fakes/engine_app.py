"""The simulated engine's HTTP routes: vLLM's, and the internal ones of our `EngineReplica`."""

from __future__ import annotations

import asyncio
import dataclasses
import hmac
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from aiohttp import web

from serving.codecs import going_on
from serving.codecs.going_on import Answer, Begun
from serving.fakes import pooled
from serving.fakes.counting import counted
from serving.fakes.engine_settings import EngineSettings
from serving.fakes.faults import Faults, changed
from serving.fakes.generation import Choice, Rejection, Surface, choices_of
from serving.fakes.pump import Pump, Queue
from serving.fakes.rendering import Renderer
from serving.fakes.server import BODY_BYTES_MAX
from serving.fakes.sinks import PlainSink, StreamSink, take_cut
from serving.fakes.validation import parse

WANTS_IDS = "x-ballast-ids"
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Engine:
    """State and handlers of one simulated engine."""

    def __init__(self, settings: EngineSettings) -> None:
        self.pump = Pump(
            settings.capacity,
            Queue(settings.limit, settings.max_queued_tokens),
            settings.time_scale,
        )
        self.faults = Faults()
        self.die: Callable[[], None] = lambda: None
        """What the end of the process is; set by who started the engine."""
        self._settings = settings
        self._limits = settings.limits
        self._started = time.time()
        self._requests = 0
        self._task: asyncio.Task[None] | None = None

    def app(self) -> web.Application:
        """The web application; its life is the pump's."""
        app = web.Application(client_max_size=BODY_BYTES_MAX, middlewares=[self._guard])
        prefix = self._settings.prefix
        for method, path, handler in (
            ("POST", "/v1/chat/completions", self._chat),
            ("POST", "/v1/completions", self._completions),
            ("POST", "/internal/resume", self._resume),
            ("POST", "/tokenize", self._tokenize),
            ("POST", "/v1/embeddings", self._pooled),
            ("POST", "/v1/rerank", self._pooled),
            ("POST", "/v1/score", self._pooled),
            ("GET", "/v1/models", self._models),
            ("GET", "/health", self._health),
            ("GET", "/metrics", self._metrics),
            ("GET", "/internal/load", self._load),
            ("GET", "/internal/control", self._control),
            ("POST", "/internal/control", self._control),
        ):
            app.router.add_route(method, prefix + path, handler)
        app.on_response_prepare.append(self._report_load)
        app.on_startup.append(self._start)
        app.on_cleanup.append(self._stop)
        return app

    async def _start(self, _app: web.Application) -> None:
        self._task = asyncio.create_task(self.pump.run(), name="fake-engine-pump")

    async def _stop(self, _app: web.Application) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        secrets = self._settings.secrets
        given = request.headers.get("x-ballast-secret", "").encode()
        is_open = not secrets or request.path == f"{self._settings.prefix}/health"
        if not is_open and not any(hmac.compare_digest(given, one.encode()) for one in secrets):
            return _refuse(Rejection(401, "Unauthorized", "AuthenticationError"))
        try:
            return await handler(request)
        except web.HTTPException as error:
            return _refuse(Rejection(error.status, error.reason, error.reason))

    async def _report_load(self, _request: web.Request, response: web.StreamResponse) -> None:
        load = self.pump.scheduler.load()
        response.headers["x-ballast-load"] = (
            f"w={load.waiting},r={load.running},q={load.queued_prefill_tokens},"
            f"kv={load.kv_use:.4f},at={time.time():.3f}"
        )

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        return await self._generate(request, "chat")

    async def _completions(self, request: web.Request) -> web.StreamResponse:
        return await self._generate(request, "completions")

    async def _resume(self, request: web.Request) -> web.StreamResponse:
        try:
            begun = going_on.begun(await request.read())
        except going_on.BegunError as error:
            return _refuse(Rejection(400, str(error), "Bad Request"))
        surface: Surface = "chat" if begun.path == "/v1/chat/completions" else "completions"
        return await self._generate(request, surface, begun)

    async def _generate(
        self, request: web.Request, surface: Surface, begun: Begun | None = None
    ) -> web.StreamResponse:
        self._requests += 1
        limit = self._settings.die_after_requests
        if limit is not None and self._requests > limit:
            self.die()
        body = await request.read() if begun is None else bytes(begun.body)
        parsed = parse(surface, body, self._limits)
        if isinstance(parsed, Rejection):
            return _refuse(parsed)
        if refusal := self._fault() or self.pump.refusal(len(parsed.prompts) * parsed.n):
            return _refuse(refusal)
        parsed = dataclasses.replace(parsed, late=self._settings.late_characters)
        choices = choices_of(parsed, self._settings.output_tokens)
        answer_id = parsed.request_id or uuid.uuid4().hex
        renderer = Renderer(
            parsed, answer_id, int(time.time()), self._settings.prompt_tokens_details
        )
        if parsed.stream:
            answer = Answer(begun) if begun or WANTS_IDS in request.headers else None
            return await self._stream(request, renderer, choices, answer)
        sink = PlainSink(len(choices))
        await self._run(choices, sink)
        return web.Response(body=renderer.plain(choices), content_type="application/json")

    def _fault(self) -> Rejection | None:
        if self.faults.fail_next > 0:
            self.faults.fail_next -= 1
            return Rejection(self.faults.status, "Injected fault.", "InternalServerError")
        if self.faults.drain:
            return Rejection(503, "The replica is draining.", "Service Unavailable")
        return None

    async def _stream(
        self,
        request: web.Request,
        renderer: Renderer,
        choices: tuple[Choice, ...],
        answer: Answer | None,
    ) -> web.StreamResponse:
        known = []
        if answer is not None and answer.begun is not None:
            known = [choices[0].advance() for _ in answer.begun.ids]
            if tuple(piece.token for piece in known) != answer.begun.ids:
                return _refuse(Rejection(400, "These ids are not this prompt's answer."))
        response = web.StreamResponse()
        response.content_type = "text/event-stream"
        response.charset = "utf-8"
        response.enable_chunked_encoding()
        await response.prepare(request)
        if request.transport is not None:
            sink = StreamSink(request.transport, renderer, choices, take_cut(self.faults), answer)
            if known:
                sink.told(known)
            if not choices[0].finish:
                await self._run(choices, sink)
        return response

    async def _run(self, choices: tuple[Choice, ...], sink: PlainSink | StreamSink) -> None:
        keys = self.pump.submit(choices, sink)
        try:
            await sink.ended
        finally:
            self.pump.cancel(keys)

    async def _tokenize(self, request: web.Request) -> web.Response:
        found = counted(await request.read(), self._limits.max_model_len)
        return _refuse(found) if isinstance(found, Rejection) else _json(found)

    async def _pooled(self, request: web.Request) -> web.Response:
        """Answered at once: pooling models are fast beside what is around them."""
        if refusal := self._fault() or self.pump.refusal(1):
            return _refuse(refusal)
        try:
            body = msgspec.json.decode(await request.read(), type=dict[str, Any])
        except msgspec.DecodeError as error:
            return _refuse(Rejection(400, f"JSON decode error: {error}", "Bad Request", "body"))
        found = pooled.answered(request.path.rpartition("/")[2], body, self._settings.model)
        if isinstance(found, str):
            return _refuse(Rejection(400, found, "Bad Request", "body"))
        return _json(found)

    async def _models(self, _request: web.Request) -> web.Response:
        model = {
            "id": self._settings.model, "object": "model", "created": int(self._started),
            "owned_by": "vllm", "root": self._settings.model, "parent": None,
            "max_model_len": self._limits.max_model_len,
        }  # fmt: skip
        return _json({"object": "list", "data": [model]})

    async def _health(self, _request: web.Request) -> web.Response:
        return web.Response()

    async def _metrics(self, _request: web.Request) -> web.Response:
        scheduler = self.pump.scheduler
        page = self.pump.metrics.page(self._settings.model, scheduler.load(), scheduler.counters)
        return web.Response(text=page)

    async def _load(self, _request: web.Request) -> web.Response:
        load = self.pump.scheduler.load()
        return _json(
            {
                "w": load.waiting,
                "r": load.running,
                "q": load.queued_prefill_tokens,
                "kv": round(load.kv_use, 4),
                "at": round(time.time(), 3),
                "limit": self._settings.limit,
                "started": round(self._started, 3),
                "model": self._settings.model,
                "draining": self.faults.drain,
                **({"adapters": self._settings.adapters} if self._settings.adapters else {}),
            }
        )

    async def _control(self, request: web.Request) -> web.Response:
        if request.method == "POST":
            outcome = changed(self.faults, await request.read())
            if isinstance(outcome, Rejection):
                return _refuse(outcome)
            self.faults = outcome
            self.pump.follow(outcome)
        return _json(msgspec.to_builtins(self.faults))


def _json(payload: object) -> web.Response:
    return web.Response(body=msgspec.json.encode(payload), content_type="application/json")


def _refuse(rejection: Rejection) -> web.Response:
    return web.Response(
        status=rejection.status, body=rejection.payload(), content_type="application/json"
    )
