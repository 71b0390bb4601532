"""Logs a person in at the identity provider: in a browser (authorization code with PKCE, RFC 7636,
redirect to this machine, RFC 8252), or on another device with a code to type (RFC 8628).

oauthlib builds and checks the messages; here is only their way over the network. What the provider
says comes over TLS from the address that the settings name, so the token is not verified here: the
gateway verifies it on every request.
"""

from __future__ import annotations

import secrets
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple
from urllib.parse import urlencode, urlsplit

import jwt
import msgspec
from oauthlib.oauth2 import DeviceClient, OAuth2Error, WebApplicationClient

from ballast.callback import Callback
from ballast.messages import Said
from ballast.problem import ProblemError
from serving.settings import Oidc, is_safe_url
from serving.unreadable import UNREADABLE

WAIT_S = 300.0
"""A person needs a while: a password, a second factor."""
ANSWER_S = 15.0
ANSWER_BYTES_MAX = 256 << 10
INTERVAL_S_MAX = 60.0
_HTTPS = "https://127.0.0.1/"
_REMEDY = Said("login.see_oidc")


class Endpoints(NamedTuple):
    """The provider's addresses."""

    authorization: str
    token: str
    device: str


class Login(NamedTuple):
    """What a login gave."""

    token: str
    subject: str
    until_s: float
    """Seconds since 1970."""


def endpoints(oidc: Oidc) -> Endpoints:
    """From the settings, else from the issuer's discovery page. Raises ProblemError."""
    given = Endpoints(oidc.authorization_url, oidc.token_url, oidc.device_url)
    if given.token and (given.authorization or given.device):
        return given
    page = oidc.issuer.rstrip("/") + "/.well-known/openid-configuration"
    if not is_safe_url(page):
        raise ProblemError(Said("login.no_https"), Said("login.set_urls"))
    said = _asked(page, None)
    if said.get("issuer") != oidc.issuer:
        raise ProblemError(Said("login.other_issuer", page=page), _REMEDY)
    names = ("authorization_endpoint", "token_endpoint", "device_authorization_endpoint")
    found = [own or str(said.get(name, "")) for own, name in zip(given, names, strict=True)]
    if any(url and not is_safe_url(url) for url in found):
        raise ProblemError(Said("login.not_https", page=page), _REMEDY)
    return Endpoints(*found)


def in_browser(oidc: Oidc, show: Callable[[str], None], wait_s: float = WAIT_S) -> Login:
    """Let a person log in at the address that `show` gets. Raises ProblemError."""
    at = endpoints(oidc)
    if not (at.authorization and at.token):
        raise ProblemError(Said("login.no_page"), Said("login.try_device"))
    client = WebApplicationClient(oidc.client_id)
    verifier = client.create_code_verifier(64)
    challenge = client.create_code_challenge(verifier, "S256")
    state, nonce = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
    with Callback() as callback:
        # oauthlib wants https everywhere; the settings allow http on this machine as well.
        asked = client.prepare_request_uri(
            _HTTPS, callback.url, oidc.scope, state, code_challenge=challenge,
            code_challenge_method="S256", nonce=nonce,
        )  # fmt: skip
        page = at.authorization + ("&" if "?" in at.authorization else "?") + urlsplit(asked).query
        show(page)
        query = callback.wait(wait_s)
        try:
            code = client.parse_request_uri_response(f"{_HTTPS}?{query}", state)["code"]
            body = client.prepare_request_body(
                code=code, redirect_uri=callback.url, code_verifier=verifier
            )
        except OAuth2Error as error:
            raise _refused(error) from None
    return _chosen(oidc, _asked(at.token, body), nonce)


def on_device(
    oidc: Oidc, show: Callable[[str, str], None], sleep: Callable[[float], None] = time.sleep
) -> Login:
    """Let a person type a code elsewhere; `show` gets the page's address and the code. Raises
    ProblemError."""
    at = endpoints(oidc)
    if not (at.device and at.token):
        raise ProblemError(Said("login.no_codes"), Said("login.try_browser"))
    client = DeviceClient(oidc.client_id)
    asked = {"client_id": oidc.client_id, "scope": oidc.scope}
    said = _asked(at.device, urlencode(asked))
    try:
        device_code, user_code = str(said["device_code"]), str(said["user_code"])
        page = str(said.get("verification_uri_complete") or said["verification_uri"])
        interval_s, left_s = float(said.get("interval", 5)), float(said["expires_in"])
    except (KeyError, TypeError, ValueError):
        raise ProblemError(Said("login.no_device_code", device=at.device), _REMEDY) from None
    show(page, user_code)
    left_s = min(left_s, WAIT_S)
    while left_s > 0:
        sleep(interval_s)
        left_s -= max(interval_s, 0.1)
        form = client.prepare_request_body(device_code, include_client_id=True)
        told = _asked(at.token, form, may_wait=True)
        if "error" not in told:
            return _chosen(oidc, told, "")
        if told["error"] == "slow_down":
            interval_s = min(interval_s + 5, INTERVAL_S_MAX)
    raise ProblemError(Said("login.in_time"), Said("login.device_again"))


def _chosen(oidc: Oidc, told: Mapping[str, Any], nonce: str) -> Login:
    """The token that is for us: an access token or the identity token, by its audience."""
    seen = []
    for name in ("access_token", "id_token"):
        token = told.get(name)
        said = _said(token)
        if said is None:
            continue
        audiences = said.get("aud")
        audiences = [audiences] if isinstance(audiences, str) else audiences or []
        if name == "id_token" and nonce and said.get("nonce") != nonce:
            raise ProblemError(Said("login.other_login"), Said("login.again"))
        if oidc.audience in audiences:
            return Login(str(token), str(said.get("sub", "")), float(said.get("exp", 0)))
        seen.append(f"{name} for {', '.join(map(str, audiences)) or 'nobody'}")
    what = "; ".join(seen) or Said("login.no_token")
    raise ProblemError(
        Said("login.wrong_audience", what=what, audience=f"{oidc.audience!r}"),
        Said("login.put_audience"),
    )


def _said(token: Any) -> dict[str, Any] | None:
    """A token's claims, unverified; None for an opaque one."""
    if not isinstance(token, str):
        return None
    try:
        found = jwt.decode(token, options={"verify_signature": False})
    except jwt.PyJWTError:
        return None
    return dict(found)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A form with a code in it goes nowhere else."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _asked(url: str, form: str | None, *, may_wait: bool = False) -> dict[str, Any]:
    """The JSON object at an address, by GET or with a form. `may_wait`: errors that say to go on
    waiting are answers. Raises ProblemError; nothing that was sent is in it."""
    data = None if form is None else form.encode()
    request = urllib.request.Request(url, data, {"Accept": "application/json"})  # noqa: S310 - checked
    where = urlsplit(url).netloc
    try:
        with urllib.request.build_opener(_NoRedirect).open(request, timeout=ANSWER_S) as response:
            body = response.read(ANSWER_BYTES_MAX)
    except urllib.error.HTTPError as error:
        body = error.read(ANSWER_BYTES_MAX)
        told = _object(body)
        code = str(told.get("error", ""))
        if may_wait and code in ("authorization_pending", "slow_down"):
            return {"error": code}
        raise ProblemError(
            Said("login.answered", where=where, code=f"{error.code} {code[:100]}".strip()), _REMEDY
        ) from None
    except (urllib.error.URLError, OSError) as error:
        reason = getattr(error, "reason", None) or error
        raise ProblemError(Said("login.no_answer", where=where, reason=reason), _REMEDY) from None
    told = _object(body)
    if not told:
        raise ProblemError(Said("login.no_json", where=where), _REMEDY)
    return told


def _object(body: bytes) -> dict[str, Any]:
    try:
        found = msgspec.json.decode(body)
    except UNREADABLE:
        return {}
    return found if isinstance(found, dict) else {}


def _refused(error: OAuth2Error) -> ProblemError:
    said = str(error.error or "") + (f": {error.description}" if error.description else "")
    clean = "".join(c for c in said[:300] if c.isprintable())
    return ProblemError(Said("login.not_completed", clean=clean), Said("login.login_again"))
