"""The directory as values: what is stored, and one whole state of it.

Tenants and keys are the settings' own types, so that a row means the same wherever it stands.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

import msgspec
from pydantic import AwareDatetime, BaseModel, Field, ValidationError

from serving.budgets.values import Budget
from serving.directory.newer import (
    OLDER,
    OLDER_FIELD,
    OPTIONAL_FIELD,
    optional_in,
    passed_over,
    read,
)
from serving.limits.settings import AllowanceSettings
from serving.records import LatencyClass, Overflow
from serving.rollout.values import Rollout
from serving.settings import (
    MANY,
    NAME,
    Administrator,
    Group,
    KeySettings,
    ModelName,
    TenantSettings,
    Words,
)

WHY_CHARS_MAX = 500


class Project(Group):
    """A feature or product of a tenant, in one environment."""

    tenant: str
    name: str = Field(pattern=f"^{NAME}$")
    environment: Literal["prod", "dev", "test"] = "prod"
    owner: Words = Field("", max_length=200)
    """Who answers for it, in words."""
    allowance: AllowanceSettings | None = None

    @property
    def id(self) -> str:
        """Unique in the directory."""
        return f"{self.tenant}:{self.name}"


Scope: TypeAlias = Literal["all", "model", "tenant", "provider", "jurisdiction"]


class Switch(Group):
    """A kill switch that is thrown: nothing new goes there until it is taken back."""

    scope: Scope
    value: Words = Field("", max_length=200)
    """The model, tenant, provider or jurisdiction; empty for `all`."""
    why: Words = Field(min_length=1, max_length=WHY_CHARS_MAX)
    by: str
    at_ms: int

    @property
    def id(self) -> str:
        """Unique in the directory."""
        return f"{self.scope}:{self.value}"


class KeyRequest(Group):
    """A key that somebody asks for and an administrator has to approve. Gone once it is decided and
    the key was handed out; the history tells of it."""

    id: str = Field(pattern="^[0-9a-f]{16}$")
    key: str = Field(pattern=f"^{NAME}$")
    """The id the key is to have."""
    tenant: str
    project: str = "default"
    feature: str = Field("", pattern=f"^({NAME})?$")
    overflow: Overflow = Overflow.ALLOWED
    latency_class: LatencyClass = LatencyClass.INTERACTIVE
    models: tuple[ModelName, ...] | None = Field(None, max_length=MANY)
    expires: AwareDatetime | None = None
    why: Words = Field(min_length=1, max_length=WHY_CHARS_MAX)
    by: str
    at_ms: int
    ticket_hmac: str = Field(pattern="^[0-9a-f]{64}$")
    """Of the ticket that the asker alone was shown; it fetches the key once that is approved."""
    approved_by: str = ""
    """Empty while it waits."""
    approved_ms: int = 0


class PepperMark(Group):
    """Shows whether two gateways have the same pepper: with another one no key is ever known."""

    id: Literal["mark"] = "mark"
    hmac: str = Field(pattern="^[0-9a-f]{64}$")
    """Of a fixed word, under the pepper of who made the first change."""


Kind: TypeAlias = Literal[
    "tenant", "project", "key", "administrator", "switch", "request", "pepper", "budget", "rollout"
]
MODELS: Mapping[Kind, type[BaseModel]] = {
    "tenant": TenantSettings,
    "project": Project,
    "key": KeySettings,
    "administrator": Administrator,
    "switch": Switch,
    "request": KeyRequest,
    "pepper": PepperMark,
    "budget": Budget,
    "rollout": Rollout,
}


class Document(msgspec.Struct, frozen=True):
    """One row as stored."""

    kind: Kind
    id: str
    data: bytes
    """JSON; empty when the row was removed."""


class Event(msgspec.Struct, frozen=True):
    """One change and its reason, as the history keeps it."""

    at_ms: int
    actor: str
    action: str
    subject: str
    """`kind:id`."""
    why: str
    details: dict[str, Any]
    """What changed; never a key or its HMAC."""


class DirectoryFault(Exception):  # noqa: N818 - a state of the store
    """A stored row cannot be read; names it."""


class Directory(msgspec.Struct, frozen=True):
    """One whole state."""

    version: int = 0
    tenants: Mapping[str, TenantSettings] = {}
    projects: Mapping[str, Project] = {}
    keys: Mapping[str, KeySettings] = {}
    administrators: Mapping[str, Administrator] = {}
    switches: Mapping[str, Switch] = {}
    requests: Mapping[str, KeyRequest] = {}
    pepper: Mapping[str, PepperMark] = {}
    budgets: Mapping[str, Budget] = {}
    rollouts: Mapping[str, Rollout] = {}
    newer: frozenset[str] = frozenset()
    """Rows, as `kind:id`, that only a newer Ballast understands wholly: changed there only."""
    unknown: Mapping[str, Mapping[str, Any]] = {}
    """By `kind:id`, the fields of those rows that are unknown here; see `changes.keeping`."""
    confined: frozenset[str] = frozenset()
    """Tenants whose rows say something that binds and is not understood here: served on the
    premises only."""


_FIELDS: Mapping[Kind, str] = {
    "tenant": "tenants", "project": "projects", "key": "keys",
    "administrator": "administrators", "switch": "switches", "request": "requests",
    "pepper": "pepper", "budget": "budgets", "rollout": "rollouts",
}  # fmt: skip


def build(
    version: int, documents: list[Document], models: Mapping[Kind, type[BaseModel]] = MODELS
) -> Directory:
    """The state that stored rows make, those of a newer Ballast as far as they bind here too: see
    `newer`. `models`: the kinds that are known. Raises DirectoryFault."""
    rows: dict[str, dict[str, Any]] = {name: {} for name in _FIELDS.values()}
    newer: set[str] = set()
    unknown: dict[str, Mapping[str, Any]] = {}
    confined: set[str] = set()
    for document in documents:
        if not document.data:
            continue
        name = f"{document.kind}:{document.id}"
        if document.kind not in models:
            confined |= _passed_over(document, name)
            newer.add(name)
            continue
        try:
            found = read(models[document.kind], document.data)
        except ValidationError as error:
            text = f"the directory's row {name} cannot be read: {error}"
            raise DirectoryFault(text) from None
        if found.ignored:
            newer.add(name)
            unknown[name] = found.ignored
        if found.binding and document.kind in ("administrator", "request"):
            continue  # who may do what is not known here: nothing, then
        if found.binding and document.kind in ("tenant", "project", "key"):
            confined.add(document.id if document.kind == "tenant" else found.row.tenant)  # type: ignore[attr-defined]
        rows[_FIELDS[document.kind]][document.id] = found.row
    return Directory(
        version, **rows, newer=frozenset(newer), unknown=unknown, confined=frozenset(confined)
    )


def _passed_over(document: Document, name: str) -> set[str]:
    """Tenants to confine for a row of a kind that is unknown here. Raises DirectoryFault."""
    tenant = passed_over(document.data)
    if tenant is None:
        raise DirectoryFault(
            f"the directory's row {name} is of a kind that this version does not know, and does not"
            " say that it may be passed over: upgrade this gateway"
        )
    return {tenant} if tenant else set()


def over(standing: Directory, stored: Directory) -> Directory:
    """What is known in all: `stored` rows beside those that stand in settings and files, which
    nobody may have twice."""
    rows = {name: {**getattr(stored, name), **getattr(standing, name)} for name in _FIELDS.values()}
    return msgspec.structs.replace(stored, **rows)


def names(directory: Directory) -> list[str]:
    """Every row as `kind:id`, sorted."""
    return sorted(f"{kind}:{id_}" for kind, f in _FIELDS.items() for id_ in getattr(directory, f))


def document(kind: Kind, value: BaseModel) -> Document:
    """A row to store."""
    tree = value.model_dump(mode="json", exclude_none=True)
    if optional := optional_in(tree):
        tree[OPTIONAL_FIELD] = optional
    if kind in OLDER:
        tree[OLDER_FIELD] = OLDER[kind]
    return Document(kind, value.id, msgspec.json.encode(tree))  # type: ignore[attr-defined]


def removed(kind: Kind, id_: str) -> Document:
    """A row to remove."""
    return Document(kind, id_, b"")
