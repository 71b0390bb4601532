"""Logging in at an identity provider: PKCE, state and nonce hold, and the right token is kept."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
import urllib.request
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.error import HTTPError
from urllib.parse import parse_qsl, urlencode, urlsplit

import jwt
import pytest
from pydantic import ValidationError

from ballast import login
from ballast.problem import ProblemError
from serving.settings import Oidc

AUDIENCE, CLIENT = "ballast", "ballast-cli"


class Provider:
    """An identity provider with one person; checks what RFC 7636 and 8628 ask of one."""

    def __init__(self) -> None:
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.codes: dict[str, dict[str, str]] = {}
        self.tokens: dict[str, Any] = {"access_token": self.token(), "token_type": "Bearer"}
        self.polls: list[str] = []
        self.forms: list[dict[str, str]] = []
        self.changes: dict[str, str] = {}
        """Laid over what goes back to the client."""
        self.issuer = self.url

    def token(self, **changes: Any) -> str:
        said = {"iss": "x", "sub": "ann", "aud": [AUDIENCE], "exp": 2_000_000_000} | changes
        return jwt.encode(said, "k" * 32, "HS256")

    def answer(self, path: str, given: dict[str, str]) -> tuple[int, Any, str]:
        if path == "/.well-known/openid-configuration":
            names = ("authorization", "token", "device_authorization")
            found = {f"{name}_endpoint": f"{self.url}/{name}" for name in names}
            return 200, found | {"issuer": self.issuer}, ""
        if path == "/authorization":
            self.codes["code-1"] = given
            back = {"code": "code-1", "state": given["state"]} | self.changes
            return 302, {}, f"{given['redirect_uri']}?{urlencode(back)}"
        if path == "/device_authorization":
            assert given["client_id"] == CLIENT
            return 200, {"device_code": "dev", "user_code": "AB-CD", "expires_in": 60,
                         "verification_uri": f"{self.url}/type", "interval": 1}, ""  # fmt: skip
        self.forms.append(given)
        return self.exchange(given)

    def exchange(self, given: dict[str, str]) -> tuple[int, Any, str]:
        if given["grant_type"] == "authorization_code":
            asked = self.codes.pop(given["code"], None)
            digest = hashlib.sha256(given["code_verifier"].encode()).digest()
            mark = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
            is_good = asked is not None and (
                asked["code_challenge"] == mark
                and asked["code_challenge_method"] == "S256"
                and asked["redirect_uri"] == given["redirect_uri"]
                and asked["client_id"] == given["client_id"] == CLIENT
            )
            if not is_good:
                return 400, {"error": "invalid_grant"}, ""
            if "id_token" in self.tokens and "nonce" not in self.changes:
                said = jwt.decode(self.tokens["id_token"], options={"verify_signature": False})
                nonced = self.token(**said | {"nonce": asked["nonce"]})
                return 200, self.tokens | {"id_token": nonced}, ""
            return 200, self.tokens, ""
        assert given["device_code"] == "dev"
        if self.polls:
            return 400, {"error": self.polls.pop(0)}, ""
        return 200, self.tokens, ""


def _handler(provider: Provider) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            self.send(*provider.answer(parts.path, dict(parse_qsl(parts.query))))

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"])).decode()
            self.send(*provider.answer(self.path, dict(parse_qsl(body))))

        def send(self, status: int, body: Any, where: str) -> None:
            data = json.dumps(body).encode()
            self.send_response(status)
            if where:
                self.send_header("Location", where)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            pass

    return Handler


@pytest.fixture
def provider() -> Iterator[Provider]:
    made = Provider()
    thread = threading.Thread(target=made.server.serve_forever, args=(0.01,))
    thread.start()
    yield made
    made.server.shutdown()
    made.server.server_close()
    thread.join()


def oidc(provider: Provider, **changes: Any) -> Oidc:
    given = {"issuer": provider.url, "audience": AUDIENCE, "jwks_url": f"{provider.url}/keys",
             "client_id": CLIENT, "roles": {"boss": "admin"}}  # fmt: skip
    return Oidc.model_validate(given | changes)


def visit(url: str) -> None:
    """As a browser would, in a thread of its own: the terminal waits meanwhile."""

    def go() -> None:
        try:
            urllib.request.urlopen(url, timeout=10).close()
        except HTTPError as error:
            error.close()

    threading.Thread(target=go).start()


def entered(provider: Provider, show: Callable[[str], None] = visit) -> login.Login:
    return login.in_browser(oidc(provider), show, wait_s=10)


def test_a_person_logs_in_with_a_code_that_only_this_command_can_use(provider: Provider) -> None:
    done = entered(provider)
    assert (done.token, done.subject) == (provider.tokens["access_token"], "ann")
    assert done.until_s == 2_000_000_000
    (form,) = provider.forms
    assert len(form["code_verifier"]) >= 43
    assert "client_secret" not in form


def test_the_identity_token_is_taken_where_it_is_the_one_for_us(provider: Provider) -> None:
    provider.tokens = {"access_token": "opaque", "token_type": "Bearer",
                       "id_token": provider.token(sub="ann")}  # fmt: skip
    done = entered(provider)
    assert jwt.decode(done.token, options={"verify_signature": False})["aud"] == [AUDIENCE]


def test_an_identity_token_of_another_login_is_refused(provider: Provider) -> None:
    provider.tokens = {"id_token": provider.token(nonce="another"), "token_type": "Bearer"}
    provider.changes = {"nonce": "kept"}
    with pytest.raises(ProblemError, match="another login"):
        entered(provider)


def test_a_token_for_somebody_else_is_refused_and_its_audience_named(provider: Provider) -> None:
    provider.tokens = {"access_token": provider.token(aud="shop"), "token_type": "Bearer"}
    with pytest.raises(ProblemError, match="access_token for shop, none for 'ballast'"):
        entered(provider)


def test_a_visit_with_another_state_is_refused_and_its_code_not_used(provider: Provider) -> None:
    provider.changes = {"state": "forged"}
    with pytest.raises(ProblemError, match="mismatching_state"):
        entered(provider)
    assert provider.forms == []


def test_a_refusal_of_the_provider_is_told_without_what_was_sent(provider: Provider) -> None:
    def show(url: str) -> None:
        state = dict(parse_qsl(urlsplit(url).query))["state"]
        back = dict(parse_qsl(urlsplit(url).query))["redirect_uri"]
        said = {"error": "access_denied", "error_description": "no\x1b[31m", "state": state}
        visit(f"{back}?{urlencode(said)}")

    with pytest.raises(ProblemError, match="access_denied") as problem:
        entered(provider, show)
    assert "\x1b" not in problem.value.what


def test_a_stolen_code_is_of_no_use_and_the_error_holds_no_secret(provider: Provider) -> None:
    provider.changes = {"code": "stolen"}
    with pytest.raises(ProblemError, match="invalid_grant") as problem:
        entered(provider)
    assert provider.forms[0]["code_verifier"] not in problem.value.what


def test_nobody_coming_back_ends_the_wait(provider: Provider) -> None:
    with pytest.raises(ProblemError, match="nobody logged in"):
        login.in_browser(oidc(provider), lambda _: None, wait_s=0.05)


def test_a_stray_visit_does_not_end_the_login(provider: Provider) -> None:
    def show(url: str) -> None:
        back = dict(parse_qsl(urlsplit(url).query))["redirect_uri"]
        for stray in (back, back.replace("callback", "favicon.ico")):
            with pytest.raises(HTTPError) as answer:
                urllib.request.urlopen(stray, timeout=10)
            answer.value.close()
        visit(url)

    assert entered(provider, show).subject == "ann"


def test_a_code_typed_elsewhere_logs_in_after_the_waits_it_was_told(provider: Provider) -> None:
    provider.polls = ["authorization_pending", "slow_down", "authorization_pending"]
    shown: list[tuple[str, str]] = []
    slept: list[float] = []
    done = login.on_device(oidc(provider), lambda *s: shown.append(s), slept.append)
    assert done.subject == "ann"
    assert shown == [(f"{provider.url}/type", "AB-CD")]
    assert slept == [1, 1, 6, 6]


def test_a_code_that_nobody_types_ends(provider: Provider) -> None:
    provider.polls = ["authorization_pending"] * 100
    with pytest.raises(ProblemError, match="nobody typed"):
        login.on_device(oidc(provider), lambda *_: None, lambda _: None)


def test_a_denied_code_ends_at_once(provider: Provider) -> None:
    provider.polls = ["access_denied"]
    with pytest.raises(ProblemError, match="access_denied"):
        login.on_device(oidc(provider), lambda *_: None, lambda _: None)


def test_a_discovery_page_that_speaks_for_another_is_refused(provider: Provider) -> None:
    provider.issuer = "https://elsewhere.example"
    with pytest.raises(ProblemError, match="another issuer"):
        entered(provider)


def test_addresses_that_can_be_read_on_the_way_are_refused(provider: Provider) -> None:
    with pytest.raises(ValidationError, match="token_url: https"):
        oidc(provider, token_url="http://id.example/token")
    with pytest.raises(ProblemError, match="no https address"):
        login.endpoints(oidc(provider, issuer="http://id.example"))
