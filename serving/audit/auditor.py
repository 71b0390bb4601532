"""Reads the record and examines it: ledger, directory and anchor together. Blocking: callers off
the event loop's thread only.

Everything in pages, so that a long history needs no memory; a verification ends by its own bounds.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from serving.audit import anchor
from serving.audit.sign import Signer, read_key
from serving.audit.values import DIRECTORY, Question
from serving.audit.verify import FAULTS_MAX, Anchored, Chain, Fault, differing, stray
from serving.directory.base import DirectoryStore
from serving.directory.store import opener as directory_opener
from serving.ledger.base import Ledger
from serving.ledger.store import open_to_read
from serving.rows import EgressIntent
from serving.settings import Settings

KEY_FILE, ANCHOR_FILE = "audit-key.pem", "audit-anchor.jsonl"
PAGE = 1000


class Verdict(NamedTuple):
    """What an examination found."""

    faults: list[Fault]
    entries: int
    """On all chains."""
    writers: int
    checkpoints: int
    last_ms: int
    """Of the last checkpoint; entries after it are held against nothing outside yet."""


class Auditor:
    """Opens what the settings name, for one question at a time."""

    def __init__(self, settings: Settings, public: bytes | None = None) -> None:
        self._settings = settings
        self._public = public

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

    def verify(self) -> Verdict:
        """Examine everything. Raises LedgerUnavailable, DirectoryAway, AnchorFault, OSError and
        SettingsError."""
        anchored = Anchored(self._public or signer(self._settings).public)
        for checkpoint in anchor.read(anchor_file(self._settings)):
            anchored.take(checkpoint)
        faults, total = list(anchored.faults), 0
        with closing(open_to_read(self._settings)) as ledger:
            writers = {head.writer for head in ledger.heads()}
            writers |= anchored.seen.keys() - {DIRECTORY}
            for writer in sorted(writers):
                found, count = _of_journal(ledger, writer, anchored.seen.get(writer, {}))
                faults, total = [*faults, *found][:FAULTS_MAX], total + count
            faults += stray(*ledger.unchained(), anchored.first_ms)
        with closing(directory_opener(self._settings)()) as directory:
            found, count = _of_directory(directory, anchored.seen.get(DIRECTORY, {}))
        return Verdict(
            [*faults, *found][:FAULTS_MAX], total + count, len(writers) + 1, anchored.count,
            anchored.last_ms,
        )  # fmt: skip


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
