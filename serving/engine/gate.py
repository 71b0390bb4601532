"""What stands before vLLM's app inside a replica: secret, route list, drain, load report.

Plain ASGI, one function call deep, so that it costs a stream nothing. It refuses every route that
is not on the list: vLLM's app also has routes that load adapters, resize the engine or inject
faults. It decides nothing about load; the engine's own limits answer 503.
"""

import hmac
from typing import Any, Protocol

from serving.codecs import going_on
from serving.engine import resume
from serving.engine.asgi import (
    App,
    Header,
    Message,
    Receive,
    Scope,
    Send,
    read_body,
    send_error,
    send_json,
)
from serving.engine.load import LoadReport

SECRET_HEADER = b"x-ballast-secret"
LOAD_HEADER = b"x-ballast-load"
INTERNAL_LOAD = ("GET", "/internal/load")
LIVENESS = ("GET", "/livez")
ADAPTERS = "/internal/adapters"
ADAPTER_BODY_MAX = 64 << 10
RESUME = ("POST", "/internal/resume")
WORK = frozenset(
    {
        ("POST", "/v1/chat/completions"),
        ("POST", "/v1/completions"),
        ("POST", "/v1/embeddings"),
        ("POST", "/v1/rerank"),
        ("POST", "/v1/score"),
        ("POST", "/tokenize"),
        RESUME,
    }
)
READS = frozenset({("GET", "/v1/models"), ("GET", "/health"), ("GET", "/metrics")})
ALLOWED = WORK | READS


class Status(Protocol):
    """What the gate asks of the replica behind it."""

    def load(self) -> LoadReport: ...

    def is_draining(self) -> bool: ...

    def facts(self) -> dict[str, Any]:
        """The rest of the load JSON: limit, started, model, adapters, stages."""
        ...

    async def adapters(
        self, method: str, name: str, body: bytes
    ) -> tuple[int, dict[str, Any], str]:
        """Answer a call to the internal adapter routes: status, JSON, error code."""
        ...


class Gate:
    """ASGI app around `app`; `secrets` are those accepted now (current, previous)."""

    def __init__(self, app: App, secrets: tuple[bytes, ...], status: Status) -> None:
        if not secrets or not all(secrets):
            raise ValueError("a replica without a deployment secret would serve anyone")
        self._app = app
        self._secrets = secrets
        self._status = status

    def accept(self, secrets: tuple[bytes, ...]) -> None:
        """Accept these from now on (current, previous)."""
        self._secrets = secrets

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await self._serve(scope, receive, self._reporting(send))
        else:
            await send({"type": "websocket.close", "code": 1008})

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        route = (scope["method"], scope["path"].removeprefix(scope.get("root_path", "")))
        if route == LIVENESS:
            await send_json(send, 200, {"status": "alive"})
        elif not self._is_trusted(scope["headers"]):
            await send_error(send, 401, "invalid_secret", "The deployment secret is wrong.")
        elif route == INTERNAL_LOAD:
            await send_json(send, 200, self._load_fields())
        elif route[1].startswith(ADAPTERS):
            await self._change_adapters(route, receive, send)
        elif route not in ALLOWED:
            await send_error(send, 404, "not_found", f"No route {route[0]} {route[1]} here.")
        elif route in WORK and self._status.is_draining():
            await send_error(send, 503, "draining", "This replica is shutting down.")
        elif route == RESUME:
            await self._go_on(scope, receive, send)
        elif wants_ids(scope["headers"]):
            await resume.follow(self._app, scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _go_on(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Go on with an answer that another replica began."""
        try:
            begun = going_on.begun(await read_body(receive, resume.BODY_BYTES_MAX))
        except going_on.BegunError as error:
            await send_error(send, 400, "invalid_resume", str(error))
        else:
            await resume.go_on(self._app, scope, (receive, send), begun)

    async def _change_adapters(self, route: tuple[str, str], receive: Receive, send: Send) -> None:
        body = await read_body(receive, ADAPTER_BODY_MAX)
        name = route[1].removeprefix(ADAPTERS).removeprefix("/")
        status, content, code = await self._status.adapters(route[0], name, body)
        if code:
            await send_error(send, status, code, content["message"])
        else:
            await send_json(send, status, content)

    def _is_trusted(self, headers: list[Header]) -> bool:
        given = b""
        for name, value in headers:
            if name == SECRET_HEADER:
                given = value
        # Every comparison is made, so the time says nothing about which secret came near.
        matches = [hmac.compare_digest(given, secret) for secret in self._secrets]
        return any(matches)

    def _load_fields(self) -> dict[str, Any]:
        return {
            **self._status.load().fields(),
            **self._status.facts(),
            "draining": self._status.is_draining(),
        }

    def _reporting(self, send: Send) -> Send:
        async def send_with_load(message: Message) -> None:
            if message["type"] == "http.response.start":
                header = (LOAD_HEADER, self._status.load().header())
                message = {**message, "headers": [*message.get("headers", ()), header]}
            await send(message)

        return send_with_load


def wants_ids(headers: list[Header]) -> bool:
    """Whether a gateway asks for the ids of what is generated."""
    return any(name == resume.WANTS_IDS for name, _ in headers)


def read_secrets(text: str) -> tuple[bytes, ...]:
    """The accepted secrets of a secret file: its first two non-empty lines."""
    lines = [line.strip().encode() for line in text.splitlines() if line.strip()]
    return tuple(lines[:2])
