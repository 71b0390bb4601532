"""Finds engines, asks each for its load, and publishes one immutable view a second.

A source that fails keeps its last list. An engine is in the view once it has answered, and leaves
it when it drains or has not answered three times in a row. Decides nothing about calls.
"""

from __future__ import annotations

import asyncio
import logging
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import msgspec

from models.capacity import PROFILES
from serving.admission import Admission
from serving.codecs import load_report
from serving.discovery import Address, Listing, Source
from serving.records import DataLabel, FleetView, Offering, Pending, Replica
from serving.settings import Fleet as FleetSettings
from serving.settings import Model

MISSES_MAX = 3
LATE_S = 10.0
"""An engine later than expected is expected again after this."""
_log = logging.getLogger(__name__)


class Secret:
    """The deployment secret, read again when its file changes."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._stamp = 0.0
        self.value = b""
        self.refresh()

    def refresh(self) -> None:
        """Read the file if it is newer than what is held."""
        if self._path is None:
            return
        try:
            stamp = self._path.stat().st_mtime
            if stamp != self._stamp:
                self.value = self._path.read_bytes().split(b"\n")[0].strip()
                self._stamp = stamp
        except OSError as error:
            _log.warning("secret_unreadable", extra={"reason": str(error)})

    def __call__(self) -> bytes:
        return self.value


class Bounds(NamedTuple):
    """What views carry from the settings."""

    gateway_pods: int
    hold_s_max: float


class _Seen:
    __slots__ = ("limit", "misses", "ready")

    def __init__(self, limit: int) -> None:
        self.ready = False
        self.misses = 0
        self.limit = limit


class Fleet:
    """Owns the polling task and the latest `view`."""

    def __init__(
        self, settings: FleetSettings, models: tuple[Model, ...],
        offerings: Mapping[str, tuple[Offering, ...]], admission: Admission, bounds: Bounds,
    ) -> None:  # fmt: skip
        self._settings = settings
        self._models = {m.name: m for m in models}
        self._offerings = offerings
        self._admission = admission
        self._bounds = bounds
        self._listings: dict[int, Listing] = {}
        self._seen: dict[Address, _Seen] = {}
        self._unready_since_s: dict[str, float] = {}
        self._ready_s: dict[str, float] = {m.name: m.time_to_ready_s for m in models}
        self._observed_s: dict[str, float] = {}
        self._session: aiohttp.ClientSession | None = None
        self._task: asyncio.Task[None] | None = None
        self.on_view: Callable[[], None] = lambda: None
        self.on_death: Callable[[], None] = lambda: None
        self.secret = Secret(settings.secret_file)
        pool = settings.pool
        self._label = DataLabel(pool.jurisdiction, pool.operator, pool.on_premises)
        for rows in offerings.values():
            for row in rows:
                admission.know(row.id)
        self.view = FleetView(offerings=offerings, state=admission.state)

    def start(self, sources: list[Source]) -> None:
        """Begin polling; the first view is published before the first poll ends."""
        timeout = aiohttp.ClientTimeout(total=self._settings.poll_timeout_s)
        self._session = aiohttp.ClientSession(timeout=timeout, trust_env=False)
        self._publish()
        self._task = asyncio.create_task(self._poll_forever(sources), name="fleet")
        self._task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """A view that is never renewed must not go unnoticed: end, and be started again."""
        if not task.cancelled() and task.exception() is not None:
            _log.error("fleet_died", exc_info=task.exception())
            self.on_death()

    async def close(self) -> None:
        """Stop polling."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._session is not None:
            await self._session.close()

    async def _poll_forever(self, sources: list[Source]) -> None:
        loop = asyncio.get_running_loop()
        while True:
            at_s = loop.time()
            self.secret.refresh()
            await asyncio.gather(*(self._list(i, source) for i, source in enumerate(sources)))
            addresses = {a for found in self._listings.values() for a in found.addresses}
            self._seen = {a: self._seen.get(a) or _Seen(a.limit) for a in addresses}
            await asyncio.gather(*(self._ask(a, seen) for a, seen in self._seen.items()))
            self._publish()
            await asyncio.sleep(max(0.05, self._settings.poll_s - (loop.time() - at_s)))

    async def _list(self, index: int, source: Source) -> None:
        assert self._session is not None
        try:
            self._listings[index] = await source.poll(self._session)
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            _log.debug("source_unreachable", extra={"source": index, "reason": str(error)})

    async def _ask(self, address: Address, seen: _Seen) -> None:
        """Ask one engine for its load."""
        assert self._session is not None
        url = f"http://{address.host}:{address.port}{address.prefix}/internal/load"
        headers = {"x-ballast-secret": self.secret.value.decode()}
        try:
            async with self._session.get(url, headers=headers) as response:
                if response.status != 200:
                    raise ValueError(f"status {response.status}")
                data: dict[str, Any] = await response.json()
                load = load_report.checked(
                    int(data["w"]), int(data["r"]), int(data["q"]), float(data["kv"])
                )
                seen.limit = int(data.get("limit") or address.limit)
                seen.ready = not data.get("draining", False)
                seen.misses = 0
                now_s = asyncio.get_running_loop().time()
                self._admission.reported(address.id, load, now_s)
        except (
            aiohttp.ClientError,
            OSError,
            TimeoutError,
            KeyError,
            TypeError,
            ValueError,
        ) as error:
            seen.misses += 1
            if seen.misses >= MISSES_MAX and seen.ready:
                seen.ready = False
                extra = {"target": address.id, "reason": str(error)}
                _log.warning("replica_lost", extra=extra)

    def _publish(self) -> None:
        now_s = asyncio.get_running_loop().time()
        replicas: dict[str, tuple[Replica, ...]] = {}
        for address, seen in sorted(self._seen.items()):
            model = self._models.get(address.model)
            if seen.ready and model is not None:
                row = self._replica(address, seen, model)
                replicas[model.name] = (*replicas.get(model.name, ()), row)
        known = {a.id for a in self._seen} | {
            o.id for rows in self._offerings.values() for o in rows
        }
        self._admission.forget(known)
        self.view = FleetView(
            seq=self.view.seq + 1,
            observed_s=now_s,
            replicas=replicas,
            offerings=self._offerings,
            pending=self._pending(replicas, now_s),
            state=self._admission.state,
            gateway_pods=self._bounds.gateway_pods,
            stale_s=self._settings.stale_s,
            hold_s_max=self._bounds.hold_s_max,
        )
        self.on_view()

    def _replica(self, address: Address, seen: _Seen, model: Model) -> Replica:
        return Replica(
            id=address.id,
            model=model.name,
            host=address.host,
            port=address.port,
            prefix=address.prefix,
            label=self._label,
            profile=PROFILES[model.profile],
            limit=seen.limit,
            seed=zlib.crc32(address.id.encode()),
        )

    def _pending(
        self, replicas: Mapping[str, tuple[Replica, ...]], now_s: float
    ) -> dict[str, Pending]:
        """Models that have no engine yet but should get one, and when."""
        failed = {m for found in self._listings.values() for m in found.failed}
        pending: dict[str, Pending] = {}
        for name, model in self._models.items():
            if model.engine is None or not self._settings.serve_url or name in failed:
                continue
            if replicas.get(name):
                since_s = self._unready_since_s.pop(name, None)
                if since_s is not None:
                    self._ready_s[name] = self._observed_s[name] = now_s - since_s
                continue
            since_s = self._unready_since_s.setdefault(name, now_s)
            expected_s = max(since_s + self._ready_s[name], now_s + LATE_S)
            if since_s + self._ready_s[name] > now_s:
                expected_s = since_s + self._ready_s[name]
            pending[name] = Pending(name, expected_s)
        return pending

    def remember(self, path: Path) -> None:
        """Start from the times to ready that an earlier life saw."""
        try:
            seen = msgspec.json.decode(path.read_bytes(), type=dict[str, float])
        except (OSError, msgspec.MsgspecError):
            return
        self._observed_s = {k: v for k, v in seen.items() if k in self._ready_s and 0 < v < 7200}
        self._ready_s |= self._observed_s

    def save(self, path: Path) -> None:
        """Keep the times to ready for the next life."""
        path.write_bytes(msgspec.json.encode(self._observed_s))
