"""Sizes the worker groups of one RayCluster through the Kubernetes API."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import aiohttp

from autoscale.acts import Act, Outcome
from autoscale.actuators import cluster_rule as rule
from autoscale.actuators.base import Actuator, Order
from autoscale.cluster_api import AWAY, ApiError, ClusterApi
from autoscale.lease import Fence, FencedError
from autoscale.records import Scale
from autoscale.watched import Watched

CALL_S, WAIT_S_MAX = 5.0, 60.0
CONFLICT, BAD = 409, (400, 403, 404, 422)


class Followed(NamedTuple):
    """Copies that somebody keeps up to date."""

    pods: Watched
    nodes: Watched


class ClusterActuator(Actuator):
    """Reads the RayCluster at each tick; pods and nodes come from watches."""

    name = rule.NAME

    def __init__(
        self, api: ClusterApi, path: str, groups: tuple[rule.Group, ...], followed: Followed,
        serve: Callable[[], Mapping[str, Mapping[str, int]]],
    ) -> None:  # fmt: skip
        self._api = api
        self._path = path
        self._groups = groups
        self._followed = followed
        self._serve = serve
        self._short: tuple[str, ...] = ()
        self._wait_ms = 0
        self._decided: dict[str, int] = {}
        """Replicas, by model, as decided last."""

    def short(self, at_ms: int) -> tuple[str, ...]:  # noqa: ARG002 - protocol
        """See `Actuator`: pools with pods for which no node has room."""
        return self._short

    def hosts(self) -> Mapping[str, str]:
        """See `Actuator`."""
        pools = {group.group: group.pool for group in self._groups}
        return {w.ip: pools[w.group] for w in self._workers() or () if w.ip and w.group in pools}

    async def apply(
        self,
        order: Order,
        fence: Fence,
        session: aiohttp.ClientSession,  # noqa: ARG002 - protocol
    ) -> tuple[Act, ...]:
        """See `Actuator`."""
        at_ms = order.samples.at_ms
        if 0 < self._wait_ms - at_ms <= WAIT_S_MAX * 1e3:
            return self._all("unknown", "the Kubernetes API asked us to wait")
        workers = self._workers()
        if workers is None:
            return self._all("unknown", f"{self._followed.pods.why}; {self._followed.nodes.why}")
        self._short = self._unplaced(workers)
        try:
            cluster = await self._api.get(self._path, fence.left_s(CALL_S))
            patch = rule.plan(cluster, workers, self._wants(order), fence.token)
            if patch.body is not None:
                await self._api.merge(self._path, patch.body, fence.left_s(CALL_S))
        except FencedError as late:
            return self._all("fenced", str(late))
        except AWAY as error:
            return self._failed(error, at_ms)
        return patch.acts

    def _failed(self, error: Exception, at_ms: int) -> tuple[Act, ...]:
        if not isinstance(error, ApiError):
            return self._all("unknown", f"{type(error).__name__}: {error}")
        if error.status == CONFLICT:
            return self._all(
                "unknown", "the RayCluster was changed meanwhile; the next tick reads it"
            )
        self._wait_ms = at_ms + round(min(error.retry_after_s, WAIT_S_MAX) * 1e3)
        return self._all("refused" if error.status in BAD else "unknown", str(error))

    def _workers(self) -> list[rule.Worker] | None:
        pods, nodes = self._followed.pods.objects(), self._followed.nodes.objects()
        return None if pods is None or nodes is None else rule.workers(pods, nodes)

    def _unplaced(self, workers: list[rule.Worker]) -> tuple[str, ...]:
        without = {w.group for w in workers if w.unplaced}
        return tuple(f"{g.model}/{g.pool}" for g in self._groups if g.group in without)

    def leaving(self) -> Mapping[str, int]:
        """See `Actuator`."""
        going = {w.ip for w in self._workers() or () if w.leaving and w.ip}
        counts = {
            model: sum(n for host, n in hosts.items() if host in going)
            for model, hosts in self._serve().items()
        }
        return {model: count for model, count in counts.items() if count}

    def _wants(self, order: Order) -> dict[rule.Group, rule.Want]:
        decisions: dict[str, Any] = {d.model: d for d in order.decisions}
        hosts = self._serve()
        found = {}
        for group in self._groups:
            decision = decisions.get(group.model)
            engines = (order.samples.engines or {}).get(group.model)
            leaving = order.samples.leaving.get(group.model, 0)
            if isinstance(decision, Scale):
                self._decided[group.model] = decision.replicas
            needed = self._decided.get(group.model)
            # Unknown after a restart: then nobody is let go early.
            is_replaced = not leaving or (
                engines is not None and needed is not None and engines.running - leaving >= needed
            )
            if not isinstance(decision, Scale):
                found[group] = rule.Want(-1, is_replaced=is_replaced)
                continue
            may_go = engines is not None and (
                engines.running + engines.stopping <= decision.replicas
            )
            workers = decision.pools.get(group.pool, 0) * group.per_replica
            busy = frozenset(hosts.get(group.model, {}))
            found[group] = rule.Want(workers, may_go, busy, is_replaced)
        return found

    def _all(self, outcome: Outcome, reason: str) -> tuple[Act, ...]:
        return tuple(
            Act(self.name, g.model, outcome, reason[:500], pool=g.pool) for g in self._groups
        )
