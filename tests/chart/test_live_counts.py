"""An upgrade keeps the numbers that the controller wrote, read from the live object."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest

from deploy.helm_cli import Helm, objects
from deploy.trial import SCALE

WRITTEN = {
    "apiVersion": "ray.io/v1", "kind": "RayCluster",
    "metadata": {
        "name": "ballast-engines", "namespace": "llm",
        "labels": {"app.kubernetes.io/managed-by": "Helm"},
        "annotations": {"meta.helm.sh/release-name": "ballast",
                        "meta.helm.sh/release-namespace": "llm"},
    },
    "spec": {"workerGroupSpecs": [
        {"groupName": "h100-reserved", "replicas": 3,
         "scaleStrategy": {"workersToDelete": ["h100-reserved-worker-x"]}},
        {"groupName": "h100-spot", "replicas": 0},
        {"groupName": "no-longer-wanted", "replicas": 9},
    ]},
}  # fmt: skip
KINDS = {
    "v1": ("Service", "ConfigMap", "ServiceAccount"),
    "apps/v1": ("Deployment",),
    "batch/v1": ("Job",),
    "policy/v1": ("PodDisruptionBudget",),
    "networking.k8s.io/v1": ("NetworkPolicy",),
    "rbac.authorization.k8s.io/v1": ("Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"),
    "ray.io/v1": ("RayCluster",),
}


def discovery() -> dict[str, Any]:
    """What an API server says of the kinds it has."""
    found: dict[str, Any] = {}
    groups = []
    for version, kinds in KINDS.items():
        rows = [
            {"name": re.sub("y$", "ie", kind.lower()) + "s", "singularName": kind.lower(),
             "namespaced": not kind.startswith("Cluster"), "kind": kind, "verbs": ["get"]}
            for kind in kinds
        ]  # fmt: skip
        folder = "/api/v1" if version == "v1" else f"/apis/{version}"
        found[folder] = {"kind": "APIResourceList", "groupVersion": version, "resources": rows}
        if version != "v1":
            one = {"groupVersion": version, "version": "v1"}
            name = version.partition("/")[0]
            groups.append({"name": name, "versions": [one], "preferredVersion": one})
    found["/apis"] = {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}
    return found


CANNED: dict[str, Any] = discovery() | {
    "/version": {"major": "1", "minor": "33", "gitVersion": "v1.33.2"},
    "/api": {"kind": "APIVersions", "versions": ["v1"]},
    "/apis/ray.io/v1/namespaces/llm/rayclusters/ballast-engines": WRITTEN,
}


class Cluster(BaseHTTPRequestHandler):
    """Answers what Helm's `lookup` asks, and nothing else."""

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        missing = {"kind": "Status", "status": "Failure", "reason": "NotFound", "code": 404}
        body = json.dumps(CANNED.get(path, missing)).encode()
        self.send_response(200 if path in CANNED else 404)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Quiet."""


@pytest.fixture(scope="module")
def api() -> Iterator[str]:
    listener = ThreadingHTTPServer(("127.0.0.1", 0), Cluster)
    thread = Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.01}, name="cluster")
    thread.start()
    yield f"http://127.0.0.1:{listener.server_address[1]}"
    listener.shutdown()
    thread.join()
    listener.server_close()


def groups(text: str) -> Any:
    (cluster,) = (o for o in objects(text) if o["kind"] == "RayCluster")
    return {g["groupName"]: g for g in cluster["spec"]["workerGroupSpecs"]}


@pytest.mark.parametrize("line", ["3.17", "4.3"])
def test_an_upgrade_keeps_what_the_controller_wrote(
    helms: dict[str, Helm], api: str, line: str
) -> None:
    asking = ("--dry-run=server", "--disable-openapi-validation", "--kube-apiserver", api)
    found = groups(helms[line].template(SCALE, *asking))
    assert set(found) == {"h100-reserved", "h100-spot"}
    assert found["h100-reserved"]["replicas"] == 3
    removed = found["h100-reserved"]["scaleStrategy"]["workersToDelete"]
    assert removed == ["h100-reserved-worker-x"]
    assert found["h100-spot"]["replicas"] == 0
    assert "scaleStrategy" not in found["h100-spot"]


def test_the_first_install_takes_the_numbers_of_the_values(helms: dict[str, Helm]) -> None:
    assert groups(helms["4.3"].template(SCALE))["h100-reserved"]["replicas"] == 1
