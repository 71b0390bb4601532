"""The admin API's rim, on the ops listener: who asks, what they may, and errors in OpenAI's form.

Each request names an administrator by key; each change is in the history before it is answered.
Rights stand in `directory.roles`, rules in `directory.commands`, paths in `admin_routes`.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import NamedTuple

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError

from serving import auth, errors
from serving.directory.commands import By, Change
from serving.directory.roles import Right, may
from serving.directory.values import Directory, names, over
from serving.errors import BallastError, CallerError
from serving.policy import Policies
from serving.records import Role

ADMIN_PREFIX = "ba-"


class Admin(NamedTuple):
    """What the admin API works with; built by the composition root."""

    policies: Policies
    pepper: bytes
    standing: Callable[[], Directory]
    """What stands in settings and key file."""
    random_bytes: Callable[[int], bytes]
    utc_ms: Callable[[], int]

    @property
    def known(self) -> Directory:
        """All rows, stored or standing."""
        return over(self.standing(), self.policies.directory)


class Actor(NamedTuple):
    """Who asks."""

    id: str
    role: Role


def actor_of(admin: Admin, authorization: str | None, now: datetime) -> Actor:
    """Who sent an `Authorization` header. Raises CallerError without echoing it."""
    if not authorization:
        message = "send an administrator's key as 'Authorization: Bearer ba-...'"
        raise CallerError("missing_api_key", message)
    scheme, _, key = authorization.partition(" ")
    mark = auth.digest(admin.pepper, key.strip().encode()).hex()
    if scheme.lower() == "bearer":
        for one in admin.known.administrators.values():
            if auth.is_same(one.hmac, mark):
                if one.expires is not None and one.expires <= now:
                    raise CallerError("invalid_api_key", "this administrator's key has expired")
                return Actor(one.id, one.role)
    raise CallerError("invalid_api_key", "this is no administrator's key")


def answer_errors(app: FastAPI) -> None:
    """Refusals and invalid requests in OpenAI's form."""

    @app.exception_handler(BallastError)
    async def refused(_: Request, error: BallastError) -> Response:
        body = errors.body(error.code, error.message, error.param)
        status = errors.TABLE[error.code].status
        head = {"WWW-Authenticate": "Bearer"} if status == 401 else {}
        return Response(body, status, head, media_type="application/json")

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"][1:]) or "body"
        body = errors.body("invalid_value", f"{name}: {first['msg']}", name)
        return Response(body, 400, media_type="application/json")


class Desk:
    """Makes changes for one request."""

    def __init__(self, admin: Admin, actor: Actor) -> None:
        self._admin = admin
        self.actor = actor

    def need(self, right: Right) -> None:
        """Raises CallerError unless the actor's role has the right."""
        if not may(self.actor.role, right):
            message = f"role {self.actor.role!s} may not: this needs {right!s}"
            raise CallerError("role_required", message)

    def by(self, why: str) -> By:
        """The actor, now."""
        return By(self.actor.id, self._admin.utc_ms(), why)

    def need_changeable(self, kind: str, id_: str) -> None:
        """Raises CallerError for what stands in the settings."""
        if f"{kind}:{id_}" in names(self._admin.standing()):
            message = f"{kind} {id_!r} stands in the settings or the key file: change it there"
            raise CallerError("conflict", message)

    async def change(self, decide: Callable[[Directory], Change]) -> int:
        """Store a change; the directory's new version."""
        standing = self._admin.standing()
        changed = await self._admin.policies.change(lambda stored: decide(over(standing, stored)))
        return changed.version

    def new_value(self, prefix: str) -> tuple[str, str]:
        """A new key and its HMAC."""
        key = prefix + auth.new_key(self._admin.random_bytes(32)).removeprefix(auth.KEY_PREFIX)
        return key, auth.digest(self._admin.pepper, key.encode()).hex()
