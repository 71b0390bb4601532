"""Going on with an answer that another replica began (0124): what stands between the gate and
vLLM's app.

The app answers the original request from its first token: tokens that are known are told anew
(`vllm_resume`), so that parsers, stop strings and usage come out as if nothing had happened. Of
what it then writes, what the client has is dropped here. Marks with the ids of new tokens are put
between the events of every stream whose gateway asked for them.
"""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence
from contextvars import ContextVar
from typing import Any

import msgspec

from serving.codecs import marks
from serving.codecs.marks import Said, Unsaid
from serving.engine.asgi import App, Receive, Scope, Send

WANTS_IDS = b"x-ballast-ids"
BODY_BYTES_MAX = 64 << 20
PATHS = frozenset({"/v1/chat/completions", "/v1/completions"})
_NOTHING = Said()


class Begun(msgspec.Struct, frozen=True):
    """What is sent to `/internal/resume`."""

    path: str
    """The route that is gone on with."""
    body: msgspec.Raw
    """Its original body."""
    ids: tuple[int, ...]
    said: Said
    """Characters the client has."""
    finish: str = ""
    """Why the last id is the last one."""
    is_told: bool = False
    """The client has the finish as well."""


class BegunError(ValueError):
    """What was sent cannot be gone on with."""


def begun(body: bytes) -> Begun:
    """Read a body of `/internal/resume`. Raises BegunError."""
    try:
        found = msgspec.json.decode(body, type=Begun)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BegunError(f"the body is not what a resume takes: {error}") from None
    if found.path not in PATHS:
        raise BegunError(f"{found.path} cannot be gone on with")
    if not found.ids or min(found.ids) < 0 or min(found.said) < 0:
        raise BegunError("ids and counts must be given and not negative")
    if found.finish not in ("", *marks.FINISHES):
        raise BegunError(f"no answer ends by itself with {found.finish!r}")
    return found


class Answer:
    """One answer on its way to a gateway that wants its ids."""

    __slots__ = ("_finish", "_ids", "_is_asked", "_said", "_unsaid", "begun")

    def __init__(self, begun: Begun | None = None, *, is_asked: bool = True) -> None:
        self.begun = begun
        self._ids: list[int] = []
        self._finish = ""
        self._is_asked = is_asked
        self._said = _NOTHING
        self._unsaid = None
        if begun is not None:
            self._unsaid = Unsaid(begun.said, is_told=begun.is_told)

    def made(self, ids: Sequence[int], finish: str | None) -> None:
        """The engine made these tokens; their text comes after this."""
        self._ids += ids
        self._finish = finish or ""

    def out(self, events: bytes) -> bytes:
        """What leaves in place of whole events."""
        ahead = b""
        if self._ids and self._is_asked:
            before = self._said
            if self.begun is not None:
                before = Said(*map(max, before, self.begun.said))
            ahead = marks.mark(self._ids, before, self._finish)
            self._ids = []
        self._said = self._said.plus(marks.said(events))
        if self._unsaid is not None:
            events = self._unsaid.take(events)
        return ahead + events


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
