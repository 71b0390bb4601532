"""Signs where all chains stand, once a minute, and puts that where the database's writers cannot
reach.

An anchor that is away is said and caught up with: the next checkpoint holds all that moved since
the last one that was kept.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import aiohttp
import msgspec
from prometheus_client import CollectorRegistry, Counter, Gauge

from serving.audit import anchor
from serving.audit.sign import Signer, digest
from serving.audit.values import DIRECTORY, Head, Signed
from serving.directory.base import DirectoryAway, DirectoryStore
from serving.ledger.base import Ledger, LedgerUnavailable

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


class Checkpoints:
    """Owns the anchor file: one controller writes it."""

    def __init__(
        self,
        signer: Signer,
        path: Path,
        stores: tuple[Callable[[], Ledger], Callable[[], DirectoryStore]],
        utc_ms: Callable[[], int],
        registry: CollectorRegistry,
    ) -> None:
        self._signer = signer
        self._path = path
        self._open_ledger, self._open_directory = stores
        self._utc_ms = utc_ms
        self._known: dict[str, int] | None = None
        self._last: Signed | None = None
        self._unposted: deque[Signed] = deque(maxlen=UNPOSTED_MAX)
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
        """One checkpoint; None when nothing moved. Raises LedgerUnavailable, DirectoryAway, OSError
        and AnchorFault."""
        known = self._read() if self._known is None else self._known
        heads = moved(self._heads(), known)
        self._known = known
        if not heads:
            return None
        made = self._signer.seal(following(self._last, heads, self._utc_ms()))
        self._known = None  # what a write that fails leaves behind is read before the next
        anchor.append(self._path, made)
        self._last = made
        self._known = known | {head.writer: head.number for head in heads}
        return made

    def _read(self) -> dict[str, int]:
        """What the anchor holds: the last entry that was seen of each writer."""
        anchor.mend(self._path)
        known: dict[str, int] = {}
        self._last = None
        for kept in anchor.read(self._path):
            self._last = kept
            known |= {writer: number for writer, number, _ in kept.heads}
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
        while self._unposted and await self._is_posted(session, url, self._unposted[0]):
            self._unposted.popleft()

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
