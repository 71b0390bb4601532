"""How the controller makes its decisions true: lease, Ray Serve, cluster, machines. Read by the
controller alone; `controller.is_dry_run` turns all of it off."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


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


class Acting(Group):
    """All of it."""

    lease: LeaseSettings = LeaseSettings()
    cluster: ClusterSettings = ClusterSettings()

    @model_validator(mode="after")
    def _has_a_namespace(self) -> Self:
        if self.lease.kind == "kubernetes" and not self.cluster.namespace:
            raise ValueError("lease.kind kubernetes: name cluster.namespace")
        return self
