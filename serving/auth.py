"""Who sent this? Pure: keys in, Caller out. Stores no key, only HMACs under the pepper."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Iterable, Mapping

from serving.errors import CallerError
from serving.records import Caller, Overflow, Policy, Residency, ResidencyLevel
from serving.settings import KeySettings, TenantSettings

KEY_PREFIX = "bl-"


class KeyConflict(Exception):  # noqa: N818 - names a state of the settings
    """Two keys, or a key and a tenant, contradict each other."""


def digest(pepper: bytes, key: bytes) -> bytes:
    """HMAC-SHA-256 of a key: what is stored and looked up."""
    return hmac.digest(pepper, key, hashlib.sha256)


def new_key(random_bytes: bytes) -> str:
    """An API key made of 32 random bytes; shown once, never stored."""
    assert len(random_bytes) == 32
    return KEY_PREFIX + base64.urlsafe_b64encode(random_bytes).rstrip(b"=").decode()


def directory(
    keys: Iterable[KeySettings], tenants: Iterable[TenantSettings]
) -> dict[bytes, Caller | None]:
    """Callers by key digest, None for a revoked key. Raises KeyConflict naming the key."""
    owners: dict[str, TenantSettings] = {}
    for tenant in tenants:
        if tenant.id in owners:
            raise KeyConflict(f"tenant {tenant.id!r} is given twice")
        owners[tenant.id] = tenant
    found: dict[bytes, Caller | None] = {}
    names: set[str] = set()
    for key in keys:
        if key.id in names:
            # Idempotency and the books tell callers apart by this id.
            raise KeyConflict(f"the key id {key.id!r} is given twice")
        names.add(key.id)
        owner = owners.get(key.tenant)
        if owner is None:
            raise KeyConflict(
                f"key {key.id!r} names tenant {key.tenant!r}, which is not configured"
            )
        mark = bytes.fromhex(key.hmac)
        if mark in found:
            raise KeyConflict(f"key {key.id!r} has the same value as another key")
        found[mark] = None if key.is_revoked else _caller(key, owner)
    return found


def residency(owner: TenantSettings) -> Residency:
    """A tenant's rule as a value."""
    return Residency(ResidencyLevel[owner.residency.upper()], frozenset(owner.jurisdictions))


def _caller(key: KeySettings, owner: TenantSettings) -> Caller:
    policy = Policy(
        residency=residency(owner),
        overflow=key.overflow or (Overflow.NEVER if key.is_forwarder else Overflow.ALLOWED),
        latency_class=key.latency_class,
        exposure=key.exposure,
        models=None if key.models is None else frozenset(key.models),
        is_load_test=key.is_load_test,
        is_forwarder=key.is_forwarder,
    )
    return Caller(key.id, owner.id, key.project, policy, key.feature)


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
            raise CallerError("invalid_api_key", "this API key has been revoked")
        raise CallerError("invalid_api_key", "this API key is not known here")
    return caller
