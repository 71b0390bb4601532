"""Whether a group of engines finds machines in a cluster: nodes, taints, GPUs, drivers, weights.
Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from ballast.cluster_facts import Node, Seen, WantedGroup
from ballast.doctor import Finding, Level
from ballast.messages import Said
from models import gpu as gpus

DRIVER_MIN: Final = 580
"""NVIDIA's R580 is the first for CUDA 13, which vLLM 0.32's torch 2.13 is built with. RECALLED,
from NVIDIA's compatibility table; compare before you rely on it."""
DRIVER_FLOOR: Final = 535
"""Older ones not even the compatibility package in the image helps. RECALLED likewise."""
PRODUCT, DRIVER = "nvidia.com/gpu.product", "nvidia.com/cuda.driver-version.major"
"""Labels of NVIDIA's feature discovery."""
RBAC = Said("cluster.rbac")


def judged(group: WantedGroup, seen: Seen) -> list[Finding]:
    """All findings about one group."""
    return [*_group(group, seen), *_claim(group, seen)]


def _group(group: WantedGroup, seen: Seen) -> Iterator[Finding]:
    subject = Said("cluster.group", name=group.name)
    if seen.nodes is None:
        why = seen.refused.get("nodes", Said("cluster.not_asked"))
        yield Finding(subject, Level.WARN, Said("cluster.no_nodes", why=why), RBAC)
        return
    fitting = [n for n in seen.nodes if group.node_selector.items() <= n.labels.items()]
    usable = [n for n in fitting if not _hindrance(group, n)]
    pods = sum(n.gpus.get(group.resource, 0) // group.count for n in usable) if group.count else 0
    if not fitting:
        level = Level.STOP if group.nodes else Level.WARN
        wanted = ", ".join(f"{k}={v}" for k, v in group.node_selector.items()) or Said(
            "cluster.no_label"
        )
        yield Finding(
            subject, level, Said("cluster.no_node", wanted=wanted), Said("cluster.compare")
        )
        return
    if group.count and pods < group.nodes:
        reasons = sorted({_hindrance(group, n) for n in fitting} - {""})
        more = Said("cluster.because", reasons=reasons) if reasons else ""
        yield Finding(
            subject,
            Level.STOP,
            Said(
                "cluster.no_room",
                nodes=group.nodes,
                count=group.count,
                resource=group.resource,
                pods=pods,
                more=more,
            ),
            Said("cluster.lower"),
        )
    else:
        yield Finding(subject, Level.OK, Said("cluster.room", count=len(usable), pods=pods))
    yield from _hardware(subject, group, fitting)


def _hindrance(group: WantedGroup, node: Node) -> str:
    """Why no pod of the group can start on a node; empty if one can."""
    if not node.is_ready or node.is_cordoned:
        state = "cordoned" if node.is_ready else "not_ready"
        return Said(f"cluster.{state}", name=node.name)
    own = ({"key": group.resource, "operator": "Exists"},) if group.count else ()
    for taint in node.taints:
        if taint.get("effect") in ("NoSchedule", "NoExecute") and not any(
            _tolerates(t, taint) for t in (*group.tolerations, *own)
        ):
            return Said(
                "cluster.tainted",
                name=node.name,
                value=taint.get("key"),
                value_2=taint.get("value", ""),
            )
    return ""


def _tolerates(toleration: dict[str, str], taint: object) -> bool:
    assert hasattr(taint, "get"), "a taint is a mapping"
    if toleration.get("effect") and toleration["effect"] != taint.get("effect"):
        return False
    is_any = toleration.get("operator") == "Exists"
    if not toleration.get("key"):
        return is_any
    is_same = toleration["key"] == taint.get("key")
    return is_same and (is_any or toleration.get("value", "") == taint.get("value", ""))


def _hardware(subject: str, group: WantedGroup, nodes: Sequence[Node]) -> Iterator[Finding]:
    """Whether labels tell of another GPU than the group says, or of an old driver."""
    products = {n.labels[PRODUCT] for n in nodes if PRODUCT in n.labels}
    for product in sorted(products) if group.kind else ():
        try:
            found = gpus.load().gpu(product).id
        except gpus.UnknownGpuError:
            yield Finding(
                subject,
                Level.WARN,
                Said("cluster.unknown_gpu", product=product),
                Said("cluster.sure_kind", kind=group.kind),
            )
            continue
        if found != group.kind:
            yield Finding(
                subject,
                Level.STOP,
                Said("cluster.other_gpu", product=product, found=found, kind=group.kind),
                Said("cluster.mend_kind"),
            )
    drivers = [int(n.labels[DRIVER]) for n in nodes if n.labels.get(DRIVER, "").isdigit()]
    if group.kind and not drivers:
        yield Finding(
            subject,
            Level.WARN,
            Said("cluster.no_driver"),
            Said("cluster.sure_driver", driver_min=DRIVER_MIN),
        )
    elif drivers and min(drivers) < DRIVER_MIN:
        level = Level.STOP if min(drivers) < DRIVER_FLOOR else Level.WARN
        yield Finding(
            subject,
            level,
            Said("cluster.driver", drivers=min(drivers), driver_min=DRIVER_MIN),
            Said("cluster.update_driver"),
        )


def _claim(group: WantedGroup, seen: Seen) -> Iterator[Finding]:
    if group.claim and seen.claims.get(group.claim) != "Bound":
        phase = seen.claims.get(group.claim, "Missing")
        yield Finding(
            Said("cluster.group", name=group.name),
            Level.STOP,
            Said("cluster.claim", claim=group.claim, phase=phase),
            Said("cluster.make_claim"),
        )
