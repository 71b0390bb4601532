"""The admin API's rim, on the ops listener: who asks, what they may, and errors in OpenAI's form.

Each request names an administrator by key or token; each change is in the history before it is
answered. Rights stand in `directory.roles`, rules in `directory.commands`, paths in `admin_routes`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from models.worded import Worded, checked, of
from serving import auth, errors
from serving.api.actors import Actor
from serving.audit.auditor import Auditor
from serving.budgets.keeper import Keeper
from serving.directory.changes import SECRET, By, Change
from serving.directory.roles import Right, allows
from serving.directory.values import Directory, PepperMark, document, names, over
from serving.errors import BallastError, CallerError, OwnError
from serving.policy import Policies
from serving.records import Offering
from serving.settings import Settings


class Admin(NamedTuple):
    """What the admin API works with; built by the composition root."""

    policies: Policies
    pepper: bytes
    standing: Callable[[], Directory]
    """What stands in settings and key file."""
    targets: Mapping[str, Mapping[str, str]]
    """By scope of a switch: what it can stop here, under every name it has."""
    random_bytes: Callable[[int], bytes]
    utc_ms: Callable[[], int]
    auditor: Auditor
    budgets: Keeper

    @property
    def known(self) -> Directory:
        """All rows, stored or standing."""
        return over(self.standing(), self.policies.directory)


def targets(settings: Settings, sold: Iterable[Offering]) -> Mapping[str, Mapping[str, str]]:
    """`Admin.targets` of these settings."""
    fleet, bought = settings.fleet, tuple(sold)
    stands = [engine.pool for engine in fleet.static if engine.pool is not None]
    pools = {pool.jurisdiction for pool in (fleet.pool, *stands)}
    return {
        "model": {name: m.name for m in settings.models for name in (m.name, *m.aliases)},
        "provider": {o.provider: o.provider for o in bought},
        "jurisdiction": {j: j for j in pools | {o.label.jurisdiction for o in bought}},
    }


def answer_errors(app: FastAPI) -> None:
    """Refusals and invalid requests in OpenAI's form."""

    @app.exception_handler(BallastError)
    async def refused(_: Request, error: BallastError) -> Response:
        body = errors.told(error.code, of(error), error.param)
        status = errors.TABLE[error.code].status
        head = {"WWW-Authenticate": "Bearer"} if status == 401 else {}
        return Response(body, status, head, media_type="application/json")

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        name = ".".join(str(part)[:100] for part in first["loc"][1:]) or "body"
        template = "{name}: {what}"
        message = Worded("field", template, name=name, what=checked(first))
        body = errors.told("invalid_value", message, name)
        return Response(body, 400, media_type="application/json")

    @app.exception_handler(HTTPException)
    async def unanswered(_: Request, error: HTTPException) -> Response:
        """What the framework refuses itself: no such path or method, a body that is no JSON."""
        code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "invalid_json")
        body = errors.body(code, str(error.detail))
        head = dict(error.headers or {})
        return Response(body, errors.TABLE[code].status, head, media_type="application/json")


class Desk:
    """Works for one request."""

    def __init__(self, admin: Admin, actor: Actor) -> None:
        self._admin = admin
        self.actor = actor

    def need(self, right: Right, tenant: str | None = None) -> None:
        """Raises CallerError unless the actor has the right over a tenant; without one, over what
        is no one tenant's."""
        if self.may(right, tenant):
            return
        if any(right in one.rights for one in self.actor.allowed):
            said = Worded(
                "access.needs_this", "this needs {right} for this tenant", right=str(right)
            )
            if tenant is None:
                template = "this needs {right} for all tenants"
                said = Worded("access.needs_all", template, right=str(right))
            raise CallerError("role_required", said)
        raise CallerError(
            "role_required",
            Worded("access.role", "your role may not: this needs {right}", right=str(right)),
        )

    def may(self, right: Right, tenant: str | None = None) -> bool:
        """Whether the actor has the right."""
        return allows(self.actor.allowed, right, tenant)

    def need_of_key(self, right: Right, id_: str) -> None:
        """The same over a key's tenant. To whoever may not see a key, there is none."""
        key = self._admin.known.keys.get(id_)
        self._need_of("key", id_, right, None if key is None else key.tenant)

    def need_of_request(self, right: Right, id_: str) -> None:
        """The same over the tenant of a request for a key."""
        request = self._admin.known.requests.get(id_)
        self._need_of("request", id_, right, None if request is None else request.tenant)

    def _need_of(self, kind: str, id_: str, right: Right, tenant: str | None) -> None:
        is_seen = tenant is not None and any(self.may(one, tenant) for one in Right)
        if not is_seen and not self.may(right):
            if all(right not in one.rights for one in self.actor.allowed):
                self.need(right)
            raise CallerError(
                "not_found",
                Worded("directory.none", "there is no {kind} {id}", kind=kind, id=repr(id_[:200])),
            )
        self.need(right, tenant)

    def by(self, why: str) -> By:
        """The actor, now."""
        return By(self.actor.id, self._admin.utc_ms(), why)

    def need_changeable(self, kind: str, id_: str, *, is_stop: bool = False) -> None:
        """Raises CallerError for what stands in the settings, or is not wholly understood here. A
        change that only stops something keeps what it does not understand, and may be made."""
        if f"{kind}:{id_}" in names(self._admin.standing()):
            message = Worded(
                "directory.standing",
                "{kind} {id} stands in the settings or the key file: change it there",
                kind=kind,
                id=repr(id_),
            )
            raise CallerError("conflict", message)
        if f"{kind}:{id_}" in self._admin.policies.directory.newer and not is_stop:
            raise CallerError(
                "conflict",
                Worded(
                    "directory.newer",
                    "a newer Ballast wrote {kind} {id}: change it through a gateway of "
                    "that version, or its new fields would be lost",
                    kind=kind,
                    id=repr(id_),
                ),
            )

    async def change(self, decide: Callable[[Directory], Change]) -> int:
        """Store a change; the directory's new version."""
        standing = self._admin.standing()

        def marked(stored: Directory) -> Change:
            """The first change says under which pepper keys are made here."""
            change = decide(over(standing, stored))
            if stored.pepper:
                return change
            mark = PepperMark(hmac=auth.pepper_mark(self._admin.pepper))
            return Change([*change.documents, document("pepper", mark)], change.event)

        changed = await self._admin.policies.change(marked)
        return changed.version

    def new_value(self, prefix: str) -> tuple[str, str]:
        """A new key and its HMAC. Raises OwnError where the others could not know it."""
        for mark in self._admin.policies.directory.pepper.values():
            if not auth.is_same(mark.hmac, auth.pepper_mark(self._admin.pepper)):
                message = Worded(
                    "directory.pepper",
                    "this gateway has another pepper than the others: see pepper_file",
                )
                raise OwnError("directory_away", message)
        key = auth.new_key(self._admin.random_bytes(32), prefix)
        return key, self.mark(key)

    def new_id(self) -> str:
        """A number that nobody has."""
        return self._admin.random_bytes(8).hex()

    def mark(self, secret: str) -> str:
        """The HMAC of a key or ticket."""
        return auth.digest(self._admin.pepper, secret.encode()).hex()


def said(row: BaseModel) -> dict[str, Any]:
    """What a body holds, without what it leaves out."""
    return row.model_dump(exclude_unset=True)


def plain(row: BaseModel) -> dict[str, Any]:
    """A row to show."""
    return row.model_dump(mode="json", exclude_none=True, exclude=set(SECRET))
