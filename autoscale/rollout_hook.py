"""Tells an address of every change of a rollout, in order, at least once, signed.

It reads the directory's own history, so what is told is what stands there; how far it came is kept
in a file. The number of the entry is in each message: a receiver drops what it has had.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import os
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import aiohttp
import msgspec
from prometheus_client import CollectorRegistry, Counter

from serving.directory.base import DirectoryAway, DirectoryStore, decode_event
from serving.directory.chain import Entry
from serving.settings_rollout import HookSettings

EVERY_S = 2.0
POST_S = 10.0
PAGE = 1000
WAIT_S_MAX = 60.0
_log = logging.getLogger("autoscale.rollout_hook")


def message(entry: Entry, deployment: str) -> bytes | None:
    """What is told of an entry of the history; None of one that is about nothing of ours. Pure."""
    event = decode_event(entry.data)
    kind, _, name = event.subject.partition(":")
    if kind != "rollout":
        return None
    return msgspec.json.encode({
        "version": 1, "deployment": deployment, "number": entry.number, "name": name,
        "action": event.action, "actor": event.actor, "at_ms": event.at_ms, "why": event.why,
        "details": event.details,
    })  # fmt: skip


def signature(secret: bytes, body: bytes) -> str:
    """The header's value. Pure."""
    return "sha256=" + hmac.new(secret, body, hashlib.sha256).hexdigest()


class RolloutHook:
    """Owns the file that says how far it came."""

    def __init__(
        self, settings: HookSettings, deployment: str, path: Path,
        open_directory: Callable[[], DirectoryStore], registry: CollectorRegistry,
    ) -> None:  # fmt: skip
        self._settings, self._deployment, self._path = settings, deployment, path
        self._open = open_directory
        self._told = Counter("ballast_rollout_hooks", "Changes told to the web hook, by result",
                             ["result"], registry=registry)  # fmt: skip
        self.tries = 0
        """Of the message at the front."""

    async def run(self, session: aiohttp.ClientSession) -> None:
        """Tell until cancelled."""
        while True:
            try:
                is_away = not await self.once(session)
            except (DirectoryAway, OSError, ValueError) as error:
                _log.warning("hook_failed", extra={"reason": str(error)[:300]})
                is_away = True
            wait_s = min(WAIT_S_MAX, EVERY_S * 2.0**self.tries) if is_away else EVERY_S
            await asyncio.sleep(wait_s)

    async def once(self, session: aiohttp.ClientSession) -> bool:
        """Tell what is new; whether the address took all of it. Raises DirectoryAway, OSError, and
        ValueError for a file that holds no number, or no secret."""
        after = await asyncio.to_thread(self._after)
        entries = await asyncio.to_thread(self._page, after)
        for entry in entries:
            body = message(entry, self._deployment)
            if body is not None and not await self._is_told(session, body, entry.number):
                return False
            after = entry.number
            if body is not None:
                await asyncio.to_thread(self._keep, after)
        if entries:
            await asyncio.to_thread(self._keep, after)
        return True

    async def _is_told(self, session: aiohttp.ClientSession, body: bytes, number: int) -> bool:
        """Whether it may be gone on from: told, or tried often enough."""
        assert self._settings.secret_file is not None
        secret = (await asyncio.to_thread(self._settings.secret_file.read_bytes)).strip()
        if not secret:
            raise ValueError(f"rollout.hook.secret_file: {self._settings.secret_file} is empty")
        head = {"content-type": "application/json", "x-ballast-signature": signature(secret, body)}
        try:
            async with session.post(
                self._settings.url, data=body, headers=head, allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=POST_S),
            ) as reply:  # fmt: skip
                reply.raise_for_status()
        except (aiohttp.ClientError, TimeoutError) as error:
            self.tries += 1
            reason = type(error).__name__
            if self.tries < self._settings.tries_max:
                self._told.labels("retried").inc()
                _log.warning("hook_away", extra={"reason": reason, "number": number})
                return False
            self._told.labels("left_out").inc()
            _log.error("hook_left_out", extra={"reason": reason, "number": number})
        else:
            self._told.labels("told").inc()
        self.tries = 0
        return True

    def _after(self) -> int:
        """The last entry told. A hook that is new begins with what comes from now on."""
        try:
            return int(self._path.read_text("ascii"))
        except FileNotFoundError:
            with closing(self._open()) as store:
                number = store.head().number
            self._keep(number)
            return number

    def _keep(self, number: int) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        beside = self._path.with_suffix(".new")
        beside.write_text(str(number), "ascii")
        os.replace(beside, self._path)

    def _page(self, after: int) -> list[Entry]:
        with closing(self._open()) as store:
            return store.history(after, PAGE)
