"""Asks a cluster's API, providers and hubs what preflight wants to know; only reads.

Plain HTTP with the pod's own account: six lists need no client library, and outside a cluster
`kubectl proxy` gives an address that this can ask.
"""

from __future__ import annotations

import http.client
import json
import os
import ssl
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ballast.cluster_facts import Answer, Node, Seen, StorageClass, Wanted
from ballast.messages import Said
from ballast.problem import ProblemError
from serving.backends.account import Account
from serving.engine.weights.sources import Repository, parse
from serving.settings import Settings

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
WAIT_S, BODY_BYTES_MAX = 10.0, 64 << 20
OPERATOR = {"app.kubernetes.io/name": "kuberay-operator"}
_FIELDS = {"rayclusters.ray.io": ("authOptions", "secretName")}
"""A field below spec that the chart writes, by definition."""


class NoAnswerError(Exception):
    """A question that had no answer, and why."""


class Api:
    """A Kubernetes API: the pod's own, or one at an address that needs no account."""

    def __init__(
        self, url: str = "", account: Path = ACCOUNT, environ: Mapping[str, str] | None = None
    ) -> None:
        self._headers = {"accept": "application/json"}
        self._context: ssl.SSLContext | None = None
        if not url:
            env = os.environ if environ is None else environ
            host = env.get("KUBERNETES_SERVICE_HOST")
            if not host:
                raise ProblemError(
                    Said("cluster.no_pod"),
                    Said("cluster.run_proxy"),
                )
            url = f"https://{host}:{env.get('KUBERNETES_SERVICE_PORT', '443')}"
            self._headers["authorization"] = f"Bearer {(account / 'token').read_text().strip()}"
            self._context = ssl.create_default_context(cafile=str(account / "ca.crt"))
        self._url = url

    def get(self, path: str) -> Any:
        """An object or a list. Raises NoAnswerError."""
        status, body = ask(self._url + path, self._headers, self._context)
        if status != 200:
            raise NoAnswerError(Said("cluster.status_for", status=status, path=path))
        return json.loads(body)


def ask(
    url: str, headers: Mapping[str, str], context: ssl.SSLContext | None = None,
    proxy: str | None = None,
) -> tuple[int, bytes]:  # fmt: skip
    """Status and body of one GET; follows no redirect. Raises NoAnswerError."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port
    path = f"{parts.path or '/'}{'?' + parts.query if parts.query else ''}"
    through = urlsplit(proxy) if proxy else None
    near_host, near_port = (through.hostname or "", through.port) if through else (host, port)
    kind = http.client.HTTPConnection
    connection = kind(near_host, near_port, timeout=WAIT_S)
    if parts.scheme == "https":
        context = context or ssl.create_default_context()
        connection = http.client.HTTPSConnection(
            near_host, near_port, timeout=WAIT_S, context=context
        )
    try:
        if through and parts.scheme == "https":
            connection.set_tunnel(host, port)
        elif through:
            path = url
        connection.request("GET", path, headers=dict(headers))
        response = connection.getresponse()
        return response.status, response.read(BODY_BYTES_MAX)
    except (OSError, http.client.HTTPException) as error:
        raise NoAnswerError(str(error) or type(error).__name__) from None
    finally:
        connection.close()


def look(api: Api, wanted: Wanted) -> Seen:
    """What the cluster has of what is wanted."""
    refused: dict[str, str] = {}

    def tried(name: str, path: str) -> Any:
        try:
            return api.get(path)
        except NoAnswerError as why:
            if not str(why).startswith("404"):
                refused[name] = str(why)
            return None

    version = tried("version", "/version") or {}
    nodes = tried("nodes", "/api/v1/nodes") if wanted.groups else None
    classes = (
        tried("storage", "/apis/storage.k8s.io/v1/storageclasses")
        if wanted.storage_classes
        else None
    )
    crds = {}
    for name in wanted.crds:
        found = tried(name, f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}")
        if found is not None:
            crds[name] = _has_fields(found, _FIELDS.get(name, ()))
    claims = {}
    for claim in sorted({g.claim for g in wanted.groups if g.claim}):
        where = f"/api/v1/namespaces/{wanted.namespace}/persistentvolumeclaims/{claim}"
        row = tried(f"claim {claim}", where)
        claims[claim] = row["status"].get("phase", "Pending") if row else "Missing"
    operators = tried("kuberay", _labelled("/apis/apps/v1/deployments")) if wanted.ray else None
    return Seen(
        version.get("gitVersion", ""),
        None if nodes is None else tuple(map(_node, nodes["items"])),
        None if classes is None else tuple(map(_class, classes["items"])),
        crds, _operator(operators), claims, refused,
    )  # fmt: skip


def _labelled(path: str) -> str:
    ((key, value),) = OPERATOR.items()
    return f"{path}?labelSelector={key}%3D{value}"


def _operator(found: Any) -> str | None:
    """The tag of the operator's image, or the version its chart wrote on it."""
    for row in (found or {}).get("items", ()):
        labels = row["metadata"].get("labels", {})
        image = row["spec"]["template"]["spec"]["containers"][0]["image"]
        tag = image.rpartition("/")[2].partition("@")[0].partition(":")[2]
        return str(tag or labels.get("app.kubernetes.io/version") or image)
    return None


def _has_fields(definition: Any, path: tuple[str, ...]) -> bool:
    for version in definition["spec"]["versions"]:
        if version["name"] != "v1" or not path:
            continue
        node = version["schema"]["openAPIV3Schema"]["properties"]["spec"]
        for name in path:
            node = node.get("properties", {}).get(name)
            if node is None:
                return False
    return True


def _node(row: Any) -> Node:
    status, spec = row.get("status", {}), row.get("spec", {})
    room = status.get("allocatable", {})
    ready = [c["status"] for c in status.get("conditions", ()) if c["type"] == "Ready"]
    return Node(
        row["metadata"]["name"], row["metadata"].get("labels", {}),
        {k: int(v) for k, v in room.items() if "/" in k and str(v).isdigit()},
        tuple(spec.get("taints", ())), ready == ["True"], bool(spec.get("unschedulable")),
    )  # fmt: skip


def _class(row: Any) -> StorageClass:
    notes = row["metadata"].get("annotations", {})
    is_default = notes.get("storageclass.kubernetes.io/is-default-class") == "true"
    return StorageClass(row["metadata"]["name"], is_default)


def providers(accounts: Mapping[str, Account], names: Iterable[str]) -> Iterator[Answer]:
    """Each provider's own list of models: whoever may read it has a good key. Costs nothing."""
    for name in names:
        account = accounts[name]
        url = f"{account.base_url.rstrip('/')}/models"
        try:
            status, _ = ask(url, account.headers(0.0), proxy=account.proxy)
            yield Answer(f"provider {name}", status)
        except NoAnswerError as why:
            yield Answer(f"provider {name}", 0, str(why))


def hubs(settings: Settings) -> Iterator[Answer]:
    """Whether the hub knows each engine's model; folders and stores are for their host to see."""
    weights = settings.weights
    for model in settings.models:
        source = parse(model.engine.source) if model.engine else None
        if not isinstance(source, Repository):
            continue
        hub = source.hub or weights.get("hub") or "huggingface"
        if hub == "modelscope":
            base = weights.get("modelscope_url") or "https://modelscope.cn"
            url = f"{base}/api/v1/models/{source.id}"
        else:
            base = weights.get("huggingface_url") or "https://huggingface.co"
            url = f"{base}/api/models/{source.id}"
        try:
            yield Answer(f"weights {model.name}", ask(url, {})[0])
        except NoAnswerError as why:
            yield Answer(f"weights {model.name}", 0, f"{urlsplit(url).hostname}: {why}")
