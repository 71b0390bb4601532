"""The console's paths. Here is only HTTP."""

# No `from __future__ import annotations`: FastAPI reads the handlers' annotations, and those name
# what only this module's functions know.
from collections.abc import AsyncIterator, Callable
from importlib import resources
from typing import Annotated, Any, NamedTuple

import aiohttp
import msgspec
from fastapi import APIRouter, Depends, FastAPI, Response
from fastapi.responses import RedirectResponse, StreamingResponse
from pydantic import Field, SecretStr

from models.wordbook import reasons
from models.worded import Worded
from serving.api.admin import Desk
from serving.directory.roles import Right
from serving.errors import CallerError, OwnError
from serving.settings import Group, Words
from serving.unreadable import UNREADABLE

FILES = {
    "index.html": "text/html; charset=utf-8",
    "style.css": "text/css; charset=utf-8",
    "app.js": "text/javascript; charset=utf-8",
    "dom.js": "text/javascript; charset=utf-8",
    "views.js": "text/javascript; charset=utf-8",
    "playground.js": "text/javascript; charset=utf-8",
    "telling.js": "text/javascript; charset=utf-8",
    "rollouts.js": "text/javascript; charset=utf-8",
    "votes.js": "text/javascript; charset=utf-8",
    "words.js": "text/javascript; charset=utf-8",
}
BOOK = "reasons.json"
"""Sentences from below in Chinese, by code: English comes beside each code."""
HEAD = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}
KEY_UNKNOWN = Worded("auth.api_key", "this API key is not known here")
CONTROL_S = 2.0
ASK_S = 120.0
ANSWER_BYTES_MAX = 4 << 20
ASKING_MAX = 8
"""Playground answers under way at once."""


class Elsewhere(NamedTuple):
    """Where the console's two own paths look."""

    controller_url: str
    public_url: Callable[[], str]
    """Known once the public listener is bound."""


class Ask(Group):
    """One question of the playground."""

    key: SecretStr = Field(max_length=300)
    """The person's own API key; it needs `is_canary` to name a target."""
    model: Words = Field(min_length=1, max_length=200)
    target: Words = Field("", max_length=300)
    """`own`, an offering, or empty: wherever the gateway sends it."""
    prompt: str = Field(min_length=1, max_length=20_000)
    max_tokens: int = Field(512, ge=1, le=8192)


def add(app: FastAPI, where: Elsewhere, desk: Callable[..., Any]) -> None:
    """Serve the page and its two paths."""
    folder = resources.files(__package__) / "static"
    held = {name: (folder / name).read_bytes() for name in FILES}
    held[BOOK] = msgspec.json.encode({code: one["zh"] for code, one in reasons().items()})
    kinds = FILES | {BOOK: "application/json"}

    @app.get("/console", include_in_schema=False)
    async def entrance() -> Response:
        return RedirectResponse("/console/", 308)

    @app.get("/console/{name}", include_in_schema=False)
    async def file(name: str) -> Response:
        name = name or "index.html"
        if name not in held:
            raise CallerError(
                "not_found", Worded("console.no_file", "the console has no such file")
            )
        return Response(held[name], media_type=kinds[name], headers=HEAD)

    @app.get("/console/", include_in_schema=False)
    async def page() -> Response:
        return await file("index.html")

    router = APIRouter(prefix="/admin/v1/console", tags=["console"])
    _control(router, where, desk)
    _ask(router, where, desk)
    app.include_router(router)


def _control(router: APIRouter, where: Elsewhere, desk: Callable[..., Any]) -> None:
    @router.get("/control")
    async def control(at: Annotated[Desk, Depends(desk)]) -> Response:
        """The controller's latest decisions with their reasons; `away` says why there are none."""
        at.need(Right.SEE)
        timeout = aiohttp.ClientTimeout(total=CONTROL_S)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout) as session,
                session.get(f"{where.controller_url}/decisions", allow_redirects=False) as reply,
            ):
                reply.raise_for_status()
                body = await reply.content.read(ANSWER_BYTES_MAX)
            msgspec.json.decode(body)
        except (aiohttp.ClientError, TimeoutError, OSError, *UNREADABLE) as error:
            away = {"decisions": [], "away": type(error).__name__}
            return Response(msgspec.json.encode(away), media_type="application/json")
        return Response(body, media_type="application/json")


def _ask(router: APIRouter, where: Elsewhere, desk: Callable[..., Any]) -> None:
    under_way = 0

    async def room(at: Annotated[Desk, Depends(desk)]) -> AsyncIterator[aiohttp.ClientSession]:
        """A place among the answers under way; given back once the answer is sent, or its reader
        is gone, however little of it was read."""
        nonlocal under_way
        at.need(Right.SEE)
        if under_way >= ASKING_MAX:
            template = "{count} answers are under way in the playground"
            message = Worded("console.busy", template, count=ASKING_MAX)
            raise OwnError("no_capacity", message, retry_after_s=2.0)
        under_way += 1
        try:
            async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=ASK_S)) as session:
                yield session
        finally:
            under_way -= 1

    @router.post("/ask")
    async def ask(row: Ask, session: Annotated[aiohttp.ClientSession, Depends(room)]) -> Response:
        """Ask through our own public listener with the person's key: every rule holds as for any
        call. The answer is the listener's own, streamed."""
        try:
            reply = await session.post(
                f"{where.public_url()}/v1/chat/completions",
                json=_body(row), headers=_head(row), allow_redirects=False,
            )  # fmt: skip
        except (aiohttp.ClientError, TimeoutError) as error:
            template = "the public listener does not answer: {error}"
            message = Worded("console.no_listener", template, error=type(error).__name__)
            raise OwnError("no_capacity", message, retry_after_s=2.0) from None
        shown = {n: v for n, v in reply.headers.items() if n.lower().startswith("x-")}
        kind = reply.headers.get("content-type", "application/json")
        return StreamingResponse(reply.content.iter_any(), reply.status, shown, media_type=kind)


def _body(row: Ask) -> dict[str, Any]:
    return {
        "model": row.model,
        "messages": [{"role": "user", "content": row.prompt}],
        "max_tokens": row.max_tokens,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def _head(row: Ask) -> dict[str, str]:
    key = row.key.get_secret_value().strip()
    if not (key.isascii() and key.isprintable()):  # it could not stand in a header
        raise CallerError("invalid_api_key", KEY_UNKNOWN)
    head = {"authorization": f"Bearer {key}"}
    return head | ({"x-ballast-pin": row.target} if row.target else {})
