"""From the settings to a lease and actuators: the part of the composition that acts."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeAlias

from autoscale.actuators.cluster import ClusterActuator, Followed
from autoscale.actuators.cluster_rule import Group
from autoscale.actuators.dry_run import DryRun
from autoscale.actuators.serve import ServeActuator
from autoscale.bookkeeping import Bookkeeper
from autoscale.briefing import policy_of
from autoscale.cluster_api import ClusterApi
from autoscale.controller import Parts
from autoscale.lease import Lease
from autoscale.lease_file import FileLease
from autoscale.lease_kubernetes import KubernetesLease
from autoscale.renting import Busy, grouped, renting
from autoscale.serve_api import ServeApi
from autoscale.watched import Watched
from models.worded import Worded
from serving import logs
from serving.settings import Settings, SettingsError

Hosts: TypeAlias = Callable[[], Mapping[str, Mapping[str, int]]]
TICKS_A_LEASE = 3
"""Renewed once a tick: two may fail before the lease is lost."""


async def parts_of(
    settings: Settings, state: Path, books: Bookkeeper | None, held: AsyncExitStack
) -> Parts:
    """Everything the controller works with; what must be closed goes into `held`. Raises
    SettingsError for what contradicts itself."""
    api = None
    if _needs_cluster(settings):
        where = settings.controller.acting.cluster
        api = await held.enter_async_context(ClusterApi(where.kubeconfig, where.context))
    lease = _lease(settings, state, api)
    fleet = settings.fleet
    serve = ServeApi(fleet.serve_url, fleet.ray_token_file) if fleet.serve_url else None
    if settings.controller.is_dry_run:
        return Parts(lease, (DryRun(),), serve, books)
    policy = policy_of(settings, datetime.now(UTC).date())
    busy: Busy = serve.busy if serve is not None else dict
    actuators = renting(settings, policy, state / "controller", busy)
    if groups := grouped(settings, policy):
        assert api is not None
        hosts: Hosts = (lambda: serve.hosts) if serve is not None else dict
        actuators.append(await _cluster(settings, api, groups, (hosts, held)))
    if serve is not None:
        actuators.append(ServeActuator(serve))
    if not actuators:
        raise SettingsError(
            Worded(
                "settings.nothing_to_act_on",
                "controller.is_dry_run: `false`, but there is nothing to act on: name "
                "fleet.serve_url or controller.acting.machines",
            )
        )
    return Parts(lease, tuple(actuators), serve, books)


def _needs_cluster(settings: Settings) -> bool:
    acting = settings.controller.acting
    is_sized = any(one.by == "cluster" for one in acting.machines)
    is_live = not settings.controller.is_dry_run
    return acting.lease.kind == "kubernetes" or (is_live and is_sized)


def _lease(settings: Settings, state: Path, api: ClusterApi | None) -> Lease:
    given, clock = settings.controller, asyncio.get_running_loop().time
    lease = given.acting.lease
    if lease.seconds < TICKS_A_LEASE * given.tick_s:
        raise SettingsError(
            Worded(
                "settings.lease_short",
                "controller.acting.lease.seconds: {seconds} is less than "
                "{ticks_a_lease} times controller.tick_s ({tick_s}): it would run out "
                "between two ticks",
                seconds=f"{lease.seconds:g}",
                ticks_a_lease=TICKS_A_LEASE,
                tick_s=f"{given.tick_s:g}",
            )
        )
    if lease.kind == "file":
        return FileLease(state / "controller" / "lease", lease.seconds, clock, logs.utc_ms)
    assert api is not None
    name = given.acting.cluster.namespace, lease.name
    return KubernetesLease(api, name, holder(), lease.seconds, (clock, logs.utc_ms))


async def _cluster(
    settings: Settings, api: ClusterApi, groups: tuple[Group, ...],
    more: tuple[Hosts, AsyncExitStack],
) -> ClusterActuator:  # fmt: skip
    """The RayCluster's actuator, and the tasks that follow its pods and nodes."""
    where, clock = settings.controller.acting.cluster, asyncio.get_running_loop().time
    hosts, held = more
    pods = f"/api/v1/namespaces/{where.namespace}/pods"
    selector = f"ray.io/cluster={where.ray_cluster}"
    followed = Followed(
        Watched(api, pods, selector, clock), Watched(api, "/api/v1/nodes", "", clock)
    )
    for one in followed:
        task = asyncio.create_task(one.follow(), name="watch")
        held.push_async_callback(_ended, task)
    path = f"/apis/ray.io/v1/namespaces/{where.namespace}/rayclusters/{where.ray_cluster}"
    return ClusterActuator(api, path, groups, followed, hosts)


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])


def holder() -> str:
    """Who we are to other controllers: host, process and start, so that a restart is another."""
    return f"{socket.gethostname()}_{os.getpid()}_{logs.utc_ms()}"
