"""Whether an export is what was written: counted, hashed, signed by the key that is expected."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import msgspec

from ballast import audit_files
from ballast.leaving import MANIFEST, SEAL, Manifest, Table, digest
from ballast.messages import Said
from ballast.problem import ProblemError


def read(folder: Path) -> Manifest:
    """What an export says of itself. Raises ProblemError."""
    try:
        return msgspec.json.decode((folder / MANIFEST).read_bytes(), type=Manifest)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        raise ProblemError(Said("leaving.none", folder=folder), Said("leaving.export")) from None


def check(folder: Path, public: bytes | None) -> list[str]:
    """What is not in the folder as the manifest says, or the manifest not as the key signed it;
    empty is complete. Without a key only counts and hashes are looked at. Raises ProblemError."""
    manifest = read(folder)
    faults = [] if public is None else _unsigned(folder, public)
    named = {MANIFEST, SEAL}
    for table in manifest.tables:
        named.add(table.file)
        faults += _of_table(folder, table)
    for name, wanted in manifest.files.items():
        file = f"files/{name}"
        named.add(file)
        path = folder / file
        if not _is_inside(file):
            faults.append(Said("problem.leads_out", file=file))
        elif not path.is_file() or path.is_symlink() or digest(path) != wanted:
            faults.append(Said("problem.changed", file=file))
    faults += [
        Said("problem.not_in_manifest", name=name) for name in _there(folder) if name not in named
    ]
    return faults


def _unsigned(folder: Path, public: bytes) -> list[str]:
    try:
        return audit_files.check(folder / MANIFEST, public)
    except OSError:
        return [Said("problem.not_there", file=SEAL)]


def _of_table(folder: Path, table: Table) -> list[str]:
    path = folder / table.file
    if not _is_inside(table.file):
        return [Said("problem.leads_out", file=table.file)]
    if not path.is_file() or path.is_symlink():
        return [Said("problem.not_there", file=table.file)]
    with path.open("rb") as stream:
        rows = sum(1 for _ in stream)
    if rows != table.rows:
        return [Said("problem.rows_of", file=table.file, rows=rows, wanted=table.rows)]
    is_same = digest(path) == table.sha256
    return [] if is_same else [Said("problem.altered", file=table.file)]


def _is_inside(name: str) -> bool:
    """A manifest may come from anywhere: nothing it names is read outside its folder. Pure."""
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts


def _there(folder: Path) -> Iterator[str]:
    for path in sorted(folder.rglob("*")):
        if path.is_file() or path.is_symlink():
            yield path.relative_to(folder).as_posix()
