"""Where PostgreSQL is and how to reach it: settings turned into what libpq takes.

The password is never part of an address or of a message: it is read anew for each connection, from
its file or variable, so that a changed one is found without a restart.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
from psycopg import conninfo

from models.worded import Worded
from serving.settings import Ledger, SettingsError, is_loopback
from serving.settings_words import cannot_read

KEEPALIVE = {
    "keepalives_idle": 5, "keepalives_interval": 2, "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}  # fmt: skip
"""A server whose machine vanished is noticed within ten seconds or so."""


class Address(NamedTuple):
    """A database, and who asks."""

    name: str
    """`host:port/database`, for messages."""
    parts: Mapping[str, Any]
    """For `psycopg.connect`, but for the password."""
    password: Callable[[], str | None]
    """Raises OSError; None leaves it to libpq (its own file and variables)."""

    def connect(self) -> psycopg.Connection[Any]:
        """A new connection in autocommit mode. Raises psycopg.Error or OSError."""
        return psycopg.connect(
            **self.parts,
            password=self.password(),
            autocommit=True,
            prepare_threshold=None,  # poolers between us and the server may know no prepared ones
        )


def address(
    settings: Ledger, *, is_read_only: bool = False, environ: Mapping[str, str] | None = None
) -> Address:
    """The address of `ledger.url`. Raises SettingsError naming the setting."""
    env = os.environ if environ is None else environ
    try:
        parts: dict[str, Any] = dict(conninfo.conninfo_to_dict(settings.url))
    except psycopg.Error:  # its words may repeat what was given
        raise SettingsError(
            Worded("ledger.not_postgres", "ledger.url: not a PostgreSQL address")
        ) from None
    host = str(parts.get("host") or parts.get("hostaddr") or "")
    if not is_at_home(host):
        parts.setdefault("sslmode", settings.sslmode)
        if settings.sslrootcert is not None:
            parts.setdefault("sslrootcert", str(settings.sslrootcert))
    defaults = {
        "application_name": "ballast",
        "connect_timeout": round(settings.connect_s),
        "client_encoding": "UTF8",
        # After a failover the old primary may still answer; a report may come from a standby.
        "target_session_attrs": "any" if is_read_only else "read-write",
    } | KEEPALIVE
    where = f"{host or 'local socket'}:{parts.get('port', 5432)}/{parts.get('dbname', '')}"
    return Address(where, defaults | parts, _password(settings, env))


def is_at_home(hosts: str) -> bool:
    """Whether every host is this machine: a socket's folder, loopback, or none named."""
    return all(not host or host[0] in "/@" or is_loopback(host) for host in hosts.split(","))


def _password(settings: Ledger, environ: Mapping[str, str]) -> Callable[[], str | None]:
    file, name = settings.password_file, settings.password_env
    if file is not None:
        _read_first(file)
        return lambda: file.read_text("utf-8").rstrip("\r\n")
    if name is not None:
        password = environ.get(name, "")
        if not password:
            template, key = "{key}: {name} is not set", "ledger.password_env"
            raise SettingsError(Worded("settings.env_not_set", template, key=key, name=name))
        return lambda: password
    return lambda: None


def _read_first(file: Path) -> None:
    """A file that is missing at the start is a wrong setting; later it is being replaced."""
    try:
        file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", "not UTF-8")
        said = cannot_read("ledger.password_file", file, why)
        raise SettingsError(said) from None
