"""A copy of one Kubernetes collection: listed once, then followed by a watch.

A watch that ends is begun again after the last version seen (bookmarks move that on); one whose
version the server has forgotten (410) begins with a new list. Nobody may act on a copy that was not
in touch with the server for a while.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any

from autoscale.cluster_api import AWAY, ApiError, ClusterApi

SILENT_S = 120.0
"""Bookmarks come about each minute; a watch that says nothing for longer is begun anew."""
STALE_S = 180.0
LIST_S = 15.0
PAUSE_S = (0.5, 30.0)
GONE, TOO_MANY = 410, 429
_log = logging.getLogger(__name__)


class Watched:
    """One collection. Run `follow` as a task."""

    def __init__(
        self, api: ClusterApi, path: str, selector: str, clock: Callable[[], float]
    ) -> None:
        self._api = api
        self._path = path
        self._query = {"labelSelector": selector} if selector else {}
        self._clock = clock
        self._objects: dict[str, Mapping[str, Any]] = {}
        self._version = ""
        self._heard_s = float("-inf")
        self.why = f"{path}: not listed yet"
        """Of the last failure."""

    def objects(self) -> tuple[Mapping[str, Any], ...] | None:
        """What there is, by name; None when nobody can tell."""
        if self._clock() - self._heard_s > STALE_S:
            return None
        return tuple(self._objects[name] for name in sorted(self._objects))

    async def follow(self) -> None:
        """List and watch until cancelled."""
        pause_s = PAUSE_S[0]
        while True:
            try:
                if not self._version:
                    await self._list()
                await self._watch()
                pause_s = PAUSE_S[0]
                continue
            except ApiError as error:
                self.why = f"{self._path}: {error}"
                if error.status == GONE:
                    self._version = ""
                    continue
                pause_s = max(pause_s, error.retry_after_s)
            except AWAY as error:
                self.why = f"{self._path}: {type(error).__name__}: {error}"
            _log.warning("watch_failed", extra={"reason": self.why[:300]})
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, PAUSE_S[1])

    async def _list(self) -> None:
        found = await self._api.get(self._path, LIST_S, **self._query)
        self._objects = {item["metadata"]["name"]: item for item in found.get("items") or ()}
        self._version = str(found["metadata"]["resourceVersion"])
        self._heard_s = self._clock()

    async def _watch(self) -> None:
        """Follow changes until the server ends the watch."""
        query = self._query | {"resourceVersion": self._version}
        async for event in self._api.watch(self._path, SILENT_S, **query):
            self._heard_s = self._clock()
            kind, body = event["type"], event["object"]
            self._version = str(body["metadata"]["resourceVersion"])
            if kind == "DELETED":
                self._objects.pop(body["metadata"]["name"], None)
            elif kind != "BOOKMARK":
                self._objects[body["metadata"]["name"]] = body
        self._heard_s = self._clock()
