"""Who asks the admin API: by a key of ours, by an identity provider's token, or by an API key.

A name in the history says which: an administrator's id as it is, a token's subject after `oidc:`,
an API key's id after `key:`; an administrator's id holds no colon.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import NamedTuple

from models.worded import Worded
from serving import auth, claims
from serving.directory.roles import Allowed, Right, allowed
from serving.directory.values import Directory
from serving.errors import CallerError
from serving.jwks import KeySet
from serving.records import Caller
from serving.settings import Oidc

AUTHORIZATION_CHARS_MAX = claims.TOKEN_BYTES_MAX + 100


class Actor(NamedTuple):
    """Who asks, and what is allowed."""

    id: str
    allowed: tuple[Allowed, ...]
    tenant: str = ""
    """Whose API key it is."""


class Actors:
    """Knows everybody who may use the admin API. `pepper` is what key digests are made under."""

    def __init__(
        self,
        known: Callable[[], Directory],
        pepper: bytes,
        callers: Callable[[bytes], Caller],
        tokens: tuple[Oidc, KeySet] | None,
    ) -> None:
        self._known = known
        self._pepper = pepper
        self._callers = callers
        self._tokens = tokens

    async def administrator(self, authorization: str | None, now_ms: int) -> Actor:
        """Who sent an `Authorization` header at `now_ms`. Raises CallerError without echoing it;
        OwnError when the identity provider is away."""
        secret = _bearer(authorization)
        if claims.is_token(secret):
            return await self._by_token(secret, now_ms)
        mark = auth.digest(self._pepper, secret.encode()).hex()
        for one in self._known().administrators.values():
            if auth.is_same(one.hmac, mark):
                now = datetime.fromtimestamp(now_ms / 1e3, UTC)
                if one.expires is not None and one.expires <= now:
                    raise CallerError(
                        "invalid_api_key",
                        Worded("access.expired", "this administrator's key has expired"),
                    )
                return Actor(one.id, (allowed(one.role, one.tenants),))
        raise CallerError(
            "invalid_api_key", Worded("access.no_admin", "this is no administrator's key")
        )

    async def asker(self, authorization: str | None, now_ms: int) -> Actor:
        """The same, and those who have an API key: they may ask for another of their tenant's."""
        if not _bearer(authorization).startswith(auth.KEY_PREFIX):
            return await self.administrator(authorization, now_ms)
        caller = self._callers((authorization or "").encode())
        rights = Allowed(frozenset({Right.ASK}), frozenset({caller.tenant}))
        return Actor(f"key:{caller.key_id}", (rights,), caller.tenant)

    async def _by_token(self, token: str, now_ms: int) -> Actor:
        if self._tokens is None:
            raise CallerError(
                "invalid_api_key",
                Worded("access.no_tokens", "tokens are not taken here: no `oidc` is set"),
            )
        settings, keys = self._tokens
        key = await keys.find(claims.named(token, settings))
        proven = claims.judged(token, key, settings, now_ms / 1e3)
        grants = tuple(allowed(grant.role, grant.tenants) for grant in proven.grants)
        return Actor(f"oidc:{proven.subject}", grants)


def _bearer(authorization: str | None) -> str:
    if not authorization:
        message = Worded(
            "access.send_key", "send an administrator's key as 'Authorization: Bearer ba-...'"
        )
        raise CallerError("missing_api_key", message)
    if len(authorization) > AUTHORIZATION_CHARS_MAX:
        raise CallerError(
            "invalid_api_key", Worded("access.long", "the Authorization header is too long")
        )
    scheme, _, secret = authorization.partition(" ")
    if scheme.lower() != "bearer" or not secret.strip():
        message = Worded(
            "access.not_bearer", "the Authorization header is not 'Bearer <key or token>'"
        )
        raise CallerError("invalid_api_key", message)
    return secret.strip()
