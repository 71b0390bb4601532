"""A throwaway PostgreSQL: started on a unix socket in a folder of its own, ended for certain.

For tests and measurements. No network, no service of the machine is touched. PostgreSQL refuses to
run as root, so root runs it as `nobody`; it gets SIGINT (fast shutdown) when we die.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
from psycopg import sql

OWNER = "ballast"
"""The superuser's role."""
UNPRIVILEGED = "nobody"
START_S_MAX = 60.0
STOP_S_MAX = 20.0
QUICK = {"fsync": "off", "full_page_writes": "off"}
"""Survives the death of the server, not of the machine: enough for tests."""
_SETTINGS = {
    "listen_addresses": "",
    "max_connections": "60",
    "shared_buffers": "64MB",
    "deadlock_timeout": "50ms",
    "log_statement": "none",
}
_HBA = "local all locked scram-sha-256\nlocal all all trust\n"
"""Everybody on the socket is believed, but the role `locked` needs a password."""


class ServerMissing(Exception):  # noqa: N818 - a state
    """This machine has no PostgreSQL, or nothing to start it with; says what to install."""


def binaries() -> Path:
    """The folder of `postgres` and `initdb`: the newest of Debian's, else PATH's."""
    found = [
        path for path in Path("/usr/lib/postgresql").glob("*/bin") if (path / "initdb").exists()
    ]
    if found:
        return max(found, key=lambda path: [int(n) for n in re.findall(r"\d+", str(path))])
    if path := shutil.which("initdb"):
        return Path(path).resolve().parent
    raise ServerMissing("no PostgreSQL server here: install the package `postgresql`")


class PostgresServer:
    """Owns the folder and the process. `settings` are laid over the defaults."""

    def __init__(self, settings: Mapping[str, str] | None = None) -> None:
        self._bin = binaries()
        if shutil.which("setpriv") is None:
            raise ServerMissing("no `setpriv` here: install the package `util-linux`")
        self._settings = _SETTINGS | dict(settings or {})
        self.folder = Path(tempfile.mkdtemp(prefix="ballast-pg-"))
        self._process: subprocess.Popen[bytes] | None = None
        self._as = ["setpriv", "--pdeathsig", "INT"]
        if os.geteuid() == 0:
            self._as += ["--reuid", UNPRIVILEGED, "--regid", "nogroup", "--clear-groups"]
            shutil.chown(self.folder, UNPRIVILEGED)

    @property
    def pid(self) -> int:
        """Of the postmaster."""
        assert self._process is not None
        return self._process.pid

    def url(self, database: str, role: str = OWNER) -> str:
        """`postgresql://...` over the socket."""
        return f"postgresql://{role}@/{database}?host={quote(str(self.folder), safe='')}"

    def make(self) -> None:
        """Make the cluster and start it."""
        data = self.folder / "data"
        command = [
            *self._as, str(self._bin / "initdb"), "--pgdata", str(data), "--username", OWNER,
            "--encoding", "UTF8", "--locale", "C", "--auth", "trust",
            "--no-sync", "--no-instructions",
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, cwd="/")
        if done.returncode:
            raise RuntimeError(f"initdb failed: {done.stdout[-500:]} {done.stderr[-2000:]}")
        (data / "pg_hba.conf").write_text(_HBA, "ascii")
        self.start()

    def start(self) -> None:
        """Start and wait until it takes connections. It ends with the thread that calls this."""
        command = [*self._as, str(self._bin / "postgres"), "-D", str(self.folder / "data")]
        command += ["-k", str(self.folder)]
        for name, value in self._settings.items():
            command += ["-c", f"{name}={value}"]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, cwd="/")
        until_s = time.monotonic() + START_S_MAX
        while True:
            with contextlib.suppress(psycopg.OperationalError):
                return psycopg.connect(self.url("postgres")).close()
            if self._process.poll() is not None or time.monotonic() > until_s:
                tail = (self.folder / "log").read_text("utf-8", "replace")[-2000:]
                raise RuntimeError(f"PostgreSQL did not start: {tail}")
            time.sleep(0.02)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """End it: SIGINT is the fast shutdown, SIGQUIT as if it had crashed."""
        process, self._process = self._process, None
        if process is None:
            return
        for number in (how, signal.SIGQUIT, signal.SIGKILL):
            process.send_signal(number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(STOP_S_MAX)
                return

    def close(self) -> None:
        """Stop it and remove its folder."""
        self.stop(signal.SIGQUIT)
        shutil.rmtree(self.folder, ignore_errors=True)

    def run(self, statement: str, database: str = "postgres") -> list[tuple[Any, ...]]:
        """Run one statement as the owner, outside a transaction; its rows, if any."""
        with psycopg.connect(self.url(database), autocommit=True) as db:
            cursor = db.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def create(self, database: str, options: str = "") -> str:
        """Make an empty database; its URL."""
        made = sql.SQL("CREATE DATABASE {} {}").format(sql.Identifier(database), sql.SQL(options))
        with psycopg.connect(self.url("postgres"), autocommit=True) as db:
            db.execute(made)
        return self.url(database)

    def wipe(self, database: str) -> None:
        """Empty a database, whoever is still connected to it: much faster than making one."""
        self.run(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()",
            database,
        )
        self.run("DROP SCHEMA public CASCADE", database)
        self.run("CREATE SCHEMA public", database)
