"""Going on with an answer that another replica began (0124): what stands between the gate and
vLLM's app.

The app answers the original request from its first token: tokens that are known are told anew
(`vllm_resume`), so that parsers, stop strings and usage come out as if nothing had happened. Of
what it then writes, what the client has is dropped here. Marks with the ids of new tokens are put
between the events of every stream whose gateway asked for them.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from contextvars import ContextVar
from typing import Any

from serving.codecs.going_on import Answer, Begun
from serving.engine.asgi import App, Receive, Scope, Send

WANTS_IDS = b"x-ballast-ids"
BODY_BYTES_MAX = 64 << 20


_current: ContextVar[Answer | None] = ContextVar("answer", default=None)


def current() -> Answer | None:
    """The answer whose request is being served, if its gateway follows it."""
    return _current.get()


async def follow(app: App, scope: Scope, receive: Receive, send: Send) -> None:
    """Serve a request with marks in its stream."""
    await _serve(app, scope, (receive, send), Answer())


async def go_on(app: App, scope: Scope, ends: tuple[Receive, Send], begun: Begun) -> None:
    """Serve what is missing of an answer."""
    receive, send = ends
    data = bytes(begun.body)
    headers = [(n, v) for n, v in scope["headers"] if n not in (b"content-length",)]
    root = scope.get("root_path", "")
    scope = {
        **scope,
        "path": root + begun.path,
        "raw_path": (root + begun.path).encode(),
        "headers": [*headers, (b"content-length", b"%d" % len(data))],
    }
    incoming: list[MutableMapping[str, Any]] = [
        {"type": "http.request", "body": data, "more_body": False}
    ]

    async def body() -> MutableMapping[str, Any]:
        return incoming.pop() if incoming else await receive()

    await _serve(app, scope, (body, send), Answer(begun))


async def _serve(app: App, scope: Scope, ends: tuple[Receive, Send], answer: Answer) -> None:
    receive, send = ends
    is_stream = False

    async def marked(message: MutableMapping[str, Any]) -> None:
        nonlocal is_stream
        if message["type"] == "http.response.start":
            is_stream = any(
                name == b"content-type" and value.startswith(b"text/event-stream")
                for name, value in message.get("headers", ())
            )
        elif is_stream and message.get("body"):
            data = answer.out(bytes(message["body"]))
            if not data and message.get("more_body"):
                return
            message = {**message, "body": data}
        await send(message)

    token = _current.set(answer)
    try:
        await app(scope, receive, marked)
    finally:
        _current.reset(token)
