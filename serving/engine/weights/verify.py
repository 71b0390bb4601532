"""Hashes files that are already there, as often as the settings ask for."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterable, Mapping
from concurrent.futures import Executor
from pathlib import Path
from typing import Literal, NamedTuple

from serving.engine.weights.pins import Found, Look, look_at

Mode = Literal["always", "changed", "size"]


class Verified(NamedTuple):
    """What a folder's files are, and how many bytes had to be read to know it."""

    files: dict[str, Found]
    bytes_hashed: int


async def hashes(
    folder: Path, paths: Iterable[str], before: Mapping[str, Found], mode: Mode, threads: Executor
) -> Verified:
    """The hash of each file: from `before` where `mode` allows it, else read anew.

    A file that is gone is left out.
    """
    loop = asyncio.get_running_loop()
    files: dict[str, Found] = {}
    asked: dict[str, Look] = {}
    for path in paths:
        look = look_at(folder / path)
        if look is None:
            continue
        old = before.get(path)
        if old is not None and is_settled(old.look, look, mode):
            files[path] = Found(old.sha256, look)
        else:
            asked[path] = look
    found = await asyncio.gather(
        *(loop.run_in_executor(threads, sha256_of, folder / path) for path in asked)
    )
    for (path, look), sha256 in zip(asked.items(), found, strict=True):
        files[path] = Found(sha256, look)
    return Verified(files, sum(look.size for look in asked.values()))


def is_settled(old: Look, now: Look, mode: Mode) -> bool:
    """Whether a file that looked like `old` when it was hashed need not be hashed again."""
    if mode == "size":
        return old.size == now.size
    return mode == "changed" and old == now


def sha256_of(path: Path) -> str:
    """Reads the whole file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
