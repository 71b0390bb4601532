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
from ballast.messages import Said
from ballast.problem import ProblemError
from serving.settings import Settings
from serving.unreadable import UNREADABLE

WAIT_S = 30.0
"""A change waits for the store, and for others' changes."""
KEY_BYTES_MAX = 16 << 10
_REMEDIES = {
    code: Said(f"web.remedy.{code}")
    for code in ("conflict", "not_found", "role_required", "directory_away", "identity_away")
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
            message = Said("web.no_json", url=self._url)
            raise ProblemError(message, Said("web.other_program")) from None

    def _problem(self, status: int, answer: bytes) -> ProblemError:
        code, what = web.code_of(answer), web.error_text(answer)
        if not code:
            found = Said("web.answered", url=self._url, status=status, text=what)
            return ProblemError(found, Said("web.older"))
        if status == 401:
            remedy = Said("web.key_from", file=self._file)
            if self._file.name == ADMIN_TOKEN:
                remedy = Said("web.login_again")
            return ProblemError(what, remedy)
        return ProblemError(what, _REMEDIES.get(code, Said("web.mend")))


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
        failed = Said("web.cannot_write", file=path, reason=error.strerror)
        raise ProblemError(failed, Said("web.make_room")) from None


def _key(path: Path) -> str:
    try:
        with path.open("rb") as file:
            text = file.read(KEY_BYTES_MAX).decode("ascii").split()
    except OSError as error:
        found = Said("web.no_admin_key", file=path, reason=error.strerror)
        raise ProblemError(found, Said("web.run_up_once")) from None
    except UnicodeDecodeError:
        text = []
    if len(text) != 1:
        raise ProblemError(Said("web.holds_no_key", file=path), Said("web.one_word"))
    return text[0]
