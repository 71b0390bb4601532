"""From the settings to a lease and actuators: the part of the composition that acts."""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path

from autoscale.actuators.base import Actuator
from autoscale.actuators.dry_run import DryRun
from autoscale.actuators.serve import ServeActuator
from autoscale.bookkeeping import Bookkeeper
from autoscale.briefing import policy_of
from autoscale.cluster_api import ClusterApi
from autoscale.controller import Parts
from autoscale.lease import Lease
from autoscale.lease_file import FileLease
from autoscale.lease_kubernetes import KubernetesLease
from autoscale.renting import renting
from autoscale.serve_api import ServeApi
from serving import logs
from serving.settings import Settings, SettingsError

TICKS_A_LEASE = 3
"""Renewed once a tick: two may fail before the lease is lost."""


async def parts_of(
    settings: Settings, state: Path, books: Bookkeeper | None, held: AsyncExitStack
) -> Parts:
    """Everything the controller works with; what must be closed goes into `held`. Raises
    SettingsError for what contradicts itself."""
    given = settings.controller
    lease_s, clock = given.acting.lease.seconds, asyncio.get_running_loop().time
    if lease_s < TICKS_A_LEASE * given.tick_s:
        raise SettingsError(
            f"controller.acting.lease.seconds: {lease_s:g} is less than {TICKS_A_LEASE} times"
            f" controller.tick_s ({given.tick_s:g}): it would run out between two ticks"
        )
    lease: Lease = FileLease(state / "controller" / "lease", lease_s, clock, logs.utc_ms)
    if given.acting.lease.kind == "kubernetes":
        where = given.acting.cluster
        api = await held.enter_async_context(ClusterApi(where.kubeconfig, where.context))
        name = where.namespace, given.acting.lease.name
        lease = KubernetesLease(api, name, holder(), lease_s, (clock, logs.utc_ms))
    fleet = settings.fleet
    serve = ServeApi(fleet.serve_url, fleet.ray_token_file) if fleet.serve_url else None
    actuators: list[Actuator] = []
    if given.is_dry_run:
        actuators.append(DryRun())
    else:
        policy = policy_of(settings, datetime.now(UTC).date())
        nodes = (lambda: serve.nodes) if serve is not None else dict
        actuators += renting(settings, policy, state / "controller", nodes)
        if serve is not None:
            actuators.append(ServeActuator(serve))
    if not actuators:
        raise SettingsError(
            "controller.is_dry_run: `false`, but there is nothing to act on: name fleet.serve_url"
            " or controller.acting.machines"
        )
    return Parts(lease, tuple(actuators), serve, books)


def holder() -> str:
    """Who we are to other controllers: host, process and start, so that a restart is another."""
    return f"{socket.gethostname()}_{os.getpid()}_{logs.utc_ms()}"
