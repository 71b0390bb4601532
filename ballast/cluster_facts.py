"""What a release wants of a cluster, and what was seen there. Values only.

`Wanted` is written by the chart (`ballast.clusterFacts`); nothing in it is secret.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from ballast.messages import Said
from ballast.problem import ProblemError
from serving.settings import EXIT_CODE
from serving.unreadable import UNREADABLE


class WantedGroup(Struct, frozen=True, forbid_unknown_fields=True):
    """One kind of machine for engines."""

    name: str
    terms: str
    kind: str
    """Key of `models/gpus.yaml`; empty: no GPU."""
    count: int
    """GPUs of one pod."""
    resource: str
    nodes: int
    """Pods at the first install."""
    node_selector: dict[str, str] = {}
    tolerations: tuple[dict[str, Any], ...] = ()
    claim: str = ""
    """Volume with its weights, which must be there."""


class Reachable(Struct, frozen=True, forbid_unknown_fields=True):
    """A provider that some tenant's data may reach."""

    id: str
    host: str
    port: int


class Wanted(Struct, frozen=True, forbid_unknown_fields=True):
    """All that a release needs."""

    namespace: str
    ray: bool
    groups: tuple[WantedGroup, ...] = ()
    storage_classes: tuple[str, ...] = ()
    """Empty name: the cluster's default."""
    crds: tuple[str, ...] = ()
    reachable: tuple[Reachable, ...] = ()
    egress: str = ""
    network_policy: bool = True
    asks_providers: bool = True


class Node(Struct, frozen=True):
    """A machine of the cluster."""

    name: str
    labels: Mapping[str, str]
    gpus: Mapping[str, int]
    """Allocatable, by resource."""
    taints: tuple[Mapping[str, str], ...] = ()
    is_ready: bool = True
    is_cordoned: bool = False


class StorageClass(Struct, frozen=True):
    """A way to make volumes."""

    name: str
    is_default: bool


class Seen(Struct, frozen=True):
    """What the cluster answered; a part that it refused to tell is None and named in `refused`."""

    version: str = ""
    nodes: tuple[Node, ...] | None = None
    classes: tuple[StorageClass, ...] | None = None
    crds: Mapping[str, bool] = {}
    """By name: whether it has the fields that the chart writes."""
    kuberay: str | None = None
    """Version of its operator; None: none was found."""
    claims: Mapping[str, str] = {}
    """Phase of each claim asked for; `Missing`."""
    refused: Mapping[str, str] = {}
    """Why a question had no answer."""


class Answer(Struct, frozen=True):
    """How a provider or hub answered one harmless question."""

    name: str
    status: int
    """0: there was no answer."""
    reason: str = ""


def read(path: Path) -> Wanted:
    """The chart's file. Raises ProblemError."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Wanted)
    except OSError as error:
        raise ProblemError(
            Said("cluster.cannot_read_file", path=path, strerror=error.strerror),
            Said("cluster.take_values"),
        ) from None
    except UNREADABLE as error:
        raise ProblemError(
            f"{path}: {error}", Said("cluster.let_write"), exit_code=EXIT_CODE
        ) from None
