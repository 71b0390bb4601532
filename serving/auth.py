"""Who sent this? Pure: keys in, Caller out. Stores no key, only HMACs under the pepper."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import NamedTuple

from models.worded import Worded
from serving.errors import CallerError
from serving.limits.settings import AllowanceSettings
from serving.records import (
    Allowance,
    Caller,
    Overflow,
    Policy,
    Residency,
    ResidencyLevel,
    Subject,
)
from serving.settings import KeySettings, TenantSettings

KEY_PREFIX, ADMIN_PREFIX, TICKET_PREFIX = "bl-", "ba-", "bt-"
"""Of an API key, an administrator's key, and a ticket that fetches a key that was asked for."""
LOAD_TEST = "load-test"
"""Feature of a load test's rows unless its key names another."""
NEVER = datetime.max.replace(tzinfo=UTC)


class KeyConflict(Exception):  # noqa: N818 - names a state of the settings
    """Two keys, or a key and a tenant, contradict each other."""


def digest(pepper: bytes, key: bytes) -> bytes:
    """HMAC-SHA-256 of a key: what is stored and looked up."""
    return hmac.digest(pepper, key, hashlib.sha256)


def pepper_mark(pepper: bytes) -> str:
    """The same for gateways that have the same pepper; tells nothing of it."""
    return digest(pepper, b"ballast directory").hex()


def new_key(random_bytes: bytes, prefix: str = KEY_PREFIX) -> str:
    """A key made of 32 random bytes; shown once, never stored."""
    assert len(random_bytes) == 32
    return prefix + base64.urlsafe_b64encode(random_bytes).rstrip(b"=").decode()


def is_same(one: str, other: str) -> bool:
    """Compare digests without telling by the time it takes how much of them agrees."""
    return hmac.compare_digest(one, other)


class Callers(NamedTuple):
    """Who is known at one moment."""

    by_digest: dict[bytes, Caller | None]
    """None for a key that is revoked, expired or of a suspended tenant."""
    changes_at: datetime
    """When a key expires next, and this must be made anew."""


def callers(
    keys: Iterable[KeySettings], tenants: Iterable[TenantSettings], now: datetime,
    projects: Mapping[str, AllowanceSettings] = {},
) -> Callers:  # fmt: skip
    """Who may call at `now`. `projects` are allowances by `tenant:project`. Raises KeyConflict
    naming the key."""
    owners: dict[str, TenantSettings] = {}
    for tenant in tenants:
        if tenant.id in owners:
            raise KeyConflict(
                Worded("settings.tenant_twice", "tenant {id} is given twice", id=repr(tenant.id))
            )
        owners[tenant.id] = tenant
    found: dict[bytes, Caller | None] = {}
    names: set[str] = set()
    ends: list[datetime] = [NEVER]
    for key in keys:
        if key.id in names:
            # Idempotency and the books tell callers apart by this id.
            raise KeyConflict(
                Worded("settings.key_twice", "the key id {id} is given twice", id=repr(key.id))
            )
        names.add(key.id)
        owner = owners.get(key.tenant)
        if owner is None:
            raise KeyConflict(
                Worded(
                    "settings.key_tenant",
                    "key {id} names tenant {tenant}, which is not configured",
                    id=repr(key.id),
                    tenant=repr(key.tenant),
                )
            )
        is_good = not key.is_revoked and not owner.is_suspended
        project = f"{key.tenant}:{key.project}"
        beside = subject(f"project:{project}", projects.get(project))
        caller = _caller(key, owner, beside) if is_good else None
        for mark, until in _values(key):
            if mark in found:
                raise KeyConflict(
                    Worded(
                        "settings.key_same",
                        "key {id} has the same value as another key",
                        id=repr(key.id),
                    )
                )
            found[mark] = caller if until > now else None
            if until > now:
                ends.append(until)
    return Callers(found, min(ends))


def _values(key: KeySettings) -> Iterator[tuple[bytes, datetime]]:
    """A key's values as digests, and until when each is good."""
    until = key.expires or NEVER
    yield bytes.fromhex(key.hmac), until
    if key.previous_hmac is not None:
        yield bytes.fromhex(key.previous_hmac), min(until, key.previous_until or NEVER)


def residency(owner: TenantSettings) -> Residency:
    """A tenant's rule as a value."""
    return Residency(ResidencyLevel[owner.residency.upper()], frozenset(owner.jurisdictions))


def subject(id_: str, given: AllowanceSettings | None) -> tuple[Subject, ...]:
    """Who has an allowance; nobody where none is given or it limits nothing."""
    if given is None:
        return ()
    allowance = Allowance(**given.model_dump())
    return () if allowance == Allowance() else (Subject(id_, allowance),)


def _caller(key: KeySettings, owner: TenantSettings, beside: tuple[Subject, ...]) -> Caller:
    policy = Policy(
        residency=residency(owner),
        overflow=key.overflow or (Overflow.NEVER if key.is_forwarder else Overflow.ALLOWED),
        latency_class=key.latency_class,
        exposure=key.exposure,
        models=None if key.models is None else frozenset(key.models),
        is_load_test=key.is_load_test,
        is_canary=key.is_canary,
        is_forwarder=key.is_forwarder,
        subjects=(
            *subject(f"key:{key.id}", key.allowance),
            *beside,
            *subject(f"tenant:{owner.id}", owner.allowance),
        ),
        tier_max=owner.substitutes_max_tier or 0,
    )
    # In every report a load test stands apart from what the tenant does.
    feature = key.feature or (LOAD_TEST if key.is_load_test else "")
    return Caller(key.id, owner.id, key.project, policy, feature)


def identify(
    callers: Mapping[bytes, Caller | None], pepper: bytes, authorization: bytes | None
) -> Caller:
    """The caller behind an `Authorization` header. Raises CallerError without echoing the key."""
    if not authorization:
        raise CallerError("missing_api_key", "send your API key as 'Authorization: Bearer <key>'")
    scheme, _, key = authorization.partition(b" ")
    if scheme.lower() != b"bearer" or not key:
        raise CallerError("invalid_api_key", "the Authorization header is not 'Bearer <key>'")
    mark = digest(pepper, key.strip())
    caller = callers.get(mark)
    if caller is None:
        if mark in callers:
            message = "this API key has been revoked, has expired or belongs to a suspended tenant"
            raise CallerError("invalid_api_key", message)
        raise CallerError("invalid_api_key", "this API key is not known here")
    return caller
