"""What a `ballast poc run` that was killed has left, found and taken back by the next one.

A run marks what it makes by the second it must be over at and by chance, and holds a lock in the
state folder while it lasts: the system lets go of that however the process ends.
"""

from __future__ import annotations

import fcntl
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from ballast.admin_client import Client, path_of
from ballast.ledger_trace import REPLAYS
from ballast.messages import Said
from ballast.problem import ProblemError

FOLDER = "poc"
"""Below the state folder: a lock and the keys of each run under way."""
LOCK, NEW = ".lock", ".new"
MARK = re.compile(rf"{REPLAYS}-(?:[a-z]+-)?([0-9a-f]{{8,}}-[0-9a-f]{{6}})")
WHY = "poc run"


class Under(NamedTuple):
    """A run under way."""

    mark: str
    """Ends the names of what it makes."""
    keys: Path
    """Folder for its keys; goes with it."""


class Left(NamedTuple):
    """One thing that nobody uses any more."""

    kind: str
    """`key` or `budget`."""
    id: str


@contextmanager
def marked(state: Path, seconds: float) -> Iterator[Under]:
    """A mark for a run that lasts so long at most, held until it ends. Raises ProblemError."""
    mark = f"{int(time.time() + seconds):x}-{secrets.token_hex(3)}"
    folder = state / FOLDER
    under = Under(mark, folder / mark)
    file = folder / (mark + LOCK)
    try:
        under.keys.mkdir(mode=0o700, parents=True)
        lock = (folder / (mark + NEW)).open("w")
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        Path(lock.name).rename(file)  # never to be seen without its lock
    except OSError as error:
        failed = Said("web.cannot_write", file=file, reason=error.strerror)
        raise ProblemError(failed, Said("web.make_room")) from None
    with lock:
        try:
            yield under
        finally:
            _forget(folder, mark)


def left(rows: dict[str, list[dict[str, Any]]], is_over: Callable[[str], bool]) -> list[Left]:
    """Keys that still let in and budgets, of replays that are over. Pure but for `is_over`."""
    found = [("key", row) for row in rows["keys"] if not row.get("is_revoked")]
    found += [("budget", row) for row in rows["budgets"]]
    return [
        Left(kind, row["id"])
        for kind, row in found
        if row.get("project") == REPLAYS
        and (of := MARK.fullmatch(row["id"])) is not None
        and is_over(of[1])
    ]


def take_back(client: Client, state: Path, told: Callable[[Said], None]) -> None:
    """Revoke such keys and remove such budgets, saying what; also keys that lie in the folder.
    Raises ProblemError where they cannot be read."""
    now_s = time.time()
    rows = {"budgets": client.get("/budgets")["budgets"], "keys": client.get("/directory")["keys"]}
    for kind, id_ in left(rows, lambda mark: is_over(state, mark, now_s)):
        try:
            if kind == "key":
                client.post(f"/keys/{path_of(id_, 'revoke')}", {}, why=WHY)
            else:
                client.delete(f"/budgets/{path_of(id_)}", why=WHY)
        except ProblemError as problem:
            told(Said("poc.run.left", what=id_, why=problem.said))
        else:
            told(Said("poc.run.found", what=id_))
    for lock in sorted((state / FOLDER).glob(f"*{LOCK}")):
        mark = lock.name.removesuffix(LOCK)
        if MARK.fullmatch(f"{REPLAYS}-{mark}") and is_over(state, mark, now_s):
            _forget(state / FOLDER, mark)


def is_over(state: Path, mark: str, now_s: float) -> bool:
    """Whether the run of that mark has ended: its lock is free; or, where there is no lock (it ran
    elsewhere, or it ended while its budget could not be removed), it must have ended by now."""
    try:
        with (state / FOLDER / (mark + LOCK)).open("r") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return True
    except BlockingIOError:
        return False
    except OSError:
        return now_s > int(mark.partition("-")[0], 16)


def _forget(folder: Path, mark: str) -> None:
    shutil.rmtree(folder / mark, ignore_errors=True)
    with suppress(OSError):
        (folder / (mark + LOCK)).unlink()
