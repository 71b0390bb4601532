"""What in a cluster would stop a release, and how to mend it. Pure: judges what was seen."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

from ballast.cluster_facts import Answer, Node, Seen, Wanted, WantedGroup
from ballast.doctor import Finding, Level
from models import gpu as gpus
from serving.settings import Settings

KUBERNETES_MIN: Final = (1, 29)
"""The chart's own: sidecar containers."""
KUBERAY_MIN: Final = (1, 6)
"""The first whose RayCluster takes Ray's token from a Secret of ours (its change 4554)."""
DRIVER_MIN: Final = 580
"""NVIDIA's R580 is the first for CUDA 13, which vLLM 0.32's torch 2.13 is built with. RECALLED,
from NVIDIA's compatibility table; compare before you rely on it."""
DRIVER_FLOOR: Final = 535
"""Older ones not even the compatibility package in the image helps. RECALLED likewise."""
PRODUCT, DRIVER = "nvidia.com/gpu.product", "nvidia.com/cuda.driver-version.major"
"""Labels of NVIDIA's feature discovery."""
RBAC = "let the chart make its preflight's ClusterRole, or look with an account that may list it"


def examine(wanted: Wanted, seen: Seen, settings: Settings) -> list[Finding]:
    """All findings about the cluster, in the order of the checks."""
    found = [
        *_version(seen), *_kinds(wanted, seen), *_kuberay(wanted, seen),
        *_classes(wanted, seen), *_policy(wanted),
    ]  # fmt: skip
    for group in wanted.groups:
        found += [*_group(group, seen), *_claim(group, seen)]
    return [*found, *_models(wanted, settings)]


def _version(seen: Seen) -> Iterator[Finding]:
    if why := seen.refused.get("version"):
        yield Finding("kubernetes", Level.STOP, f"its API does not answer: {why}",
                      "look at networkPolicy.apiServerCidrs and the pod's DNS")  # fmt: skip
        return
    level = Level.OK if _numbers(seen.version) >= KUBERNETES_MIN else Level.STOP
    remedy = "" if level is Level.OK else "upgrade the cluster to 1.29 or newer"
    yield Finding("kubernetes", level, seen.version or "no version told", remedy)


def _kinds(wanted: Wanted, seen: Seen) -> Iterator[Finding]:
    for name in wanted.crds:
        if why := seen.refused.get(name):
            yield Finding("kinds", Level.WARN, f"{name}: could not be looked at: {why}", RBAC)
        elif name not in seen.crds:
            remedy = "install what brings it, or switch off what needs it in the values"
            yield Finding("kinds", Level.STOP, f"{name} is not there", remedy)
        elif not seen.crds[name]:
            yield Finding("kinds", Level.STOP, f"{name} is too old: it lacks fields of the chart",
                          "upgrade its definition: Helm does not, kubectl apply --server-side"
                          " does")  # fmt: skip
        else:
            yield Finding("kinds", Level.OK, name)


def _kuberay(wanted: Wanted, seen: Seen) -> Iterator[Finding]:
    if not wanted.ray:
        return
    if why := seen.refused.get("kuberay"):
        yield Finding("kuberay", Level.WARN, f"could not be looked for: {why}", RBAC)
    elif seen.kuberay is None:
        yield Finding("kuberay", Level.STOP, "no operator was found in any namespace",
                      "install KubeRay 1.6 or newer")  # fmt: skip
    elif not _numbers(seen.kuberay):
        yield Finding("kuberay", Level.WARN, f"its version is not told by {seen.kuberay!r}",
                      "make sure that it is 1.6 or newer")  # fmt: skip
    elif _numbers(seen.kuberay) < KUBERAY_MIN:
        yield Finding("kuberay", Level.STOP, f"{seen.kuberay} knows no token from a Secret",
                      "upgrade it to 1.6 or newer, definitions first")  # fmt: skip
    else:
        yield Finding("kuberay", Level.OK, seen.kuberay)


def _classes(wanted: Wanted, seen: Seen) -> Iterator[Finding]:
    for name in wanted.storage_classes:
        called = name or "the default"
        if seen.classes is None:
            why = seen.refused.get("storage", "not asked")
            yield Finding("storage", Level.WARN, f"{called}: could not be looked at: {why}", RBAC)
        elif not any(c.name == name if name else c.is_default for c in seen.classes):
            known = ", ".join(c.name for c in seen.classes) or "none"
            yield Finding("storage", Level.STOP, f"no storage class {called}; there are: {known}",
                          "name one in gateway.state.storageClass")  # fmt: skip
        else:
            yield Finding("storage", Level.OK, called)


def _policy(wanted: Wanted) -> Iterator[Finding]:
    if not wanted.network_policy:
        yield Finding("network", Level.WARN, "no policy: every pod may reach every address",
                      "switch networkPolicy.enabled on")  # fmt: skip
    elif wanted.egress == "open" and wanted.reachable:
        yield Finding("network", Level.WARN, "egress is open: any public address on 443; only the"
                      " router keeps data from providers",
                      "networkPolicy.egress.mode proxy or cilium")  # fmt: skip


def _group(group: WantedGroup, seen: Seen) -> Iterator[Finding]:
    subject = f"group {group.name}"
    if seen.nodes is None:
        why = seen.refused.get("nodes", "not asked")
        yield Finding(subject, Level.WARN, f"nodes could not be looked at: {why}", RBAC)
        return
    fitting = [n for n in seen.nodes if group.node_selector.items() <= n.labels.items()]
    usable = [n for n in fitting if not _hindrance(group, n)]
    pods = sum(n.gpus.get(group.resource, 0) // group.count for n in usable) if group.count else 0
    if not fitting:
        level = Level.STOP if group.nodes else Level.WARN
        wanted = ", ".join(f"{k}={v}" for k, v in group.node_selector.items()) or "no label"
        yield Finding(subject, level, f"no node has {wanted}",
                      "compare nodeSelector with `kubectl get nodes --show-labels`; fine where"
                      " nodes come on demand")  # fmt: skip
        return
    if group.count and pods < group.nodes:
        reasons = sorted({_hindrance(group, n) for n in fitting} - {""})
        more = f" ({'; '.join(reasons)})" if reasons else ""
        yield Finding(subject, Level.STOP, f"{group.nodes} pods of {group.count} {group.resource}"
                      f" wanted, there is room for {pods}{more}",
                      "lower replicas, tolerate the taint, or add machines")  # fmt: skip
    else:
        yield Finding(subject, Level.OK, f"{len(usable)} nodes, room for {pods} pods")
    yield from _hardware(subject, group, fitting)


def _hindrance(group: WantedGroup, node: Node) -> str:
    """Why no pod of the group can start on a node; empty if one can."""
    if not node.is_ready or node.is_cordoned:
        return f"{node.name} is {'cordoned' if node.is_ready else 'not ready'}"
    own = ({"key": group.resource, "operator": "Exists"},) if group.count else ()
    for taint in node.taints:
        if taint.get("effect") in ("NoSchedule", "NoExecute") and not any(
            _tolerates(t, taint) for t in (*group.tolerations, *own)
        ):
            return f"{node.name} has taint {taint.get('key')}={taint.get('value', '')}"
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
            yield Finding(subject, Level.WARN, f"GPU {product} is none that the catalogue knows",
                          f"make sure that it is a {group.kind}")  # fmt: skip
            continue
        if found != group.kind:
            yield Finding(subject, Level.STOP, f"its nodes have {product} ({found}), it says"
                          f" {group.kind}", "mend gpu.kind or nodeSelector")  # fmt: skip
    drivers = [int(n.labels[DRIVER]) for n in nodes if n.labels.get(DRIVER, "").isdigit()]
    if group.kind and not drivers:
        yield Finding(subject, Level.WARN, "no label tells its nodes' driver",
                      f"make sure that it is {DRIVER_MIN} or newer")  # fmt: skip
    elif drivers and min(drivers) < DRIVER_MIN:
        level = Level.STOP if min(drivers) < DRIVER_FLOOR else Level.WARN
        yield Finding(subject, level, f"driver {min(drivers)}; CUDA 13 wants {DRIVER_MIN}",
                      "update the driver, or put NVIDIA's compatibility package into the engine"
                      " image")  # fmt: skip


def _claim(group: WantedGroup, seen: Seen) -> Iterator[Finding]:
    if group.claim and seen.claims.get(group.claim) != "Bound":
        phase = seen.claims.get(group.claim, "Missing")
        yield Finding(f"group {group.name}", Level.STOP, f"claim {group.claim}: {phase}",
                      "make it and fill it with weights first")  # fmt: skip


def _models(wanted: Wanted, settings: Settings) -> Iterator[Finding]:
    """Whether each model's engine finds a machine with enough GPUs of its kind. That the weights
    fit into those GPUs was computed when the settings were read."""
    for model in settings.models if wanted.ray else ():
        if model.engine is None or not model.gpu:
            continue
        needs = model.layout.gpus or 1
        same = [g for g in wanted.groups if g.kind == gpus.load().gpu(model.gpu).id]
        if any(g.count >= needs for g in same):
            yield Finding(f"model {model.name}", Level.OK, f"{needs} x {model.gpu} per engine")
        else:
            most = max((g.count for g in same), default=0)
            yield Finding(f"model {model.name}", Level.STOP,
                          f"its engine needs {needs} x {model.gpu} in one pod, no group has more"
                          f" than {most}", "add a group, or lay it out on fewer GPUs")  # fmt: skip


def asked(answers: Sequence[Answer]) -> Iterator[Finding]:
    """What providers and hubs answered."""
    for answer in answers:
        if answer.status == 0:
            level = Level.WARN if answer.name.startswith("weights") else Level.STOP
            yield Finding(answer.name, level, f"no answer: {answer.reason}",
                          "look at networkPolicy.egress, DNS and the proxy")  # fmt: skip
        elif answer.status in (401, 403):
            yield Finding(answer.name, Level.STOP, f"answered {answer.status}: the key or token is"
                          " refused", "put a good one into its Secret")  # fmt: skip
        elif answer.status == 404 and answer.name.startswith("weights"):
            yield Finding(answer.name, Level.STOP, "the hub knows no such model",
                          "mend engine.source; a gated model is shown to a token only")  # fmt: skip
        else:
            yield Finding(answer.name, Level.OK, f"answered {answer.status}")


def _numbers(text: str) -> tuple[int, ...]:
    """`v1.33.2+k3s1` -> (1, 33); empty where no version stands."""
    found = re.search(r"(\d+)\.(\d+)", text)
    return tuple(map(int, found.groups())) if found else ()
