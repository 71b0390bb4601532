"""Machines by SkyPilot, one of its clusters each, through its Python SDK and API server.

The client token is the cluster's name, so asking twice is asking for the same cluster, and the
beginning of the name stands for our tags. A launch is pinned to the offer it was decided with:
left to itself SkyPilot would go on to dearer places. Its SDK blocks and waits for answers without
end, so calls run in threads that a process does not wait for when it ends.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from autoscale.machines import Create, Machine, Offer, ProviderError, Tags, ours
from autoscale.providers import skypilot_rule as rule
from autoscale.providers.blocking import Blocking, outcome
from models.worded import Worded
from serving.settings import SettingsError

UNWELL_S = 600.0
"""A cluster that is neither up nor being launched for so long is given up. One whose Ray or SSH
does not answer its server is said to be in INIT within a minute, and may recover."""
CALLS_MAX = 4
"""Threads of one pool; a call whose answer never comes holds one until the process ends."""
FAILED_MAX = 64
T = TypeVar("T")


def installed() -> Callable[[], Any]:
    """What loads the package. It is not loaded here: that takes seconds, and for ever where its
    API server takes calls and does not answer. Raises SettingsError without it."""
    if importlib.util.find_spec("sky") is None:
        raise SettingsError(
            Worded(
                "settings.skypilot",
                "controller.acting.machines: skypilot needs its package: pip install skypilot",
            )
        )
    return _loaded


def _loaded() -> Any:
    importlib.import_module("sky.client.sdk")
    return importlib.import_module("sky")


class Wanted(NamedTuple):
    """What a pool's machines are."""

    task: Path
    """A file that starts an engine. What its resources say stands, but for the place and the
    accelerators."""
    accelerators: str
    """As SkyPilot spells them, `H100:1`."""
    is_spot: bool
    jurisdiction: str = ""
    """Not empty: the task must name the regions."""


class SkyPilot:
    """One pool's clusters."""

    def __init__(self, load: Callable[[], Any], wanted: Wanted) -> None:
        self._load = load
        self._wanted = wanted
        self._gpu, _, count = wanted.accelerators.partition(":")
        self._count = float(count or 1)
        self._launched: dict[str, Any] = {}
        """Requests of this life that have not been seen to end, by cluster."""
        self._ends: dict[str, Any] = {}
        self._failed: dict[str, str] = {}
        self._unwell_s: dict[str, float] = {}
        self._calls = Blocking("SkyPilot", CALLS_MAX)

    async def offers(self, tags: Tags, gpu: str, limit_s: float) -> tuple[Offer, ...]:  # noqa: ARG002
        """See `Provider`. Prices of its catalogue, for the clouds that its server has access to;
        whether there is a machine it does not say."""

        def ask() -> tuple[Offer, ...]:
            places = self._places(self._task())
            clouds = [
                one for one in self._sdk.get(self._sdk.enabled_clouds())
                if str(one).lower() not in rule.UNPRICED
            ]  # fmt: skip
            if not clouds:
                raise ProviderError("refused", "SkyPilot: no cloud is enabled: see `sky check`")
            request = self._sdk.list_accelerators(
                name_filter=f"^{re.escape(self._gpu)}$", clouds=clouds, all_regions=True
            )
            listed = self._sdk.get(request)
            return rule.offers(listed, self._count, places, is_spot=self._wanted.is_spot)

        return await self._threaded(ask, limit_s)

    async def create(self, order: Create, limit_s: float) -> Machine:
        """See `Provider`. Does not wait until it is up: that takes minutes, and `list` tells."""
        name = rule.named(order.client_token)
        until_s = time.monotonic() + limit_s

        def ask() -> None:
            request = self._sdk.status(cluster_names=[name], all_users=True)
            if any(one.cluster == name for one in self._asked()) or self._sdk.get(request):
                return  # a second launch would run the task a second time
            task = self._pinned(self._task(), order)
            if time.monotonic() > until_s:
                raise TimeoutError("too late to launch: the lease may be another's")
            self._launched[name] = self._sdk.launch(task, cluster_name=name)

        await self._threaded(ask, limit_s)
        return Machine(name, order.client_token, "creating")

    async def list(self, tags: Tags, limit_s: float) -> tuple[Machine, ...]:
        """See `Provider`. Of all users: another home folder makes another user of us."""

        def ask() -> rule.Seen:
            request = self._sdk.status(all_users=True)  # the first call asks who the server is
            asked = self._asked()
            rows = self._sdk.get(request)
            waiting = {one.cluster for one in asked if one.name in rule.LAUNCHES}
            here = {one.cluster for one in asked} | {str(rule.field(r, "name")) for r in rows}
            self._ends = {name: end for name, end in self._ends.items() if name in here}
            for name in tuple(self._launched):
                if name not in waiting:
                    self._learn(name)
            return rule.Seen(rows, asked, dict(self._failed), self._unwell(rows, asked))

        return rule.machines(await self._threaded(ask, limit_s), tags)

    async def terminate(self, machine: str, fence: int, limit_s: float) -> None:  # noqa: ARG002
        """See `Provider`. Raises what came of the end asked for before, if that failed."""

        def ask() -> None:
            asked = [one for one in self._asked() if one.cluster == machine]
            if any(one.name in rule.ENDS for one in asked):
                return
            failure = self._outcome(self._ends.pop(machine, None))
            # Without a cluster yet an end would find none, and the launch go on.
            if launches := [one.id for one in asked if one.name in rule.LAUNCHES]:
                self._sdk.get(self._sdk.api_cancel(launches, silent=True))
            self._ends[machine] = self._sdk.down(machine)
            if failure is not None and type(failure).__name__ != "ClusterDoesNotExist":
                raise failure

        await self._threaded(ask, limit_s)

    @property
    def _sdk(self) -> Any:
        """In a call's thread only."""
        return self._load().client.sdk

    def _asked(self) -> tuple[rule.Asked, ...]:
        """Requests under way, of all clusters."""
        return tuple(
            rule.Asked(str(one.cluster_name), str(one.name), str(one.request_id))
            for one in self._sdk.api_status()
            if one.cluster_name and str(one.status) in rule.UNDER_WAY
        )

    def _task(self) -> Any:
        """Raises ProviderError for a file that is no task for one machine."""
        path, place = self._wanted.task, self._wanted.jurisdiction
        try:
            task = self._load().Task.from_yaml(str(path))
        except (OSError, ValueError, TypeError) as error:
            raise ProviderError("refused", f"{path}: {rule.words(error)}") from None
        if task.num_nodes != 1:
            raise ProviderError("refused", f"{path}: num_nodes must be 1: a cluster is a machine")
        if place and not all(one.region for one in task.resources):
            raise ProviderError(
                "refused", f"{path}: name the region (infra): its pool must stay in {place}"
            )
        return task

    def _places(self, task: Any) -> tuple[tuple[str, str], ...]:
        return tuple(
            (str(one.cloud or "").lower(), str(one.region or "").lower()) for one in task.resources
        )

    def _pinned(self, task: Any, order: Create) -> Any:
        """The task at the offer's place and instance, under our label."""
        cloud, region, instance = order.offer.split("/", 2)
        place = self._load().Resources(infra=f"{cloud}/{region}")
        label = {"ballast": rule.named(ours(order.tags)).strip("-")[-63:].strip("-")}
        task.set_resources(type(task.resources)(
            one.copy(
                cloud=place.cloud, region=place.region, instance_type=instance,
                accelerators={self._gpu: self._count}, use_spot=self._wanted.is_spot,
                labels=dict(one.labels or {}) | label,
            )
            for one in task.resources
        ))  # fmt: skip
        return task

    def _learn(self, name: str) -> None:
        """What came of a launch that has ended."""
        error = self._outcome(self._launched.get(name))
        if isinstance(error, OSError):
            return  # the server was not reached: asked again
        self._launched.pop(name, None)
        if error is not None:
            self._failed[name] = rule.words(error)
            while len(self._failed) > FAILED_MAX:
                del self._failed[next(iter(self._failed))]

    def _outcome(self, request: Any) -> BaseException | None:
        """What an ended request failed with."""
        if request is None:
            return None
        return outcome(lambda: self._sdk.get(request), Future()).exception()

    def _unwell(self, rows: Any, asked: Sequence[rule.Asked]) -> frozenset[str]:
        now_s = time.monotonic()
        names = {str(rule.field(row, "name")) for row in rows if rule.is_pending(row, asked)}
        self._unwell_s = {name: self._unwell_s.get(name, now_s) for name in names}
        return frozenset(n for n, since_s in self._unwell_s.items() if now_s - since_s > UNWELL_S)

    async def _threaded(self, work: Callable[[], T], limit_s: float) -> T:
        """Raises ProviderError for whatever the call raised, or when no answer came in time."""
        try:
            call = await self._calls.settled(work, limit_s)
        except BlockingIOError as full:
            raise ProviderError("away", f"{full}; its API server is to be looked at") from None
        if call is None:
            raise ProviderError("away", f"SkyPilot: no answer within {limit_s:.0f} s")
        error = call.exception()
        if error is None:
            return call.result()
        if isinstance(error, ProviderError):
            raise error
        raise ProviderError(rule.kind_of(error), rule.words(error))
