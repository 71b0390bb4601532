"""What a rendered manifest must be: as Kubernetes' and the operators' schemas say, and hardened.

`faults` judges by schema, `breaches` by policy; both return sentences, none is good.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
from referencing import Registry, Resource

from deploy.crd_schema import POD_TEMPLATE

Manifest = dict[str, Any]
WORKLOADS = ("Deployment", "Job", "RayCluster")
DEFINITIONS = "_definitions.json"
_FOLDER = Path(kubernetes_validate.__file__).parent / "kubernetes-json-schema"
_DRAFT = jsonschema.Draft7Validator


class Schemas:
    """Schemas of custom resources, one file each."""

    def __init__(self, folder: Path) -> None:
        found = [json.loads(p.read_text("utf-8")) for p in sorted(folder.glob("*.json"))]
        self._by_kind = {(s["x-api"], s["x-kind"]): s for s in found}

    def faults(self, manifest: Manifest, version: str) -> list[str]:
        """Where a manifest is not as its schema says, on a line of Kubernetes like `1.33`; an
        unknown kind is a fault too."""
        where = f"{manifest['kind']}/{manifest['metadata']['name']}"
        schema = self._by_kind.get((manifest["apiVersion"], manifest["kind"]))
        if schema is not None:
            errors = sorted(_DRAFT(schema).iter_errors(manifest), key=str)
            found = [f"{where}: {'.'.join(map(str, e.path))}: {e.message}" for e in errors]
            for pod in _templates(schema, manifest):
                found += self.faults({"apiVersion": "v1", "kind": "Pod", **pod}, version)
            return found
        validator = _validator(version, manifest["apiVersion"], manifest["kind"])
        if validator is None:
            return [f"{where}: Kubernetes {version} knows no {manifest['kind']}"]
        errors = validator.iter_errors(manifest)
        return [f"{where}: {'.'.join(map(str, e.path))}: {e.message}" for e in errors]


@cache
def _definitions(version: str) -> Resource[Any]:
    return Resource.from_contents(json.loads((_FOLDER / version / DEFINITIONS).read_text("utf-8")))


@cache
def _validator(line: str, api_version: str, kind: str) -> Any:
    """Kubernetes' own schema of a kind, strict; None where that line knows no such kind."""
    version = f"v{line}.0-local-strict"
    group, _, number = api_version.rpartition("/")
    api = f"{group.partition('.')[0]}-{number}" if group else number
    path = _FOLDER / version / f"{kind.lower()}-{api}.json"
    if not path.is_file():
        return None
    schema = Resource.from_contents(json.loads(path.read_text("utf-8")))
    registry = schema @ (_definitions(version) @ Registry())
    return jsonschema.Draft202012Validator(schema.contents, registry=registry)


def _templates(schema: Any, value: Any) -> Iterator[Manifest]:
    """Pod templates inside a custom resource, named so that a fault tells which."""
    if isinstance(schema, dict) and schema.get(POD_TEMPLATE):
        containers = value["spec"]["containers"]
        metadata = {"name": containers[0]["name"], **value.get("metadata", {})}
        yield {"metadata": metadata, "spec": value["spec"]}
    elif isinstance(value, dict) and isinstance(schema, dict):
        for key, below in (schema.get("properties") or {}).items():
            if key in value:
                yield from _templates(below, value[key])
    elif isinstance(value, list) and isinstance(schema, dict):
        for item in value:
            yield from _templates(schema.get("items"), item)


def pods(manifest: Manifest) -> Iterator[Manifest]:
    """Specs of the pods that a workload makes."""
    if manifest["kind"] in ("Deployment", "Job"):
        yield manifest["spec"]["template"]["spec"]
    elif manifest["kind"] == "RayCluster":
        yield manifest["spec"]["headGroupSpec"]["template"]["spec"]
        for group in manifest["spec"]["workerGroupSpecs"]:
            yield group["template"]["spec"]


def breaches(manifest: Manifest) -> list[str]:
    """Where a workload is softer than our policy."""
    where = f"{manifest['kind']}/{manifest['metadata']['name']}"
    found = []
    for pod in pods(manifest):
        found += [f"{where}: {text}" for text in _pod(pod)]
        for container in [*pod["containers"], *pod.get("initContainers", ())]:
            named = f"{where}: container {container['name']}"
            found += [f"{named}: {text}" for text in _container(container)]
            if manifest["kind"] != "Job":
                found += [f"{named}: {text}" for text in _probes(container)]
    return found


def _pod(pod: Manifest) -> Iterator[str]:
    security = pod.get("securityContext", {})
    if security.get("runAsNonRoot") is not True or not security.get("runAsUser", 0) > 0:
        yield "may run as root"
    if security.get("seccompProfile") != {"type": "RuntimeDefault"}:
        yield "has no seccomp profile"
    if "automountServiceAccountToken" not in pod:
        yield "leaves it open whether it gets a token"
    if pod.get("enableServiceLinks") is not False:
        yield "gets variables of other Services, which read as settings"
    for key in ("hostNetwork", "hostPID", "hostIPC"):
        if pod.get(key):
            yield f"shares {key} with its host"


def _container(container: Manifest) -> Iterator[str]:
    security = container.get("securityContext", {})
    wanted = {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "runAsNonRoot": True,
        "capabilities": {"drop": ["ALL"]}, "seccompProfile": {"type": "RuntimeDefault"},
    }  # fmt: skip
    for key, value in wanted.items():
        if security.get(key) != value:
            yield f"securityContext.{key} is {security.get(key)!r}"
    for side in ("requests", "limits"):
        missing = {"cpu", "memory"} - set(container.get("resources", {}).get(side, {}))
        if missing:
            yield f"has no {side} of {', '.join(sorted(missing))}"
    image = container["image"]
    tag = image.rpartition("/")[2].partition(":")[2]
    if "@sha256:" not in image and tag in ("", "latest"):
        yield f"image {image} is not pinned"
    for variable in container.get("env", ()):
        secret = any(word in variable["name"] for word in ("PASSWORD", "TOKEN", "SECRET", "_KEY"))
        if secret and "value" in variable and not variable["value"].startswith("/"):
            yield f"holds {variable['name']} in the clear"


def _probes(container: Manifest) -> Iterator[str]:
    for probe in ("livenessProbe", "readinessProbe"):
        if probe not in container:
            yield f"has no {probe}"
