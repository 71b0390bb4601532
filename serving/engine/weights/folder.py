"""Weights in a folder that somebody else fills: waited for, checked, never written to."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from serving.engine.weights import pins, verify
from serving.engine.weights.completeness import check_whole, wanted_files
from serving.engine.weights.errors import (
    IncompleteError,
    LateError,
    NotThereError,
    WrongBytesError,
)
from serving.engine.weights.lock import locked
from serving.engine.weights.pins import Pin, Pinned
from serving.engine.weights.settings import WeightsSettings
from serving.engine.weights.sources import SUMS, Kind
from serving.engine.weights.store import Wanted
from serving.engine.weights.transfer import Means, Sleep

POLL_S = 2.0


async def wait_for(
    folder: Path, kind: Kind, limit_s: float, clock: Callable[[], float], sleep: Sleep
) -> None:
    """Return once the folder holds a whole model. Raises LateError saying what is missing."""
    until_s = clock() + limit_s
    while True:
        try:
            paths = await asyncio.to_thread(wanted_files, folder, kind)
            await asyncio.to_thread(check_whole, folder, paths, kind)
        except (NotThereError, IncompleteError) as error:
            if clock() >= until_s:
                raise LateError(
                    f"{error}; waited {limit_s:.0f} s for the volume: is it mounted and filled?"
                ) from error
            await sleep(POLL_S)
        else:
            return


async def check(
    folder: Path, name: str, cache: Path, wanted: Wanted, means: tuple[WeightsSettings, Means]
) -> int:
    """Compare the folder with what is on record of it; the first time, put it on record.

    Returns the bytes that were read for it. Raises WeightsError.
    """
    settings, tools = means
    paths = wanted_files(folder, wanted.kind, with_code=wanted.with_code)
    check_whole(folder, paths, wanted.kind)
    pin_file, seen_file = cache / f"{name}.pin.json", cache / f"{name}.seen.json"
    async with locked(cache / f".{name}.lock", settings.deadline_s, tools.sleep):
        pin, before = pins.read_pin(pin_file), pins.read_found(seen_file)
        seen = await verify.hashes(folder, paths, before, settings.verify, tools.threads)
        _compare(folder, seen, pin, wanted.sums)
        if pin is None:
            content = {p: Pinned(f.look.size, f.sha256) for p, f in seen.files.items()}
            now_ms = time.time_ns() // 1_000_000
            pins.write(pin_file, Pin(wanted.source, "", now_ms, content))
        if seen.files != before:
            pins.write(seen_file, seen.files)
    return seen.bytes_hashed


def _compare(
    folder: Path, seen: verify.Verified, pin: Pin | None, manifest: Mapping[str, str]
) -> None:
    sums = dict(manifest)
    if (folder / SUMS).is_file():
        text = (folder / SUMS).read_text(encoding="utf-8", errors="replace")
        sums = pins.parse_sums(text, str(folder / SUMS)) | sums
    for path, found in seen.files.items():
        known = {sums.get(path, found.sha256)}
        if pin is not None and path in pin.files:
            known.add(pin.files[path].sha256)
        if known != {found.sha256}:
            wrong = next(iter(known - {found.sha256}))
            raise WrongBytesError(
                f"{folder / path}: hash {found.sha256}, but {wrong} is on record; if the change is "
                "wanted, remove the folder's .pin.json from the cache (and mend SHA256SUMS)"
            )
    if pin is not None and (odd := sorted(pin.files.keys() ^ seen.files.keys())):
        state = "is gone" if odd[0] in pin.files else "is new"
        raise WrongBytesError(
            f"{folder / odd[0]} {state} since the folder was first used; if that is wanted, remove "
            "the folder's .pin.json from the cache"
        )
