"""Finds engines, asks each for its load, and publishes one immutable view a second.

A source that fails keeps its last list, and the view keeps the age of the last whole one. An engine
is in the view once it has answered, and leaves it when it drains or has not answered three times in
a row. Decides nothing about calls.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import zlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import aiohttp

from serving.admission import Admission
from serving.codecs import load_report
from serving.discovery import Address, Listing, Source, together
from serving.placement.beside import Beside
from serving.ready_times import ReadyTimes
from serving.records import FleetView, Offering, Pending, Replica, Stops
from serving.secret import Secret
from serving.seen import MISSES_MAX, SLOW_POLLS_MAX, Seen
from serving.settings import Fleet as FleetSettings
from serving.settings import Model
from serving.watched import watch

_NO_REPORT = (
    aiohttp.ClientError, OSError, KeyError, TypeError, ValueError, OverflowError, RecursionError,
)  # fmt: skip
_AWAY = frozenset({errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN, errno.ETIMEDOUT})
"""What the kernel says of a host that is cut off; its connections stand all the same."""
_log = logging.getLogger(__name__)


class Bounds(NamedTuple):
    """What views carry from elsewhere: the settings, and the queue's live counts."""

    gateway_pods: int
    hold_s_max: float
    held: Mapping[str, int] = {}  # by model
    beside: Beside | None = None
    theirs: Mapping[str, Mapping[str, tuple[Offering, ...]]] = {}  # by tenant


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
        self._seen: dict[Address, Seen] = {}
        self._left: dict[Address, Seen] = {}
        """Silent when they left the list: asked on, to tell who has gone from who is busy."""
        self._listed_s = 0.0
        self.away: dict[str, str] = {}
        """Why a source did not answer the last poll, by its name."""
        self.ready_times = ReadyTimes(models)
        self._session: aiohttp.ClientSession | None = None
        self._task: asyncio.Task[None] | None = None
        self.first_look = asyncio.Event()
        """Set once every engine was asked; until then no view knows of any."""
        self.on_view: Callable[[], None] = lambda: None
        self.on_quiet: Callable[[tuple[str, int]], None] = lambda _: None
        """Told of a host whose engine leaves polls unanswered, and then, when it is given up:"""
        self.on_lost: Callable[[tuple[str, int]], None] = lambda _: None
        self.on_death: Callable[[], None] = lambda: None
        self.secret = Secret(settings.secret_file)
        self.stops: Stops | None = None
        """Set, with the next, by who reads the directory; `publish` makes them hold at once."""
        self.policy_at_s = float("inf")
        self.drifting: frozenset[str] = frozenset()  # offerings that canaries say have changed
        self._label = settings.pool.label
        sold = [*offerings.values(), *(r for own in bounds.theirs.values() for r in own.values())]
        self._sold = {row.id for rows in sold for row in rows}
        for target in self._sold:
            admission.know(target)
        self.view = FleetView(offerings=offerings, state=admission.state)

    @property
    def troubles(self) -> Mapping[str, str]:
        """Why engines of a model did not start, by model."""
        return together(self._listings.values()).troubles

    def start(self, sources: list[Source]) -> None:
        """Begin polling; the first view is published before the first poll ends."""
        timeout = aiohttp.ClientTimeout(total=self._settings.poll_timeout_s)
        self._session = aiohttp.ClientSession(timeout=timeout, trust_env=False)
        self._listed_s = asyncio.get_running_loop().time()
        self.publish()
        self._task = asyncio.create_task(self._poll_forever(sources), name="fleet")
        watch(self._task, lambda: self.on_death())

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
            if not self.away:
                self._listed_s = loop.time()
            addresses = {a for found in self._listings.values() for a in found.addresses}
            known = self._left | self._seen
            self._seen = {a: known.get(a) or Seen(a) for a in addresses}
            self._left = {
                a: seen for a, seen in known.items()
                if a not in addresses and 0 < seen.silent < SLOW_POLLS_MAX
            }  # fmt: skip
            asked = self._seen | self._left
            await asyncio.gather(*(self._ask(a, seen) for a, seen in asked.items()))
            self.publish()
            self.first_look.set()
            await asyncio.sleep(max(0.05, self._settings.poll_s - (loop.time() - at_s)))

    async def _list(self, index: int, source: Source) -> None:
        assert self._session is not None
        try:
            found = await source.poll(self._session)
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            reason = str(error) or type(error).__name__
            if source.name not in self.away:
                _log.warning("source_unreachable", extra={"source": source.name, "reason": reason})
            self.away[source.name] = reason
        else:
            for model, why in found.troubles.items() - self.troubles.items():
                _log.warning("engine_not_starting", extra={"model": model, "reason": why})
            self._listings[index] = found
            if self.away.pop(source.name, None) is not None:
                _log.info("source_reachable", extra={"source": source.name})

    async def _ask(self, address: Address, seen: Seen) -> None:
        """Ask one engine for its load."""
        assert self._session is not None
        url = f"http://{address.host}:{address.port}{address.prefix}/internal/load"
        headers = {"x-ballast-secret": self.secret.value.decode()}
        try:
            async with self._session.get(url, headers=headers) as response:
                if response.status != 200:
                    raise ValueError(load_report.refused(response.status))
                data: dict[str, Any] = await response.json()
                load = load_report.told(data)
                seen.limit = int(data.get("limit") or address.limit)
                seen.adapters = frozenset(map(str, data.get("adapters") or ()))
                seen.is_draining = bool(data.get("draining", False))
                seen.ready = not seen.is_draining
                seen.answered()
                now_s = asyncio.get_running_loop().time()
                self._admission.reported(address.id, load, now_s)
        except TimeoutError:
            seen.missed("it does not answer in time", is_slow=True)
            self._heed(seen)
        except _NO_REPORT as error:
            is_away = isinstance(error, OSError) and error.errno in _AWAY
            seen.missed(str(error) or type(error).__name__, is_away=is_away)
            self._heed(seen)

    def _heed(self, seen: Seen) -> None:
        """Tell of a host that falls silent and of one that is given up, and so on while it stays
        so, for those that heard something meanwhile. Behind one address there may be engines that
        answer."""
        turn, host = seen.silent % SLOW_POLLS_MAX, (seen.address.host, seen.address.port)
        if not seen.silent or turn not in (0, MISSES_MAX):
            return
        beside = (one for a, one in self._seen.items() if (a.host, a.port) == host)
        if all(one.silent for one in beside):
            (self.on_lost if turn == 0 else self.on_quiet)(host)

    def publish(self) -> None:
        """A new view of what is known now."""
        now_s = asyncio.get_running_loop().time()
        replicas: dict[str, tuple[Replica, ...]] = {}
        for address, seen in sorted(self._seen.items()):
            model = self._models.get(address.model)
            if seen.ready and model is not None:
                row = self._replica(address, seen, model)
                replicas[model.name] = (*replicas.get(model.name, ()), row)
        self._admission.forget({a.id for a in self._seen} | self._sold)
        self.view = FleetView(
            seq=self.view.seq + 1, observed_s=self._listed_s,
            replicas=replicas, offerings=self._offerings, theirs=self._bounds.theirs,
            pending=self._pending(replicas, now_s),
            state=self._admission.state, margins=self._admission.margins,
            gateway_pods=self._bounds.gateway_pods,
            stale_s=self._settings.stale_s,
            hold_s_max=self._bounds.hold_s_max,
            stops=self.stops, policy_at_s=self.policy_at_s, drifting=self.drifting,
            held=self._bounds.held,
            homes=frozenset((a.model, a.label or self._label) for a in self._seen),
        )  # fmt: skip
        if self._bounds.beside is not None:
            self.view = self._bounds.beside.laid(self.view, now_s)
        self.on_view()

    def _replica(self, address: Address, seen: Seen, model: Model) -> Replica:
        return Replica(
            id=address.id, model=model.name, host=address.host, port=address.port,
            prefix=address.prefix, label=address.label or self._label, profile=model.speed,
            limit=seen.limit, seed=zlib.crc32(address.id.encode()), adapters=seen.adapters,
        )  # fmt: skip

    def _pending(
        self, replicas: Mapping[str, tuple[Replica, ...]], now_s: float
    ) -> dict[str, Pending]:
        """Models that have no engine yet but should get one, and when."""
        found = together(self._listings.values())
        pending: dict[str, Pending] = {}
        for name, model in self._models.items():
            if model.engine is None or not self._settings.serve_url or name in found.failed:
                continue
            if replicas.get(name):
                self.ready_times.ready(name, now_s)
            else:
                look = {"is_blind": bool(self.away), "is_asleep": name in found.asleep}
                pending[name] = self.ready_times.expected(name, now_s, **look)
        return pending
