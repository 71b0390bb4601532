"""A small JSON Schema from a CustomResourceDefinition, for tests without a cluster.

`python -m deploy.crd_schema CRD.yaml VERSION` prints it. Texts are dropped, unknown keys refused,
and a pod template is left to Kubernetes' own schema: it makes nine tenths of KubeRay's file.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import yaml

POD_TEMPLATE = "x-pod-template"
_DROPPED = ("description", "default", "example", "title")


def reduced(crd: dict[str, Any], version: str) -> dict[str, Any]:
    """The schema of one version of a definition."""
    spec = crd["spec"]
    found = next(v for v in spec["versions"] if v["name"] == version)
    schema: dict[str, Any] = _plain(found["schema"]["openAPIV3Schema"])
    schema["properties"]["metadata"] = {"type": "object"}
    schema["properties"].pop("status", None)
    schema["required"] = sorted({*schema.get("required", ()), "apiVersion", "kind", "metadata"})
    return {"x-kind": spec["names"]["kind"], "x-api": f"{spec['group']}/{version}", **schema}


def _plain(node: Any) -> Any:
    if isinstance(node, list):
        return [_plain(item) for item in node]
    if not isinstance(node, dict):
        return node
    properties = node.get("properties") or {}
    inner = (properties.get("spec") or {}).get("properties") or {}
    if "containers" in inner and "metadata" in properties:
        return {"type": "object", POD_TEMPLATE: True}
    kept = {k: v for k, v in node.items() if k not in _DROPPED and not k.startswith("x-kubernetes")}
    kept = {k: _plain(v) for k, v in kept.items() if k != "properties"}
    if "properties" in node:
        kept["properties"] = {k: _plain(v) for k, v in node["properties"].items()}
        if not node.get("x-kubernetes-preserve-unknown-fields"):
            kept["additionalProperties"] = False
    if node.get("x-kubernetes-int-or-string"):
        kept = {"anyOf": [{"type": "integer"}, {"type": "string"}]}
    if kept.pop("nullable", False) and "type" in kept:
        kept["type"] = [kept["type"], "null"]
    return kept


def main(arguments: list[str]) -> None:
    """Print the schema."""
    path, version = arguments
    crd = yaml.load(Path(path).read_text("utf-8"), Loader=yaml.CSafeLoader)
    sys.stdout.write(json.dumps(reduced(crd, version), separators=(",", ":"), sort_keys=True))
    sys.stdout.write("\n")


if __name__ == "__main__":
    main(sys.argv[1:])
