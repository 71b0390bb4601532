"""PostgreSQL's schema: made and brought up to date in steps, by whoever comes first.

Each step is one transaction under an advisory lock, so gateways that start together do it once, and
no step holds the locks of the one before: an index on a table that is full stands alone. A step
that only adds leaves `oldest` as it was: gateways of the version before go on while they are
replaced one by one. `python -m serving.ledger.migrate --config FILE` does it alone, for an owner
whose gateways may not change tables.
"""

from __future__ import annotations

import argparse
import sys
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import psycopg

from models.worded import Worded
from serving.ledger.address import address
from serving.ledger.base import LedgerNewer, LedgerUnavailable
from serving.settings import EXIT_CODE, SettingsError, load

LOCK = 0x62616C6C617374
"""Names our advisory lock in the database; any constant that nobody else uses."""


class Step(NamedTuple):
    """One file of postgres_schema/."""

    version: int
    oldest: int
    """The oldest version that may go on writing after it."""

    @property
    def statements(self) -> bytes:
        """The file."""
        file = resources.files("serving.ledger").joinpath(
            "postgres_schema", f"{self.version:04}.sql"
        )
        return file.read_bytes()


STEPS = (
    Step(1, 1), Step(2, 1), Step(3, 1), Step(4, 1), Step(5, 1), Step(6, 1), Step(7, 1), Step(8, 1),
    Step(9, 1), Step(10, 1), Step(11, 1), Step(12, 1), Step(13, 1),
)  # fmt: skip
VERSION = STEPS[-1].version
_NOT_ALLOWED = (psycopg.errors.InsufficientPrivilege, psycopg.errors.InvalidSchemaName)
"""No schema that the role may use reads as no schema at all."""
_VERSIONS = b"""
    CREATE TABLE IF NOT EXISTS schema_versions (
        version BIGINT PRIMARY KEY,
        oldest BIGINT NOT NULL,
        at TIMESTAMPTZ NOT NULL DEFAULT now()
    )"""


def ready(connection: psycopg.Connection[Any]) -> int:
    """The schema's version. Raises LedgerUnavailable unless this Ballast can read and write it;
    LedgerNewer, which is one, when a newer one changed it beyond that."""
    encoding = connection.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        raise LedgerUnavailable(
            Worded(
                "ledger.encoding",
                "the database's encoding is {encoding}: make one in UTF8",
                encoding=encoding,
            )
        )
    version, oldest = _found(connection)
    if oldest > VERSION:
        raise LedgerNewer(
            Worded(
                "ledger.newer",
                "the ledger has schema version {version}, this Ballast knows "
                "{version_2}: start the newer one again",
                version=version,
                version_2=VERSION,
            )
        )
    if version < VERSION:
        raise LedgerUnavailable(
            Worded(
                "ledger.older",
                "the ledger has schema version {version}, this Ballast needs "
                "{version_2}: its gateway brings it up to date when it starts",
                version=version,
                version_2=VERSION,
            )
        )
    return version


def migrate(connection: psycopg.Connection[Any], lock_s: float) -> None:
    """Bring the schema up to date, waiting `lock_s` at most for others who do. Raises as `ready`,
    and psycopg.Error."""
    while _found(connection)[0] < VERSION:
        try:
            with connection.transaction():
                limit = f"{round(lock_s * 1000)}ms"
                connection.execute("SELECT set_config('lock_timeout', %s, true)", [limit])
                connection.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK])
                connection.execute(_VERSIONS)
                _climb(connection, _latest(connection)[0])
        except _NOT_ALLOWED as error:
            raise LedgerUnavailable(
                Worded(
                    "ledger.owner",
                    "role {user} may not make the ledger's tables: let their owner run "
                    "`python -m serving.ledger.migrate --config FILE`",
                    user=connection.info.user,
                )
            ) from error
    ready(connection)


def _climb(connection: psycopg.Connection[Any], version: int) -> None:
    """Take the next step; none if another gateway was faster."""
    step = next((one for one in STEPS if one.version > version), None)
    if step is not None:
        connection.execute(step.statements)
        connection.execute(
            "INSERT INTO schema_versions (version, oldest) VALUES (%s, %s)",
            [step.version, step.oldest],
        )


def _found(connection: psycopg.Connection[Any]) -> tuple[int, int]:
    """Version, and the oldest that may write; zeros when there is no schema."""
    table = connection.execute("SELECT to_regclass('schema_versions')").fetchone()
    return _latest(connection) if table and table[0] else (0, 0)


def _latest(connection: psycopg.Connection[Any]) -> tuple[int, int]:
    query = "SELECT version, oldest FROM schema_versions ORDER BY version DESC LIMIT 1"
    row = connection.execute(query).fetchone()
    return (int(row[0]), int(row[1])) if row else (0, 0)


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="serving.ledger.migrate", description=__doc__)
    parser.add_argument("--config", type=Path, help="settings file; `ledger.url` names the owner")
    try:
        settings = load(parser.parse_args().config).ledger
        if not settings.url:
            raise SettingsError(
                Worded("ledger.url_postgres", "ledger.url: name the PostgreSQL database")
            )
        with address(settings).connect() as connection:
            before = _found(connection)[0]
            migrate(connection, settings.lock_s)
    except SettingsError as error:
        print(error, file=sys.stderr)  # noqa: T201 - to the person who started us
        return EXIT_CODE
    except (LedgerUnavailable, psycopg.Error, OSError) as error:
        print(f"not migrated: {error}", file=sys.stderr)  # noqa: T201
        return 1
    print(f"schema version {before} -> {VERSION}")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
