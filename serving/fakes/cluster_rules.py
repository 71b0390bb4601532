"""What the fake Kubernetes server holds objects to: merge patches, selectors, refusals, and the
part of KubeRay's schema that a controller writes (KubeRay v1.7.0, `rayclusters.ray.io` v1)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

REASONS = {401: "Unauthorized", 404: "NotFound", 409: "Conflict", 410: "Expired",
           422: "Invalid", 429: "TooManyRequests"}  # fmt: skip
GROUP_KEYS = {
    "groupName", "replicas", "minReplicas", "maxReplicas", "idleTimeoutSeconds", "priority",
    "numOfHosts", "suspend", "labels", "resources", "rayStartParams", "template", "scaleStrategy",
}  # fmt: skip
GROUP_NEEDS = {"groupName": str, "minReplicas": int, "maxReplicas": int, "template": dict}


class Refusal(Exception):  # noqa: N818 - an answer, not a fault of ours
    """An answer that is no success."""

    def __init__(self, status: int, message: str, retry_after: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after


def status_body(status: int, message: str) -> dict[str, Any]:
    """Kubernetes' own form of an answer without an object."""
    told = "Success" if status < 300 else "Failure"
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": told,
            "message": message, "reason": REASONS.get(status, ""), "code": status}  # fmt: skip


def merged(held: Any, patch: Any) -> Any:
    """RFC 7386: objects merge, null removes, all else (lists too) replaces."""
    if not isinstance(patch, dict):
        return patch
    found = dict(held) if isinstance(held, dict) else {}
    for key, value in patch.items():
        if value is None:
            found.pop(key, None)
        else:
            found[key] = merged(found.get(key), value)
    return found


def label_of(body: Mapping[str, Any]) -> Mapping[str, str]:
    """Its labels."""
    labels: Mapping[str, str] = (body.get("metadata") or {}).get("labels") or {}
    return labels


def selects(selector: str, labels: Mapping[str, str]) -> bool:
    """Whether labels match `key=value,...`. Raises Refusal for what it cannot read."""
    for term in filter(None, selector.split(",")):
        key, equals, value = term.partition("=")
        if not equals or key.endswith("!"):
            raise Refusal(400, f"unable to parse the selector {term!r}")
        if labels.get(key) != value.removeprefix("="):
            return False
    return True


def ray_cluster(body: Mapping[str, Any]) -> str:
    """Why a RayCluster may not be stored; empty if it may."""
    groups = (body.get("spec") or {}).get("workerGroupSpecs") or []
    if not isinstance(groups, list):
        return "spec.workerGroupSpecs: Invalid value: must be an array"
    for index, group in enumerate(groups):
        if why := _group(f"spec.workerGroupSpecs[{index}]", group):
            return why
    return ""


def _group(where: str, group: Any) -> str:
    if not isinstance(group, dict):
        return f"{where}: Invalid value: must be an object"
    for key, kind in GROUP_NEEDS.items():
        if key not in group:
            return f"{where}.{key}: Required value"
        if not isinstance(group[key], kind):
            return f"{where}.{key}: Invalid value: must be {kind.__name__}"
    if unknown := set(group) - GROUP_KEYS:
        return f"{where}: unknown field {sorted(unknown)[0]!r}"
    replicas = group.get("replicas", 0)
    if not isinstance(replicas, int) or isinstance(replicas, bool):
        return f"{where}.replicas: Invalid value: must be integer"
    strategy = group.get("scaleStrategy") or {}
    if set(strategy) - {"workersToDelete"}:
        return f"{where}.scaleStrategy: unknown field"
    names = strategy.get("workersToDelete") or []
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return f"{where}.scaleStrategy.workersToDelete: Invalid value: must be strings"
    return ""
