"""Reads tokens and keys from the environment or from files, at the moment they are needed."""

from __future__ import annotations

import configparser
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from serving.engine.weights.errors import SourceError

PROFILE = "default"


class Keys(NamedTuple):
    """An object store's access key; `repr` does not show it."""

    id: str
    secret: str
    session: str = ""

    def __repr__(self) -> str:
        return "Keys(...)"


def token(file: str, variable: str, environ: Mapping[str, str]) -> str:
    """A hub's token, "" when there is none. Raises SourceError for a file that cannot be read."""
    if not file:
        return environ.get(variable, "").strip()
    return _read(file, "token file").strip()


def keys(file: str, environ: Mapping[str, str]) -> Keys | None:
    """An access key, None for anonymous reads. Raises SourceError."""
    if not file:
        identity = environ.get("AWS_ACCESS_KEY_ID", "").strip()
        secret = environ.get("AWS_SECRET_ACCESS_KEY", "").strip()
        if not identity and not secret:
            return None
        if not identity or not secret:
            raise SourceError("AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY go together")
        return Keys(identity, secret, environ.get("AWS_SESSION_TOKEN", "").strip())
    parser = configparser.RawConfigParser()
    try:
        parser.read_string(_read(file, "credentials file"))
        section = parser[PROFILE]
        return Keys(
            section["aws_access_key_id"].strip(),
            section["aws_secret_access_key"].strip(),
            section.get("aws_session_token", "").strip(),
        )
    except (configparser.Error, KeyError):
        # The parser's own message quotes the line, which may hold the secret.
        raise SourceError(
            f"{file}: needs [{PROFILE}] with aws_access_key_id and aws_secret_access_key"
        ) from None


def _read(file: str, what: str) -> str:
    try:
        return Path(file).expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not text"
        raise SourceError(f"{what} {file}: {reason}") from None
