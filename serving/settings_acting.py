"""How the controller makes its decisions true: lease, Ray Serve, cluster, machines. Read by the
controller alone; `controller.is_dry_run` turns all of it off."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from models.worded import Worded
from serving.settings_scaling import Money


class Group(BaseModel):
    """Frozen, and refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class LeaseSettings(Group):
    """Where a deployment's controllers agree who leads."""

    kind: Literal["file", "kubernetes"] = "file"
    """`file`: a lock in the state folder, for one machine."""
    seconds: float = Field(15.0, ge=3, le=300)
    """After the last renewal; others begin then. Renewed at each tick, so at least three ticks."""
    name: str = Field("ballast-controller", pattern=r"^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?$")


class ClusterSettings(Group):
    """The Kubernetes cluster we run in or reach."""

    namespace: str = Field("", pattern=r"^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)?$")
    """Of the lease, and of the RayCluster."""
    kubeconfig: Path | None = None
    """None: the service account of the pod we run in."""
    context: str = ""
    """Of the kubeconfig; empty: its current one."""
    ray_cluster: str = Field("", max_length=63)
    """The RayCluster whose worker groups `machines` name."""


class MachineSettings(Group):
    """Who rents the machines of one pool, and how far. One entry a pool: one writer of it."""

    model: str
    pool: str
    """As in `scaling.pools`."""
    by: Literal["cluster", "exec", "webhook", "skypilot", "advice"]
    """A worker group of the RayCluster; a program of yours; a web service of yours that is told the
    number; SkyPilot; people."""
    group: str = Field("", max_length=63)
    """Of `cluster`: the worker group's name."""
    argv: tuple[str, ...] = ()
    """Of `exec`: run as it stands, without a shell (see `docs/controller.md`)."""
    url: str = Field("", pattern=r"^(https?://[^@\s]+)?$")
    """Of `webhook`."""
    secret_file: Path | None = None
    """Of `webhook`: signs each message."""
    task: Path | None = None
    """Of `skypilot`: a task file that starts an engine."""
    accelerators: str = Field("", max_length=64)
    """Of `skypilot`: `H100:1`."""
    term_ends: date | None = None
    """Of `advice` and a reserved pool; none: the month's last day."""
    max_rented: int = Field(0, ge=0, le=1000)
    """Machines at most, whatever was decided; 0 rents none."""
    hour_max: Money | None = None
    """Money an hour at most, in `scaling.currency`, as the provider's own list says."""
    rise_max: float = Field(0.1, ge=0, le=10)
    """An offer dearer than the pool's `hour` by more than this share is not taken."""
    per_replica: int = Field(1, ge=1, le=64)
    """Machines that one replica needs."""
    call_s: float = Field(20.0, gt=0, le=300)
    """Longest request to the provider; the lease bounds it too."""

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        needs = {
            "cluster": ("group",), "exec": ("argv",), "webhook": ("url",),
            "skypilot": ("task", "accelerators"), "advice": (),
        }[self.by]  # fmt: skip
        if lacking := [name for name in needs if not getattr(self, name)]:
            template = "by {by}: name {names}"
            raise ValueError(Worded("settings.lacks", template, by=self.by, names=lacking))
        if self.by != "advice" and not self.max_rented:
            raise ValueError(
                Worded("settings.max_rented", "max_rented: say how many machines it may rent")
            )
        return self


class Acting(Group):
    """All of it."""

    lease: LeaseSettings = LeaseSettings()
    cluster: ClusterSettings = ClusterSettings()
    machines: tuple[MachineSettings, ...] = Field((), max_length=256)

    @model_validator(mode="after")
    def _has_a_namespace(self) -> Self:
        if self.lease.kind == "kubernetes" and not self.cluster.namespace:
            raise ValueError(
                Worded("settings.lease_namespace", "lease.kind kubernetes: name cluster.namespace")
            )
        groups = [one.group for one in self.machines if one.by == "cluster"]
        if groups and not (self.cluster.ray_cluster and self.cluster.namespace):
            raise ValueError(
                Worded(
                    "settings.machines_cluster",
                    "machines by cluster: name cluster.ray_cluster and cluster.namespace",
                )
            )
        if len(set(groups)) < len(groups):
            raise ValueError(
                Worded("settings.two_groups", "machines: two entries for one worker group")
            )
        pools = [(one.model, one.pool) for one in self.machines]
        if len(set(pools)) < len(pools):
            raise ValueError(
                Worded(
                    "settings.two_entries",
                    "machines: two entries for one pool would write the same number",
                )
            )
        return self
