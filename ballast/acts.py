"""What this command line does to the database itself, put into the history before it is done.

Everything else goes through the admin API, which keeps the same history (0110, 0114).
"""

from __future__ import annotations

import getpass
import time
from collections.abc import Mapping
from contextlib import closing
from typing import Any, Final

from ballast.admin_words import clean
from ballast.messages import Said
from ballast.problem import ProblemError, worded
from serving.directory.base import DirectoryAway, DirectoryStore, VersionConflict
from serving.directory.changes import By, Change, event
from serving.directory.store import opener
from serving.errors import CallerError
from serving.settings import Settings

TRIES: Final = 20
"""Gateways write the history too, some lines a second at most."""
IDS_MAX: Final = 100
"""Of the things an act is about; more are counted."""
SUBJECT_CHARS_MAX: Final = 300


def who() -> str:
    """Whom the history names: the account of this machine."""
    return f"os:{getpass.getuser()}"


def record(
    settings: Settings, subject: str, action: str, details: Mapping[str, Any], why: str = ""
) -> None:
    """Put an act that is about to be done into the history. Raises ProblemError, and then nothing
    may be done: an act without a record is worse than a record of an act that failed."""
    try:
        with closing(opener(settings)()) as store:
            by = By(who(), time.time_ns() // 1_000_000, why)
            told = event(clean(subject)[:SUBJECT_CHARS_MAX], action, by, details)
            _append(store, Change([], told))
    except CallerError as error:
        raise ProblemError(worded(error), Said("problem.one_line")) from None
    except DirectoryAway as error:
        message = Said("problem.no_history", error=error)
        raise ProblemError(message, Said("problem.history_again")) from None


def ids(all_ids: list[str]) -> dict[str, Any]:
    """The things an act is about, as the history shows them."""
    return {"count": len(all_ids), "ids": all_ids[:IDS_MAX]}


def _append(store: DirectoryStore, change: Change) -> None:
    for _ in range(TRIES):
        try:
            store.commit(store.head(), change)
        except VersionConflict:
            continue
        return
    raise DirectoryAway(f"others wrote it {TRIES} times first")
