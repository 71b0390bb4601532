"""Asks the admin API of the running stack, with the owner's key or another; problems in words."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import msgspec

from ballast import running, web
from ballast.identity import ADMIN_KEY, ADMIN_TOKEN
from ballast.problem import ProblemError
from serving.settings import Settings
from serving.unreadable import UNREADABLE

WAIT_S = 30.0
"""A change waits for the store, and for others' changes."""
KEY_BYTES_MAX = 16 << 10
_REMEDIES = {
    "conflict": "`ballast tenants list` and `ballast keys list` show what is there",
    "not_found": "`ballast tenants list` and `ballast keys list` show what is there",
    "role_required": "ask an administrator who may, or name another key with --key-file",
    "directory_away": "see the gateway's log; `ballast history` tells whether it was stored",
    "identity_away": "see `oidc` in the settings, or name a key with --key-file",
}


class Client:
    """One stack's admin API, as one administrator."""

    def __init__(self, settings: Settings, key_file: Path | None) -> None:
        self.settings = settings
        own = settings.gateway
        self._url = f"http://{own.ops_host}:{own.ops_port}/admin/v1"
        self._file = key_file or own_file(settings.state_dir.expanduser())

    def get(self, path: str, **query: Any) -> Any:
        """What is at a path. Raises ProblemError."""
        return self._ask("GET", path, None, query)

    def post(self, path: str, body: Mapping[str, Any], **query: Any) -> Any:
        """Make something. Raises ProblemError."""
        return self._ask("POST", path, body, query)

    def patch(self, path: str, body: Mapping[str, Any], **query: Any) -> Any:
        """Change something. Raises ProblemError."""
        return self._ask("PATCH", path, body, query)

    def put(self, path: str, body: Mapping[str, Any], **query: Any) -> Any:
        """Set something. Raises ProblemError."""
        return self._ask("PUT", path, body, query)

    def delete(self, path: str, **query: Any) -> Any:
        """Take something away. Raises ProblemError."""
        return self._ask("DELETE", path, None, query)

    def _ask(
        self, method: str, path: str, body: Mapping[str, Any] | None, query: Mapping[str, Any]
    ) -> Any:
        head = {"Authorization": f"Bearer {_key(self._file)}", "Content-Type": "application/json"}
        said = urlencode({name: value for name, value in query.items() if value not in ("", None)})
        url = self._url + path + (f"?{said}" if said else "")
        data = None if body is None else msgspec.json.encode(body)
        with web.answer(method, url, head, data, WAIT_S) as response:
            answer, status = response.read(), response.status
        if status >= 400:
            raise self._problem(status, answer)
        try:
            return msgspec.json.decode(answer)
        except UNREADABLE:
            message = f"{self._url} did not answer JSON"
            raise ProblemError(message, "is another program on that port?") from None

    def _problem(self, status: int, answer: bytes) -> ProblemError:
        try:
            code = str(msgspec.json.decode(answer)["error"]["code"])
        except (*UNREADABLE, KeyError, TypeError):
            code = ""
        what = web.error_text(answer)
        if not code:
            found = f"{self._url} answered {status}: {what}"
            return ProblemError(found, "is another program on that port, or an older Ballast?")
        if status == 401:
            remedy = f"the key is from {self._file}; --key-file names another"
            if self._file.name == ADMIN_TOKEN:
                remedy = "`ballast login` again, or `ballast logout` to use the owner's key"
            return ProblemError(what, remedy)
        return ProblemError(what, _REMEDIES.get(code, "mend what it names"))


def own_file(state: Path) -> Path:
    """Where the key to use lies: the login's token if there is one, else the owner's key."""
    token = state / ADMIN_TOKEN
    return token if token.exists() else state / ADMIN_KEY


def desk(config: Path | None, key_file: Path | None) -> Client:
    """The running stack's. Raises SettingsError."""
    return Client(running.settings_of(config), key_file)


def path_of(id_: str, *more: str) -> str:
    """A path below a row, whatever its id holds."""
    return "/".join([quote(id_, safe=""), *more])


def keep(path: Path, secret: str) -> None:
    """Write a secret for its owner only. Raises ProblemError."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(secret)
    except OSError as error:
        raise ProblemError(f"cannot write {path}: {error.strerror}", "make room there") from None


def _key(path: Path) -> str:
    try:
        with path.open("rb") as file:
            text = file.read(KEY_BYTES_MAX).decode("ascii").split()
    except OSError as error:
        remedy = "run `ballast up` once: it makes the owner's key; or name one with --key-file"
        raise ProblemError(f"no administrator's key: {path}: {error.strerror}", remedy) from None
    except UnicodeDecodeError:
        text = []
    if len(text) != 1:
        raise ProblemError(f"{path} holds no key", "it is one word, on one line")
    return text[0]
