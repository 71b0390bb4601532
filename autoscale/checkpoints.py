"""Signs where all chains stand, once a minute, and puts that where the database's writers cannot
reach.

An anchor that is away is said and caught up with: the next checkpoint holds all that moved since
the last one that was kept. Where nothing moves one is signed all the same, at half the pace: an
old one shows that nobody signs. An anchor that was cut or written anew is given back the last one
that this machine remembers: what that one saw is looked for, and a gap before it shows.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import aiohttp
import msgspec
from prometheus_client import CollectorRegistry, Counter, Gauge

from serving.audit import anchor
from serving.audit.anchor import Last
from serving.audit.auditor import anchor_file
from serving.audit.sign import Signer, digest
from serving.audit.values import DIRECTORY, Head, Signed
from serving.directory.base import DirectoryAway, DirectoryStore
from serving.ledger.base import Ledger, LedgerUnavailable
from serving.settings import Settings

POST_S = 10.0
HEADS_MAX = 5000
"""In one checkpoint; the rest goes into the next."""
UNPOSTED_MAX = 1440
"""Waiting for the address: a day's, one a minute. The oldest go first; the file has them."""
_log = logging.getLogger("autoscale.checkpoints")


def moved(heads: list[Head], known: dict[str, int]) -> list[Head]:
    """Heads that no checkpoint has seen, at most `HEADS_MAX`. Pure."""
    return [head for head in heads if known.get(head.writer, 0) < head.number][:HEADS_MAX]


def following(before: Signed | None, heads: list[Head], at_ms: int) -> Signed:
    """The checkpoint after another, unsigned. Pure."""
    number, mark = (1, "") if before is None else (before.number + 1, digest(before))
    told = tuple((head.writer, head.number, head.hash.hex()) for head in heads)
    return Signed(number, at_ms, told, mark, "")


class Kept(NamedTuple):
    """Where checkpoints are kept."""

    anchor: Path
    state: Path
    """The folder that remembers the last one."""
    beat_ms: int = 120_000
    """So long after the last one the next is signed though nothing moved."""

    @classmethod
    def of(cls, settings: Settings) -> Kept:
        """As the settings say."""
        beat_ms = round(settings.audit.every_s * 2e3)
        return cls(anchor_file(settings), settings.state_dir.expanduser(), beat_ms)


class Checkpoints:
    """Owns the anchor file: one controller writes it."""

    def __init__(
        self,
        signer: Signer,
        kept: Kept,
        stores: tuple[Callable[[], Ledger], Callable[[], DirectoryStore]],
        utc_ms: Callable[[], int],
        registry: CollectorRegistry,
    ) -> None:
        self._signer = signer
        self._path, self._state, self._beat_ms = kept
        self._open_ledger, self._open_directory = stores
        self._utc_ms = utc_ms
        self._known: dict[str, int] | None = None
        self._last: Signed | None = None
        self._unposted: deque[Signed] = deque(maxlen=UNPOSTED_MAX)
        self._posted = -1
        """Number of the last one the address took; -1 before the anchor was read."""
        self._count = Counter("ballast_audit_checkpoints", "Checkpoints by how they ended",
                              ["result"], registry=registry)  # fmt: skip
        self._at = Gauge("ballast_audit_checkpoint_timestamp_seconds",
                         "When the last checkpoint was kept", registry=registry)  # fmt: skip

    async def run(self, session: aiohttp.ClientSession, url: str, every_s: float) -> None:
        """Sign until cancelled."""
        while True:
            try:
                made = await asyncio.to_thread(self.once)
                self._count.labels("kept" if made else "nothing_new").inc()
                if made is not None:
                    self._at.set(made.at_ms / 1e3)
                if url:
                    await self._post_all(session, url, made)
            except (LedgerUnavailable, DirectoryAway, OSError, anchor.AnchorFault) as error:
                self._count.labels("failed").inc()
                _log.error("checkpoint_failed", extra={"reason": str(error)[:300]})
            await asyncio.sleep(every_s)

    def once(self) -> Signed | None:
        """One checkpoint; None when nothing moved and the last one is young. Raises
        LedgerUnavailable, DirectoryAway, OSError and AnchorFault."""
        known = self._read() if self._known is None else self._known
        heads = moved(self._heads(), known)
        self._known = known
        now_ms = self._utc_ms()
        if not heads and (self._last is None or now_ms - self._last.at_ms < self._beat_ms):
            return None
        made = self._signer.seal(following(self._last, heads, now_ms))
        self._known = None  # what a write that fails leaves behind is read before the next
        anchor.append(self._path, made)
        self._last = made
        self._remember()
        self._known = known | {head.writer: head.number for head in heads}
        return made

    def _remember(self) -> None:
        """On this machine too: a second witness, which no checkpoint waits for."""
        assert self._last is not None
        try:
            anchor.keep_last(self._state, Last(self._last, self._posted))
        except OSError as error:
            _log.warning("last_checkpoint_not_remembered", extra={"reason": str(error)[:300]})

    def _read(self) -> dict[str, int]:
        """What the anchor holds: the last entry that was seen of each writer. Where it no longer
        holds what this machine saw, that is put there again and gone on from."""
        anchor.mend(self._path)
        seen = anchor.last_seen(self._state)
        known: dict[str, int] = {}
        if self._posted < 0 and seen is not None:
            self._posted = seen.posted
        queued = self._unposted[-1].number if self._unposted else self._posted
        self._last, is_there = None, seen is None
        for kept in anchor.read(self._path):
            self._last = kept
            known |= {writer: number for writer, number, _ in kept.heads}
            is_there = is_there or (seen is not None and kept == seen.checkpoint)
            if 0 <= queued < kept.number:
                self._unposted.append(kept)
        if self._posted < 0:  # an anchor from before this machine remembered
            self._posted = self._last.number if self._last else 0
        if seen is not None and not is_there:
            reason = f"{self._path} no longer holds it: cut off or written anew"
            number = seen.checkpoint.number
            _log.error("anchor_altered", extra={"checkpoint": number, "reason": reason})
            self._count.labels("anchor_altered").inc()
            anchor.append(self._path, seen.checkpoint)
            self._last = seen.checkpoint
            known |= {writer: number for writer, number, _ in seen.checkpoint.heads}
        return known

    def _heads(self) -> list[Head]:
        with closing(self._open_ledger()) as ledger:
            heads = ledger.heads()
        with closing(self._open_directory()) as directory:
            number, mark = directory.head()
        return [Head(DIRECTORY, number, mark), *heads] if number else heads

    async def _post_all(
        self, session: aiohttp.ClientSession, url: str, made: Signed | None
    ) -> None:
        """The new one after those that the address did not take yet: it misses none, in order."""
        if made is not None:
            self._unposted.append(made)
        before = self._posted
        while self._unposted and await self._is_posted(session, url, self._unposted[0]):
            self._posted = self._unposted.popleft().number
        if self._posted != before and self._last is not None:
            await asyncio.to_thread(self._remember)

    async def _is_posted(self, session: aiohttp.ClientSession, url: str, made: Signed) -> bool:
        timeout = aiohttp.ClientTimeout(total=POST_S)
        head = {"content-type": "application/json"}
        data = msgspec.json.encode(made)
        try:
            async with session.post(
                url, data=data, headers=head, timeout=timeout, allow_redirects=False
            ) as reply:
                reply.raise_for_status()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            self._count.labels("not_posted").inc()
            reason = type(error).__name__
            _log.warning("anchor_url_away", extra={"reason": reason, "checkpoint": made.number})
            return False
        self._count.labels("posted").inc()
        return True
