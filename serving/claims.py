"""What a signed token proves about who asks (JWS, RFC 7515 and 7519; hardening as RFC 8725). Pure.

The library checks signatures only. Everything else is judged here, with the time as an argument:
which keys count, what the token must say, and for how long. Nothing that a token says of its own
key (`jku`, `x5u`, `jwk`, `x5c`) is looked at.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, TypeAlias

import jwt
import msgspec

from models.worded import Worded
from serving.errors import CallerError
from serving.settings import Grant, Oidc
from serving.unreadable import UNREADABLE

TOKEN_BYTES_MAX = 8 << 10
"""Providers' tokens are 1 to 3 KiB; many groups make them longer."""
KEYS_MAX = 100
RSA_BITS_MIN = 2048
_KINDS = {
    "ES256": ("EC", "P-256"), "ES384": ("EC", "P-384"), "ES512": ("EC", "P-521"),
    "EdDSA": ("OKP", "Ed25519"),
}  # fmt: skip
_S_MAX = 1e15
_SUBJECT = re.compile(r"[\x21-\x7e]{1,128}").fullmatch
_SHAPE = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+){2}").fullmatch

Signers: TypeAlias = Mapping[tuple[str, str], jwt.PyJWK]
"""Public keys by their id and the one algorithm each is good for."""


class Named(NamedTuple):
    """Which key a token says signed it; believed only once the signature holds."""

    kid: str
    algorithm: str


class Proven(NamedTuple):
    """Who asks, and what that person or service may do."""

    subject: str
    grants: tuple[Grant, ...]


def is_token(text: str) -> bool:
    """Whether this has a token's shape, which no key of ours has."""
    return text.count(".") == 2


def signers(published: Any, settings: Oidc) -> Signers:
    """The usable keys of a JWKS. Raises ValueError when it is none; leaves out keys for other uses,
    weak ones, secret ones, and what it does not know."""
    keys = published.get("keys") if isinstance(published, dict) else None
    if not isinstance(keys, list) or len(keys) > KEYS_MAX:
        raise ValueError(f"not a JWKS of at most {KEYS_MAX} keys")
    found: dict[tuple[str, str], jwt.PyJWK] = {}
    for key in keys:
        for algorithm in _algorithms(key, settings):
            try:
                made = jwt.PyJWK(key, algorithm)
            except (jwt.PyJWTError, ValueError, TypeError):
                continue
            if key["kty"] != "RSA" or made.key.key_size >= RSA_BITS_MIN:
                found.setdefault((key["kid"], algorithm), made)
    return found


def _algorithms(key: Any, settings: Oidc) -> Iterator[str]:
    """What a published key may verify here."""
    if not isinstance(key, dict) or not isinstance(key.get("kid"), str) or "d" in key:
        return
    if key.get("use", "sig") != "sig" or "verify" not in key.get("key_ops", ["verify"]):
        return
    for algorithm in settings.algorithms:
        kind, curve = _KINDS.get(algorithm, ("RSA", None))
        is_kind = (key.get("kty"), key.get("crv")) == (kind, curve)
        if is_kind and key.get("alg", algorithm) == algorithm:
            yield algorithm


def named(token: str, settings: Oidc) -> Named:
    """The key that a token names. Raises CallerError, without echoing what it holds."""
    if len(token) > TOKEN_BYTES_MAX:
        raise _refused(
            Worded(
                "token.long",
                "is longer than {token_bytes_max} bytes",
                token_bytes_max=TOKEN_BYTES_MAX,
            )
        )
    if not _SHAPE(token):
        raise _refused(Worded("token.unsigned", "is no signed token"))
    try:
        header = jwt.get_unverified_header(token)
    except (jwt.PyJWTError, RecursionError):
        raise _refused(Worded("token.unsigned", "is no signed token")) from None
    algorithm, kid = header.get("alg"), header.get("kid")
    if algorithm not in settings.algorithms:
        raise _refused(
            Worded(
                "token.algorithm",
                "is not signed by one of {algorithms}",
                algorithms=[*settings.algorithms],
            )
        )
    if "crit" in header:
        raise _refused(Worded("token.extension", "demands an extension that is not known here"))
    if not isinstance(kid, str) or not kid:
        raise _refused(Worded("token.no_key", "names no key"))
    return Named(kid, str(algorithm))


def judged(token: str, key: jwt.PyJWK, settings: Oidc, now_s: float) -> Proven:
    """Who shows a token at `now_s`, seconds of UTC since 1970. Raises CallerError."""
    try:
        signed = jwt.PyJWS().decode(token, key, [key.algorithm_name])
    except (jwt.PyJWTError, RecursionError):
        raise _refused(Worded("token.signature", "has a wrong signature")) from None
    try:
        claims = msgspec.json.decode(signed)
    except UNREADABLE:
        claims = None
    if not isinstance(claims, dict):
        raise _refused(Worded("token.no_claims", "holds no claims"))
    if claims.get("iss") != settings.issuer:
        raise _refused(Worded("token.issuer", "is another issuer's"))
    audience = claims.get("aud")
    if settings.audience not in (audience if isinstance(audience, list) else [audience]):
        raise _refused(Worded("token.audience", "is meant for somebody else"))
    _check_times(claims, settings, now_s)
    subject = claims.get("sub")
    if not isinstance(subject, str) or not _SUBJECT(subject):
        raise _refused(
            Worded("token.nobody", "names nobody: `sub` is 1 to 128 visible ASCII characters")
        )
    return Proven(subject, _grants(claims, settings))


def _check_times(claims: Mapping[str, Any], settings: Oidc, now_s: float) -> None:
    expires_s, issued_s = _time(claims, "exp"), _time(claims, "iat")
    begins_s = _time(claims, "nbf") if "nbf" in claims else issued_s
    if expires_s <= now_s - settings.leeway_s:
        raise _refused(Worded("token.expired", "has expired"))
    if max(begins_s, issued_s) > now_s + settings.leeway_s:
        raise _refused(Worded("token.early", "is not valid yet"))
    if expires_s - issued_s > settings.token_s_max:
        raise _refused(
            Worded(
                "token.lives",
                "lives longer than {token_s_max} s",
                token_s_max=f"{settings.token_s_max:.0f}",
            )
        )


def _time(claims: Mapping[str, Any], name: str) -> float:
    value = claims.get(name)
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _S_MAX:
        return float(value)
    raise _refused(Worded("token.no_time", "says no time `{name}`", name=name))


def _grants(claims: Mapping[str, Any], settings: Oidc) -> tuple[Grant, ...]:
    found: Any = claims.get(settings.role_claim)
    if found is None:
        found = claims
        for part in settings.role_claim.split("."):
            found = found.get(part) if isinstance(found, dict) else None
    values = found if isinstance(found, list) else [found]
    grants = tuple(grant for value, grant in settings.roles.items() if value in values)
    if not grants:
        message = Worded(
            "token.no_role", "this token gives no role here: see `oidc.role_claim` and `oidc.roles`"
        )
        raise CallerError("role_required", message)
    return grants


def _refused(what: str) -> CallerError:
    return CallerError("invalid_api_key", Worded("token.is", "this token {what}", what=what))
