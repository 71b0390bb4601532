"""Reads the record and examines it: ledger, directory and anchor together. Blocking: callers off
the event loop's thread only.

Everything in pages, so that a long history needs no memory; a verification ends by its own bounds.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import IO, NamedTuple

from serving.audit import anchor, copied
from serving.audit.sign import Signer, read_key
from serving.audit.values import DIRECTORY, Question
from serving.audit.verify import FAULTS_MAX, Anchored, Chain, Fault, differing, stale, stray
from serving.directory.base import DirectoryStore
from serving.directory.store import opener as directory_opener
from serving.ledger.base import Ledger
from serving.ledger.store import open_to_read
from serving.rows import EgressIntent
from serving.settings import Settings

KEY_FILE, ANCHOR_FILE = "audit-key.pem", "audit-anchor.jsonl"
PAGE = 1000
COPY = "the copy"
SPOOL_BYTES = 8 << 20
"""Of a copy in memory; beyond it on the disk."""


class Verdict(NamedTuple):
    """What an examination found."""

    faults: list[Fault]
    entries: int
    """On all chains."""
    writers: int
    checkpoints: int
    last_ms: int
    """Of the last checkpoint; entries after it are held against nothing outside yet."""
    copied: int = 0
    """Checkpoints that the address's copy holds too."""
    copy_fault: str = ""
    """Why the copy could not be read; empty where it was, or nobody asked."""


class _Held(NamedTuple):
    checkpoints: int
    copied: int
    copy_fault: str


class Auditor:
    """Opens what the settings name, for one question at a time."""

    def __init__(
        self, settings: Settings, public: bytes | None = None, reads_copy: bool = True
    ) -> None:
        self._settings = settings
        self._public = public
        self._reads_copy = reads_copy

    def egress(self, question: Question) -> list[EgressIntent]:
        """A page of what left. Raises LedgerUnavailable."""
        with closing(open_to_read(self._settings)) as ledger:
            return ledger.egress(question)

    def every(self, question: Question, take: Callable[[EgressIntent], None]) -> None:
        """All of it, in order. Raises LedgerUnavailable."""
        with closing(open_to_read(self._settings)) as ledger:
            page = question._replace(limit=PAGE)
            while rows := ledger.egress(page):
                for row in rows:
                    take(row)
                last = rows[-1]
                page = page._replace(after=(last.at_ms, last.request_id, last.attempt))

    def keys_of(self, question: Question) -> list[str]:
        """Ids of all API keys whose calls left so. Raises LedgerUnavailable."""
        found: list[str] = []
        page = question._replace(limit=PAGE)
        with closing(open_to_read(self._settings)) as ledger:
            while keys := ledger.keys_of(page):
                found += keys
                page = page._replace(after_key=keys[-1])
        return found

    def verify(self, now_ms: int = 0) -> Verdict:
        """Examine everything; with `now_ms` also whether somebody still signs. Raises
        LedgerUnavailable, DirectoryAway, AnchorFault, OSError and SettingsError."""
        taken, held = self._anchored()
        faults, total = list(taken.faults), 0
        faults += stale((taken.count, taken.last_ms), now_ms, self._settings.audit.every_s)
        with closing(open_to_read(self._settings)) as ledger:
            writers = {head.writer for head in ledger.heads()}
            writers |= taken.seen.keys() - {DIRECTORY}
            for writer in sorted(writers):
                found, entries = _of_journal(ledger, writer, taken.seen.get(writer, {}))
                faults, total = [*faults, *found][:FAULTS_MAX], total + entries
            faults += stray(*ledger.unchained(), taken.first_ms)
        with closing(directory_opener(self._settings)()) as directory:
            found, entries = _of_directory(directory, taken.seen.get(DIRECTORY, {}))
        return Verdict(
            [*faults, *found][:FAULTS_MAX], total + entries, len(writers) + 1, held.checkpoints,
            taken.last_ms, held.copied, held.copy_fault,
        )  # fmt: skip

    def _anchored(self) -> tuple[Anchored, _Held]:
        """The anchor's file, held against what this machine saw last and the address's copy. Both
        are read before the file: it has what they have, unless it was altered."""
        taken = Anchored(self._public or signer(self._settings).public)
        last = anchor.last_seen(self._settings.state_dir.expanduser())
        url = self._settings.audit.anchor_copy_url if self._reads_copy else ""
        with tempfile.SpooledTemporaryFile(SPOOL_BYTES) as copy:
            fault = _fetched(url, copy) if url else ""
            for checkpoint in anchor.read(anchor_file(self._settings)):
                taken.take(checkpoint)
            count, same = taken.count, 0
            if url and not fault:
                copy.seek(0)
                lines = iter(lambda: copy.readline(anchor.LINE_BYTES_MAX), b"")
                same = sum(taken.compare(o, COPY) for o in anchor.checkpoints(lines, COPY))
        if last is not None:
            taken.compare(last.checkpoint, "the controller's state folder")
        return taken, _Held(count, same, fault)


def _fetched(url: str, into: IO[bytes]) -> str:
    """Why there is no copy; empty when there is."""
    try:
        copied.fetch(url, into)
    except copied.CopyAway as away:
        return str(away)
    return ""


def _of_journal(ledger: Ledger, writer: str, seen: dict[int, bytes]) -> tuple[list[Fault], int]:
    chain, found = Chain(writer, seen), list[Fault]()
    while page := ledger.chained(writer, chain.number, PAGE):
        chain.take([one.entry for one in page])
        found += differing(page, writer)
    return [*chain.faults(), *found], chain.number


def _of_directory(store: DirectoryStore, seen: dict[int, bytes]) -> tuple[list[Fault], int]:
    chain = Chain(DIRECTORY, seen)
    while page := store.history(chain.number, PAGE):
        chain.take(page)
    return chain.faults(), chain.number


def signer(settings: Settings) -> Signer:
    """What signs. Raises SettingsError."""
    return read_key(settings.audit.key_file or settings.state_dir.expanduser() / KEY_FILE)


def anchor_file(settings: Settings) -> Path:
    """Where checkpoints are kept."""
    return settings.audit.anchor_file or settings.state_dir.expanduser() / ANCHOR_FILE
