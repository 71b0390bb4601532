"""Whether a folder holds a whole model: what a copy under way, or cut short, does not."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from models.worded import Worded, of
from serving.engine.weights.errors import IncompleteError, NotThereError, WeightsError
from serving.engine.weights.sources import ADAPTER_WEIGHTS, INDEX, Kind, check_listing, is_wanted
from serving.unreadable import UNREADABLE

HEADER_BYTES_MAX = 100 << 20
"""The format's own limit."""
POINTER_BYTES_MAX = 512
DEPTH_MAX = 3
_SHARD = re.compile(r"(.*-)(\d+)-of-(\d{1,5})\.safetensors")


def wanted_files(folder: Path, kind: Kind, *, with_code: bool = False) -> list[str]:
    """Paths of the folder's files that an engine may read. Raises WeightsError."""
    if not folder.is_dir():
        raise NotThereError(Worded("weights.folder", "{folder} is no folder", folder=folder))
    paths = []
    for parent, folders, names in os.walk(folder, followlinks=True):
        inside = Path(parent).relative_to(folder)
        if len(inside.parts) >= DEPTH_MAX:
            folders.clear()
        paths += [(inside / name).as_posix() for name in names]
    check_listing(paths, kind, str(folder))
    return sorted(p for p in paths if is_wanted(p, kind, with_code=with_code))


def check_whole(folder: Path, paths: Iterable[str], kind: Kind) -> None:
    """Raises IncompleteError unless all shards are there and as long as their headers say."""
    found = set(paths)
    if kind == "adapter":
        check_safetensors(folder / ADAPTER_WEIGHTS)
        return
    check_shards(folder, found)
    for path in sorted(found):
        if path.endswith(".safetensors"):
            check_safetensors(folder / path)


def check_shards(folder: Path, found: set[str]) -> None:
    """Raises IncompleteError unless every shard that the index names is among `found`."""
    wanted = {name for path in found for name in _siblings(path)}
    if INDEX in found:
        wanted |= _indexed(folder / INDEX)
    if missing := sorted(wanted - found):
        template = "{folder}: {missing} of {count} shards are missing, first {first}"
        raise IncompleteError(
            Worded("weights.shards", template, folder=folder, missing=len(missing),
                   count=len(wanted), first=missing[0])
        )  # fmt: skip


def _indexed(index_file: Path) -> set[str]:
    try:
        index = msgspec.json.decode(index_file.read_bytes(), type=dict[str, Any])
        return {str(name) for name in index["weight_map"].values()}
    except (OSError, *UNREADABLE, AttributeError, KeyError, TypeError) as error:
        template = "{file}: no index of shards: {why}"
        raise IncompleteError(
            Worded("weights.index", template, file=index_file, why=error)
        ) from None


def _siblings(path: str) -> set[str]:
    """All the shards that `x-00002-of-00004.safetensors` is one of."""
    named = _SHARD.fullmatch(path)
    if named is None:
        return set()
    stem, number, total = named.groups()
    return {f"{stem}{i:0{len(number)}d}-of-{total}.safetensors" for i in range(1, int(total) + 1)}


def check_safetensors(path: Path) -> None:
    """Raises IncompleteError unless the file is as long as its header says."""
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            length = int.from_bytes(file.read(8), "little")
            if not 2 <= length <= min(HEADER_BYTES_MAX, max(0, size - 8)):
                pointer = Worded("weights.pointer", " (a Git LFS pointer? `git lfs pull`)")
                hint = "" if size > POINTER_BYTES_MAX else pointer
                template = "{file}: no safetensors header in its {size} bytes{hint}"
                raise IncompleteError(
                    Worded("weights.header", template, file=path, size=size, hint=hint)
                )
            header = msgspec.json.decode(file.read(length), type=dict[str, Any])
        ends = [t["data_offsets"][1] for name, t in header.items() if name != "__metadata__"]
    except OSError as error:
        raise IncompleteError(f"{path}: {error.strerror}") from None
    except (*UNREADABLE, KeyError, TypeError, IndexError):
        template = "{file}: its safetensors header cannot be read"
        raise IncompleteError(Worded("weights.unreadable", template, file=path)) from None
    if size != (whole := 8 + length + max(ends, default=0)):
        template = "{file}: {size} of {whole} bytes"
        raise IncompleteError(Worded("weights.short", template, file=path, size=size, whole=whole))


def fault_of(folder: Path, kind: Kind = "model") -> str:
    """Why an engine could not load this folder, as far as names and sizes tell; "" when it could.

    Reads no weights, so that a command may ask before it starts anything.
    """
    try:
        check_whole(folder, wanted_files(folder, kind), kind)
    except WeightsError as error:
        return of(error)
    return ""
