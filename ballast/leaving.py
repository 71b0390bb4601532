"""Everything a deployment holds, written so that another system can read it: the exit plan.

Each table of each database becomes JSON lines, each other file of the state folder is copied; what
is left out (secrets, logs, what the databases hold already) is named with its reason. A manifest
counts and hashes all of it and is signed, so that completeness is checked and not believed.
"""

from __future__ import annotations

import hashlib
import shutil
import sqlite3
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import msgspec
import psycopg

from ballast import audit_files
from ballast.left_behind import named_secrets, reason
from ballast.messages import Said
from ballast.problem import ProblemError
from serving.audit.auditor import signer
from serving.ledger.address import address
from serving.settings import Settings

MANIFEST, SEAL = "manifest.json", "manifest.sig.json"
PAGE = 2_000


class Table(msgspec.Struct, frozen=True):
    """One table as written."""

    database: str
    table: str
    columns: tuple[str, ...]
    rows: int
    file: str
    sha256: str


class Manifest(msgspec.Struct, frozen=True):
    """What was written, and what was not."""

    form: str
    at: str
    deployment_id: str
    tables: tuple[Table, ...]
    files: dict[str, str]
    """SHA-256 by name, below `files/`."""
    left_out: dict[str, str]
    """Why, by name: `secret`, `logs`, `in_tables`, `passing`, `link`."""


FORM = "ballast-export-1"


def export(settings: Settings, folder: Path, now_s: float) -> Manifest:
    """Write all of it into an empty folder. Raises ProblemError."""
    if folder.exists() and any(folder.iterdir()):
        raise ProblemError(Said("leaving.not_empty", folder=folder), Said("leaving.other_folder"))
    state = settings.state_dir.expanduser()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        (folder / "tables").mkdir(exist_ok=True)
        tables = [table for base in _bases(settings, state) for table in base_tables(base, folder)]
        files, left_out = _copied(state, folder, named_secrets(settings.model_dump()))
        made = Manifest(
            FORM, datetime.fromtimestamp(now_s, UTC).isoformat(timespec="seconds"),
            settings.deployment_id or "", tuple(tables), files, left_out,
        )  # fmt: skip
        path = folder / MANIFEST
        path.write_bytes(msgspec.json.format(msgspec.json.encode(made, order="deterministic")))
        audit_files.write_seal(signer(settings), [path], folder / SEAL)
    except OSError as error:
        what = Said("leaving.cannot", folder=folder, why=error.strerror or str(error))
        raise ProblemError(what, Said("leaving.other_folder")) from None
    except (sqlite3.Error, psycopg.Error) as error:
        what = Said("leaving.database", why=str(error).strip())
        raise ProblemError(what, Said("leaving.doctor")) from None
    return made


class Base:
    """One database, in one reading transaction."""

    def __init__(self, name: str, cursor: Any, catalogue: str) -> None:
        self.name = name
        self._cursor = cursor
        self._catalogue = catalogue

    def tables(self) -> list[str]:
        """Names of its tables."""
        self._cursor.execute(self._catalogue)
        return sorted(str(row[0]) for row in self._cursor.fetchall())

    def rows(self, table: str) -> tuple[tuple[str, ...], Iterator[Sequence[Any]]]:
        """Columns, and all rows as they come."""
        quoted = table.replace('"', '""')
        self._cursor.execute(f'SELECT * FROM "{quoted}"')  # noqa: S608 - its own catalogue's name
        columns = tuple(str(one[0]) for one in self._cursor.description)
        return columns, self._pages()

    def _pages(self) -> Iterator[Sequence[Any]]:
        while page := self._cursor.fetchmany(PAGE):
            yield from page


@contextmanager
def _sqlite(path: Path) -> Iterator[Base]:
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
        connection.execute("BEGIN")
        catalogue = (
            "SELECT name FROM sqlite_master"
            " WHERE type = 'table' AND substr(name, 1, 7) <> 'sqlite_'"
        )
        yield Base(path.stem, connection.cursor(), catalogue)


@contextmanager
def postgres(settings: Settings) -> Iterator[Base]:
    """The ledger's server."""
    found = address(settings.ledger, is_read_only=True)
    catalogue = (
        "SELECT table_name FROM information_schema.tables"
        " WHERE table_schema = current_schema() AND table_type = 'BASE TABLE'"
    )
    with closing(found.connect()) as connection, connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        # Named, so that the server keeps the rows: a whole ledger would not fit in here.
        with connection.cursor(name="ballast_export") as cursor:
            yield Base("postgresql", cursor, catalogue)


def _bases(settings: Settings, state: Path) -> Iterator[Base]:
    if settings.ledger.url:
        with postgres(settings) as base:
            yield base
    for path in sorted(state.resolve().glob("*.sqlite")):
        with _sqlite(path) as base:
            yield base


def base_tables(base: Base, folder: Path) -> Iterator[Table]:
    """Write each table of a database."""
    for name in base.tables():
        file = f"tables/{base.name}.{name}.jsonl"
        columns, rows = base.rows(name)
        with (folder / file).open("wb") as stream:
            count, digest = _written(stream, columns, rows)
        yield Table(base.name, name, columns, count, file, digest)


def _written(
    stream: IO[bytes], columns: Sequence[str], rows: Iterator[Sequence[Any]]
) -> tuple[int, str]:
    count, hashed = 0, hashlib.sha256()
    for row in rows:
        line = msgspec.json.encode(dict(zip(columns, map(_plain, row), strict=True))) + b"\n"
        stream.write(line)
        hashed.update(line)
        count += 1
    return count, hashed.hexdigest()


def _plain(value: Any) -> Any:
    """Bytes as hexadecimal digits under a name that says so."""
    if isinstance(value, bytes | memoryview):
        return {"hex": bytes(value).hex()}
    return value


def _copied(
    state: Path, folder: Path, secrets: Collection[Path]
) -> tuple[dict[str, str], dict[str, str]]:
    files: dict[str, str] = {}
    left_out: dict[str, str] = {}
    own = folder.resolve()
    for path in sorted(state.rglob("*")):
        name = path.relative_to(state).as_posix()
        if path.is_symlink():
            left_out[name] = "link"
            continue
        if not path.is_file() or own in path.resolve().parents:
            continue
        if why := "secret" if path.resolve() in secrets else reason(name):
            left_out[name] = why
            continue
        place = folder / "files" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, place)
        files[name] = digest(place)
    return files, left_out


def digest(path: Path) -> str:
    """SHA-256. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
