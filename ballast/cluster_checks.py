"""What in a cluster would stop a release, and how to mend it. Pure: judges what was seen."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

from ballast import cluster_groups
from ballast.cluster_facts import Answer, Seen, Wanted
from ballast.doctor import Finding, Level
from ballast.messages import Said
from models import gpu as gpus
from serving.settings import Settings

KUBERNETES_MIN: Final = (1, 29)
"""The chart's own: sidecar containers."""
KUBERAY_MIN: Final = (1, 6)
"""The first whose RayCluster takes Ray's token from a Secret of ours (its change 4554)."""


def examine(wanted: Wanted, seen: Seen, settings: Settings) -> list[Finding]:
    """All findings about the cluster, in the order of the checks."""
    found = [
        *_version(seen), *_kinds(wanted, seen), *_kuberay(wanted, seen),
        *_classes(wanted, seen), *_policy(wanted),
    ]  # fmt: skip
    for group in wanted.groups:
        found += [*cluster_groups.judged(group, seen)]
    return [*found, *_models(wanted, settings)]


def _version(seen: Seen) -> Iterator[Finding]:
    if why := seen.refused.get("version"):
        yield Finding(
            "kubernetes", Level.STOP, Said("cluster.no_api", why=why), Said("cluster.look_servers")
        )
        return
    level = Level.OK if _numbers(seen.version) >= KUBERNETES_MIN else Level.STOP
    remedy = "" if level is Level.OK else Said("cluster.upgrade_cluster")
    yield Finding("kubernetes", level, seen.version or Said("cluster.no_version"), remedy)


def _kinds(wanted: Wanted, seen: Seen) -> Iterator[Finding]:
    for name in wanted.crds:
        if why := seen.refused.get(name):
            yield Finding(
                "kinds",
                Level.WARN,
                Said("cluster.not_looked_at", name=name, why=why),
                cluster_groups.RBAC,
            )
        elif name not in seen.crds:
            remedy = Said("cluster.install_kind")
            yield Finding("kinds", Level.STOP, Said("cluster.not_there", name=name), remedy)
        elif not seen.crds[name]:
            yield Finding(
                "kinds",
                Level.STOP,
                Said("cluster.too_old", name=name),
                Said("cluster.upgrade_kind"),
            )
        else:
            yield Finding("kinds", Level.OK, name)


def _kuberay(wanted: Wanted, seen: Seen) -> Iterator[Finding]:
    if not wanted.ray:
        return
    if why := seen.refused.get("kuberay"):
        yield Finding(
            "kuberay", Level.WARN, Said("cluster.not_looked_for", why=why), cluster_groups.RBAC
        )
    elif seen.kuberay is None:
        yield Finding(
            "kuberay", Level.STOP, Said("cluster.no_operator"), Said("cluster.install_kuberay")
        )
    elif not _numbers(seen.kuberay):
        yield Finding(
            "kuberay",
            Level.WARN,
            Said("cluster.untold_version", kuberay=f"{seen.kuberay!r}"),
            Said("cluster.make_sure"),
        )
    elif _numbers(seen.kuberay) < KUBERAY_MIN:
        yield Finding(
            "kuberay",
            Level.STOP,
            Said("cluster.no_token", kuberay=seen.kuberay),
            Said("cluster.upgrade_kuberay"),
        )
    else:
        yield Finding("kuberay", Level.OK, seen.kuberay)


def _classes(wanted: Wanted, seen: Seen) -> Iterator[Finding]:
    for name in wanted.storage_classes:
        called = name or Said("cluster.default")
        if seen.classes is None:
            why = seen.refused.get("storage", Said("cluster.not_asked"))
            yield Finding(
                "storage",
                Level.WARN,
                Said("cluster.not_looked_at_called", called=called, why=why),
                cluster_groups.RBAC,
            )
        elif not any(c.name == name if name else c.is_default for c in seen.classes):
            known = ", ".join(c.name for c in seen.classes) or "none"
            yield Finding(
                "storage",
                Level.STOP,
                Said("cluster.no_class", called=called, known=known),
                Said("cluster.name_class"),
            )
        else:
            yield Finding("storage", Level.OK, called)


def _policy(wanted: Wanted) -> Iterator[Finding]:
    if not wanted.network_policy:
        yield Finding("network", Level.WARN, Said("cluster.no_policy"), Said("cluster.policy_on"))
    elif wanted.egress == "open" and wanted.reachable:
        yield Finding(
            "network", Level.WARN, Said("cluster.open_egress"), Said("cluster.egress_mode")
        )


def _models(wanted: Wanted, settings: Settings) -> Iterator[Finding]:
    """Whether each model's engine finds a machine with enough GPUs of its kind. That the weights
    fit into those GPUs was computed when the settings were read."""
    for model in settings.models if wanted.ray else ():
        if model.engine is None or not model.gpu:
            continue
        needs = model.layout.gpus or 1
        same = [g for g in wanted.groups if g.kind == gpus.load().gpu(model.gpu).id]
        if any(g.count >= needs for g in same):
            yield Finding(
                Said("cluster.model", name=model.name),
                Level.OK,
                Said("cluster.per_engine", needs=needs, gpu=model.gpu),
            )
        else:
            most = max((g.count for g in same), default=0)
            yield Finding(
                Said("cluster.model", name=model.name),
                Level.STOP,
                Said("cluster.engine_needs", needs=needs, gpu=model.gpu, most=most),
                Said("cluster.add_group"),
            )


def asked(answers: Sequence[Answer]) -> Iterator[Finding]:
    """What providers and hubs answered."""
    for answer in answers:
        if answer.status == 0:
            level = Level.WARN if answer.name.startswith("weights") else Level.STOP
            yield Finding(
                answer.name,
                level,
                Said("cluster.no_answer", reason=answer.reason),
                Said("cluster.look_egress"),
            )
        elif answer.status in (401, 403):
            yield Finding(
                answer.name,
                Level.STOP,
                Said("cluster.refused", status=answer.status),
                Said("cluster.put_key"),
            )
        elif answer.status == 404 and answer.name.startswith("weights"):
            yield Finding(
                answer.name, Level.STOP, Said("cluster.no_such_model"), Said("cluster.mend_source")
            )
        else:
            yield Finding(answer.name, Level.OK, Said("cluster.answered", status=answer.status))


def _numbers(text: str) -> tuple[int, ...]:
    """`v1.33.2+k3s1` -> (1, 33); empty where no version stands."""
    found = re.search(r"(\d+)\.(\d+)", text)
    return tuple(map(int, found.groups())) if found else ()
