"""What to write into a RayCluster, from what was decided and what its pods and nodes say. Pure.

`replicas` and `scaleStrategy.workersToDelete` of all worker groups go into one merge patch, which
replaces the whole list. A worker is taken away by naming it and lowering the number by one: the
number alone would let the operator choose which, a name alone would get a replacement (KubeRay
v1.7.0, `reconcilePods`). Names stay in the list until their pods are gone; then the writer takes
them out.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from autoscale.acts import Act, Outcome

NAME = "cluster"
FENCE = "ballast/lease-token"
WANTED = "ballast/wanted-workers"
"""What was decided, by group: `replicas` is more while a node that goes is being replaced."""
LEAVING = (
    "cloud.google.com/impending-node-termination",
    "aws-node-termination-handler/spot-itn",
    "aws-node-termination-handler/scheduled-maintenance",
    "aws-node-termination-handler/asg-lifecycle-termination",
    "ToBeDeletedByClusterAutoscaler",
    "karpenter.sh/disrupted",
    "node.cloudprovider.kubernetes.io/shutdown",
    "node.kubernetes.io/out-of-service",
    "node.kubernetes.io/unreachable",
)
"""Taints by which clouds, autoscalers and Kubernetes say that a node is going. From their
documentation; not tried on a cluster."""


class Group(msgspec.Struct, frozen=True):
    """A worker group that is ours to size."""

    model: str
    pool: str
    group: str
    per_replica: int
    workers_max: int


class Worker(msgspec.Struct, frozen=True):
    """A pod of the RayCluster."""

    name: str
    group: str
    ip: str = ""
    is_running: bool = False
    is_going: bool = False
    """Kubernetes is deleting it."""
    leaving: str = ""
    """Why it or its node is going; empty: it stays."""
    unplaced: str = ""
    """Why no node has room for it, in the scheduler's words; empty: it is placed."""
    born: str = ""
    """RFC 3339."""


class Want(msgspec.Struct, frozen=True):
    """What was decided for one group."""

    workers: int
    """Negative: a Hold; the number stands."""
    may_go: bool = True
    """Replicas that must go have gone."""
    busy: frozenset[str] = frozenset()
    is_replaced: bool = True
    """Enough replicas run on hosts that stay."""


class Patch(msgspec.Struct, frozen=True):
    """What to send, if anything, and why."""

    body: Mapping[str, Any] | None
    acts: tuple[Act, ...]


def workers(pods: Sequence[Mapping[str, Any]], nodes: Sequence[Mapping[str, Any]]) -> list[Worker]:
    """Pods as far as they matter here."""
    going = {n["metadata"]["name"]: why for n in nodes if (why := _leaving(n))}
    return [_worker(pod, going) for pod in pods]


def _worker(pod: Mapping[str, Any], going: Mapping[str, str]) -> Worker:
    meta, status = pod["metadata"], pod.get("status") or {}
    conditions = {c.get("type"): c for c in status.get("conditions") or ()}
    placed = conditions.get("PodScheduled") or {}
    unplaced = ""
    if placed.get("status") == "False" and placed.get("reason") == "Unschedulable":
        unplaced = str(placed.get("message") or "no node has room")[:200]
    return Worker(
        meta["name"],
        (meta.get("labels") or {}).get("ray.io/group", ""),
        status.get("podIP") or "",
        status.get("phase") == "Running"
        and (conditions.get("Ready") or {}).get("status") == "True",
        bool(meta.get("deletionTimestamp")),
        going.get((pod.get("spec") or {}).get("nodeName") or "", "")
        or _disrupted(conditions.get("DisruptionTarget") or {}),
        unplaced,
        meta.get("creationTimestamp") or "",
    )


def _disrupted(condition: Mapping[str, Any]) -> str:
    """Kubernetes says of a pod that it is about to take it: preemption by the scheduler, eviction,
    a taint, a host that shuts down."""
    if condition.get("status") != "True":
        return ""
    return f"Kubernetes is about to take it: {condition.get('reason') or 'no reason given'}"[:200]


def _leaving(node: Mapping[str, Any]) -> str:
    spec = node.get("spec") or {}
    keys = [taint.get("key") for taint in spec.get("taints") or ()]
    found = next((key for key in keys if key in LEAVING), "")
    return f"its node has the taint {found}" if found else ""


def plan(
    cluster: Mapping[str, Any], seen: Sequence[Worker], wants: Mapping[Group, Want], token: int
) -> Patch:
    """The patch that makes the cluster as wanted, under the version that was read."""
    meta, spec = cluster["metadata"], cluster.get("spec") or {}
    written = (meta.get("annotations") or {}).get(FENCE, "0")
    if why := _refused(spec, written, token):
        return Patch(None, tuple(_act(g, "refused", why, -1, -1) for g in wants))
    groups = copy.deepcopy(spec.get("workerGroupSpecs") or [])
    decided = _decided(meta)
    acts = []
    for group, want in wants.items():
        row = next((r for r in groups if r.get("groupName") == group.group), None)
        if row is None:
            acts.append(_act(group, "refused", f"it has no worker group {group.group}", -1, -1))
            continue
        mine = [w for w in seen if w.group == group.group]
        number = decided.get(group.group, int(row.get("replicas") or 0))
        number = number if want.workers < 0 else want.workers
        decided[group.group] = number
        acts.append(_size(row, (group, number), want, mine))
    notes = {FENCE: str(token), WANTED: msgspec.json.encode(decided, order="sorted").decode()}
    body: dict[str, Any] = {
        "metadata": {"resourceVersion": meta["resourceVersion"], "annotations": notes}
    }
    if groups != (spec.get("workerGroupSpecs") or []):
        body["spec"] = {"workerGroupSpecs": groups}
    elif notes.items() <= (meta.get("annotations") or {}).items():
        return Patch(None, tuple(acts))
    return Patch(body, tuple(acts))


def _decided(meta: Mapping[str, Any]) -> dict[str, int]:
    told = (meta.get("annotations") or {}).get(WANTED, "{}")
    try:
        return msgspec.json.decode(told, type=dict[str, int])
    except msgspec.MsgspecError:
        return {}  # somebody's doing: what stands in `replicas` counts


def _refused(spec: Mapping[str, Any], written: str, token: int) -> str:
    if spec.get("enableInTreeAutoscaling"):
        return "enableInTreeAutoscaling is on: its autoscaler would write the same numbers"
    if spec.get("suspend"):
        return "the RayCluster is suspended"
    if written.isdigit() and int(written) > token:
        return f"a later leader (token {written}) wrote it"
    return ""


def _size(row: dict[str, Any], of: tuple[Group, int], want: Want, mine: list[Worker]) -> Act:
    """Set one group's number and names. Mutates `row`."""
    group, decided = of
    if (row.get("numOfHosts") or 1) > 1:
        return _act(group, "refused", "groups of several hosts are not sized here", -1, -1)
    here = {w.name for w in mine}
    before = int(row.get("replicas") or 0)
    named = [n for n in _named(row) if n in here]
    live = [w for w in mine if not w.is_going and w.name not in named]
    most = min(group.workers_max, int(row["maxReplicas"]))
    wanted = min(max(decided, int(row["minReplicas"])), most)
    leaving, stay = [w for w in live if w.leaving], [w for w in live if not w.leaving]
    victims = _victims(stay, want, len(stay) - wanted) if want.workers >= 0 else []
    number = wanted
    if wanted < before:
        # Only as far down as workers are named: none is left to the operator's choice.
        number = max(wanted, min(before, len(stay) - len(victims)))
    if want.is_replaced and sum(w.is_running for w in stay) >= wanted:
        victims += leaving  # their replacements are there
    else:
        number = min(number + len(leaving), most)
    row["replicas"] = number
    _name(row, [*named, *(w.name for w in victims)])
    return _told(group, (wanted, before, number), mine, victims)


def _victims(stay: list[Worker], want: Want, count: int) -> list[Worker]:
    """Whom to let go: those not up, then the newest; never one that still holds replicas."""
    free = [w for w in stay if not w.is_running or (want.may_go and w.ip not in want.busy)]
    newest_first = sorted(free, key=lambda w: w.born, reverse=True)
    return sorted(newest_first, key=lambda w: w.is_running)[: max(0, count)]


def _named(row: Mapping[str, Any]) -> list[str]:
    return list((row.get("scaleStrategy") or {}).get("workersToDelete") or [])


def _name(row: dict[str, Any], names: list[str]) -> None:
    if names != _named(row):
        row["scaleStrategy"] = {"workersToDelete": names}


def _told(
    group: Group, numbers: tuple[int, int, int], mine: list[Worker], victims: list[Worker]
) -> Act:
    wanted, before, number = numbers
    up = sum(w.is_running for w in mine)
    words = [f"{wanted} wanted, {up} of {len(mine)} pods running"]
    if number != before:
        words.append(f"replicas {before} -> {number}")
    if victims:
        words.append("to delete: " + ", ".join(w.name for w in victims))
    words += [f"{w.name}: {w.leaving}" for w in mine if w.leaving]
    short = next((w.unplaced for w in mine if w.unplaced), "")
    outcome: Outcome = "kept" if up == wanted else "coming"
    if number != before or victims:
        outcome = "asked"
    elif short:
        outcome = "stuck"
    if short:
        words.append(f"no room: {short}")
    return _act(group, outcome, "; ".join(words), wanted, up)


def _act(group: Group, outcome: Outcome, reason: str, wanted: int, seen: int) -> Act:
    return Act(NAME, group.model, outcome, reason[:500], wanted, seen, group.pool)
