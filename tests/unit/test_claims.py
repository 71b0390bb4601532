"""What a signed token proves, and every way in which one does not."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from serving import claims
from serving.errors import CallerError
from serving.records import Role
from serving.settings import Oidc, SettingsError, load

NOW_S = 1_700_000_000.0
RSA = rsa.generate_private_key(65537, 2048)
OTHER_RSA = rsa.generate_private_key(65537, 2048)
WEAK_RSA = rsa.generate_private_key(65537, 1024)
EC = ec.generate_private_key(ec.SECP256R1())
EC384 = ec.generate_private_key(ec.SECP384R1())
ED = ed25519.Ed25519PrivateKey.generate()
KINDS = {
    "RS256": (RSA, jwt.algorithms.RSAAlgorithm), "PS256": (RSA, jwt.algorithms.RSAAlgorithm),
    "ES256": (EC, jwt.algorithms.ECAlgorithm), "ES384": (EC384, jwt.algorithms.ECAlgorithm),
    "EdDSA": (ED, jwt.algorithms.OKPAlgorithm),
}  # fmt: skip
OIDC = Oidc.model_validate(
    {
        "issuer": "https://id.example", "audience": "ballast", "jwks_url": "https://id.example/k",
        "role_claim": "realm_access.roles",
        "roles": {"ops": "operator", "boss": "admin", "shop": {"role": "admin", "tenants": ["s"]}},
        "algorithms": list(KINDS), "leeway_s": 30,
    }
)  # fmt: skip


def jwk(algorithm: str = "RS256", private: Any = None, **changes: Any) -> dict[str, Any]:
    """A public key as a provider publishes it; None takes a field away."""
    own, kind = KINDS[algorithm]
    row = kind.to_jwk((private or own).public_key(), as_dict=True)
    row |= {"kid": algorithm, "use": "sig", "alg": algorithm, **changes}
    return {name: value for name, value in row.items() if value is not None}


def said(**changes: Any) -> dict[str, Any]:
    """Claims of a good token; None takes one away."""
    found = {
        "iss": OIDC.issuer, "aud": "ballast", "sub": "u-1", "iat": NOW_S - 10, "exp": NOW_S + 300,
        "realm_access": {"roles": ["ops", "other"]},
    } | changes  # fmt: skip
    return {name: value for name, value in found.items() if value is not None}


def token(algorithm: str = "RS256", key: Any = None, head: Any = None, **changes: Any) -> str:
    header = {"kid": algorithm} | (head or {})
    body = json.dumps(said(**changes)).encode()
    return jwt.PyJWS().encode(body, key or KINDS[algorithm][0], algorithm, header)


def shown(text: str, keys: Any = None, now_s: float = NOW_S, oidc: Oidc = OIDC) -> claims.Proven:
    """What the admin API would make of a token."""
    published = {"keys": [jwk(name) for name in KINDS]} if keys is None else {"keys": keys}
    signers = claims.signers(published, oidc)
    named = claims.named(text, oidc)
    key = signers.get(named)
    if key is None:
        raise CallerError("invalid_api_key", "unknown key")
    return claims.judged(text, key, oidc, now_s)


def refused(text: str, **more: Any) -> str:
    with pytest.raises(CallerError) as caught:
        shown(text, **more)
    assert text[:20] not in caught.value.message
    assert caught.value.code in ("invalid_api_key", "role_required")
    return caught.value.message


@pytest.mark.parametrize("algorithm", KINDS)
def test_a_good_token_names_its_subject_and_role(algorithm: str) -> None:
    proven = shown(token(algorithm))
    assert (proven.subject, [grant.role for grant in proven.grants]) == ("u-1", [Role.OPERATOR])


def raw(header: Any, body: Any, signature: bytes = b"x") -> str:
    parts = (json.dumps(header).encode(), json.dumps(body).encode(), signature)
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


@pytest.mark.parametrize("name", ["none", "None", "NONE", "nOnE", "HS256", "", None, 7, ["RS256"]])
def test_an_algorithm_that_was_not_chosen_is_refused_unread(name: Any) -> None:
    header = {"alg": name, "kid": "RS256"}
    assert "not signed by one of" in refused(raw(header, said()))
    unsigned = raw(header, said()).rpartition(".")[0] + "."
    assert "no signed token" in refused(unsigned)


def test_a_public_key_is_never_taken_for_a_shared_secret() -> None:
    """The old confusion: HS256 over the public key's bytes, which everybody has."""
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    pem = RSA.public_key().public_bytes(serialization.Encoding.PEM, form)
    head = base64.urlsafe_b64encode(b'{"alg":"HS256","kid":"RS256"}').rstrip(b"=")
    body = base64.urlsafe_b64encode(json.dumps(said()).encode()).rstrip(b"=")
    mark = hmac.digest(pem, head + b"." + body, hashlib.sha256)
    forged = (head + b"." + body + b"." + base64.urlsafe_b64encode(mark).rstrip(b"=")).decode()
    assert "not signed by one of" in refused(forged)


def test_a_secret_key_in_the_published_set_is_left_out() -> None:
    secret = {"kty": "oct", "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3I", "kid": "s"}
    assert claims.signers({"keys": [secret]}, OIDC) == {}
    private = jwt.algorithms.RSAAlgorithm.to_jwk(RSA, as_dict=True) | {"kid": "RS256"}
    assert claims.signers({"keys": [private]}, OIDC) == {}


@pytest.mark.parametrize(
    "row",
    [
        jwk(use="enc"), jwk(key_ops=["sign"]), jwk(kid=None), jwk(kid=7), jwk(alg="RS512"),
        jwk(private=WEAK_RSA), jwk(n="AQAB"), jwk(kty="EC"), jwk("ES256", crv="P-384"),
        jwk("ES256", x="AA"), "text", None, {}, 7,
    ],
    ids=["use", "ops", "no_kid", "kid", "alg", "weak", "tiny", "kind", "curve", "point", "text",
         "null", "empty", "number"],
)  # fmt: skip
def test_a_published_key_that_is_of_no_use_is_left_out_and_the_others_count(row: Any) -> None:
    assert set(claims.signers({"keys": [row, jwk("ES384")]}, OIDC)) == {("ES384", "ES384")}


@pytest.mark.parametrize("published", [None, [], {}, {"keys": {}}, {"keys": [{}] * 101}])
def test_what_is_no_key_set_is_an_error(published: Any) -> None:
    with pytest.raises(ValueError, match="JWKS"):
        claims.signers(published, OIDC)


def test_a_key_is_good_for_its_own_algorithm_only() -> None:
    assert "unknown key" in refused(token("PS256", head={"kid": "RS256"}))
    only = claims.signers({"keys": [jwk(alg=None)]}, OIDC)
    assert set(only) == {("RS256", "RS256"), ("RS256", "PS256")}


@pytest.mark.parametrize("name", ["jku", "x5u", "jwk", "x5c"])
def test_a_key_that_a_token_brings_along_is_not_looked_at(name: str) -> None:
    own = jwt.algorithms.RSAAlgorithm.to_jwk(OTHER_RSA.public_key(), as_dict=True)
    brought = {"jku": "http://127.0.0.1:1/k", "x5u": "http://127.0.0.1:1/k", "jwk": own, "x5c": []}
    forged = token(key=OTHER_RSA, head={name: brought[name]})
    assert "wrong signature" in refused(forged)
    assert shown(token(head={name: brought[name]})).subject == "u-1"


def test_an_unknown_extension_is_refused_and_so_is_a_detached_body() -> None:
    for more in ({"crit": ["x"]}, {"crit": []}, {"b64": False}, {"b64": False, "crit": ["b64"]}):
        assert refused(raw({"alg": "RS256", "kid": "RS256"} | more, said()))


def test_a_changed_token_has_a_wrong_signature() -> None:
    head, _, mark = token().split(".")
    body = raw({}, said(sub="boss")).split(".")[1]
    assert "wrong signature" in refused(f"{head}.{body}.{mark}")
    assert "wrong signature" in refused(token(key=OTHER_RSA))


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"iss": "https://evil.example"}, "another issuer"), ({"iss": None}, "another issuer"),
        ({"iss": OIDC.issuer + "/"}, "another issuer"), ({"iss": [OIDC.issuer]}, "another issuer"),
        ({"aud": "other"}, "somebody else"), ({"aud": None}, "somebody else"),
        ({"aud": ["a", "b"]}, "somebody else"), ({"aud": {"ballast": 1}}, "somebody else"),
        ({"exp": None}, "no time `exp`"), ({"exp": "soon"}, "no time"), ({"exp": True}, "no time"),
        ({"exp": 1e300}, "no time"), ({"iat": None}, "no time `iat`"), ({"nbf": "x"}, "no time"),
        ({"exp": NOW_S + 90_000}, "lives longer"), ({"iat": NOW_S - 86_400}, "lives longer"),
        ({"sub": None}, "nobody"), ({"sub": "a\nb"}, "nobody"), ({"sub": "x" * 129}, "nobody"),
        ({"sub": "\u0430dmin"}, "nobody"), ({"sub": 7}, "nobody"), ({"sub": ""}, "nobody"),
        ({"realm_access": None}, "no role"), ({"realm_access": {"roles": []}}, "no role"),
        ({"realm_access": ["ops"]}, "no role"),
        ({"realm_access": {"roles": {"ops": 1}}}, "no role"),
        ({"realm_access": {"roles": "ops,boss"}}, "no role"),
    ],
)  # fmt: skip
def test_a_token_that_does_not_say_what_it_must_is_refused(
    changes: dict[str, Any], what: str
) -> None:
    assert what in refused(token(**changes))


@pytest.mark.parametrize(
    ("at_s", "changes", "what"),
    [
        (NOW_S + 329, {}, ""), (NOW_S + 330, {}, "expired"), (NOW_S + 10**6, {}, "expired"),
        (NOW_S - 40, {}, ""), (NOW_S - 41, {}, "not valid yet"),
        (NOW_S, {"nbf": NOW_S + 30}, ""), (NOW_S, {"nbf": NOW_S + 31}, "not valid yet"),
        (NOW_S, {"iat": NOW_S + 31}, "not valid yet"),
        (NOW_S, {"iat": NOW_S + 31, "nbf": NOW_S - 10}, "not valid yet"),
    ],
)  # fmt: skip
def test_clocks_may_differ_by_the_leeway_and_no_more(
    at_s: float, changes: dict[str, Any], what: str
) -> None:
    if what:
        assert what in refused(token(**changes), now_s=at_s)
    else:
        assert shown(token(**changes), now_s=at_s).subject == "u-1"


def test_a_replayed_token_is_good_neither_after_its_time_nor_after_its_key_nor_elsewhere() -> None:
    stolen = token()
    assert "expired" in refused(stolen, now_s=NOW_S + 1000)
    assert "unknown key" in refused(stolen, keys=[jwk("ES256")])
    elsewhere = OIDC.model_copy(update={"audience": "ballast-of-another-company"})
    assert "somebody else" in refused(stolen, oidc=elsewhere)


def test_all_roles_of_a_token_count_and_each_has_its_tenants() -> None:
    proven = shown(token(realm_access={"roles": ["shop", "ops"]}))
    found = [(grant.role, grant.tenants) for grant in proven.grants]
    assert found == [(Role.OPERATOR, None), (Role.ADMIN, ("s",))]


def test_a_claim_may_have_a_dotted_name_or_a_single_value() -> None:
    oidc = OIDC.model_copy(update={"role_claim": "https://x.example/role"})
    changes = {"https://x.example/role": "boss"}
    assert shown(token(**changes), oidc=oidc).grants[0].role is Role.ADMIN


@pytest.mark.parametrize(
    "text",
    [
        "a.b.c", "..", "x" * 9000 + ".x.x", raw([], []), raw("x", {}), raw({"alg": "RS256"}, {}),
        "e30.e30.e30=", "\u0435.\u0435.\u0435", "a b.c.d", raw({"alg": "RS256", "kid": 5}, {}),
    ],
)  # fmt: skip
def test_what_is_no_token_is_refused_whatever_it_is(text: str) -> None:
    assert refused(text)


@pytest.mark.parametrize("part", [0, 1])
def test_text_that_is_no_utf8_is_no_token(part: int) -> None:
    pieces = token().split(".")
    pieces[part] = base64.urlsafe_b64encode(b'{"kid":"\xff","alg":"RS256"}').rstrip(b"=").decode()
    assert refused(".".join(pieces))
    signed = jwt.PyJWS().encode(b'{"sub":"\xff"}', RSA, "RS256", {"kid": "RS256"})
    assert "holds no claims" in refused(signed)


@pytest.mark.parametrize("part", [0, 1])
def test_deep_nesting_ends_no_process(part: int) -> None:
    deep = base64.urlsafe_b64encode(b"[" * 3500).rstrip(b"=").decode()
    pieces = token().split(".")
    pieces[part] = deep
    assert refused(".".join(pieces))
    signed = jwt.PyJWS().encode(b"[" * 3500, RSA, "RS256", {"kid": "RS256"})
    assert "holds no claims" in refused(signed)
    signed = jwt.PyJWS().encode(b"[1]", RSA, "RS256", {"kid": "RS256"})
    assert "holds no claims" in refused(signed)


@pytest.mark.parametrize(
    "changes",
    [
        {"jwks_url": "http://id.example/k"}, {"jwks_url": "ftp://id.example/k"},
        {"jwks_url": "https:///k"}, {"jwks_url": ""}, {"jwks_file": "k.json"},
        {"algorithms": ["HS256"]}, {"algorithms": ["none"]}, {"algorithms": []}, {"roles": {}},
        {"roles": {"x": "king"}}, {"leeway_s": 3600}, {"issuer": ""}, {"secret": "x"},
    ],
    ids=str,
)  # fmt: skip
def test_settings_that_would_weaken_it_refuse_to_start(changes: dict[str, Any]) -> None:
    given = OIDC.model_dump(mode="json", exclude_none=True) | changes
    with pytest.raises(SettingsError, match="oidc"):
        load(None, {}, {"oidc": given})
    good = OIDC.model_dump(mode="json", exclude_none=True)
    assert load(None, {}, {"oidc": good | {"jwks_url": "http://127.0.0.1:1/k"}}).oidc is not None
