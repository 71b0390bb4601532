"""What `ballast doctor --cluster` finds, in clusters made up for each fault, and over real HTTP."""

from __future__ import annotations

import datetime
import json
import ssl
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from threading import Thread
from typing import Any

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from typer.testing import CliRunner

from ballast import cluster_probe
from ballast.cli import app
from ballast.cluster_checks import asked, examine
from ballast.cluster_facts import Answer, Node, Reachable, Seen, StorageClass, Wanted, WantedGroup
from ballast.cluster_groups import DRIVER, PRODUCT
from ballast.doctor import Finding, Level
from serving.settings import Settings

GROUP = WantedGroup("h100", "reserved", "h100-80", 8, "nvidia.com/gpu", 1, {"pool": "gpu"})
WANTED = Wanted("llm", True, (GROUP,), ("",), ("rayclusters.ray.io",))
NODE = Node(
    "n1", {"pool": "gpu", PRODUCT: "NVIDIA-H100-80GB-HBM3", DRIVER: "580"}, {"nvidia.com/gpu": 8},
    ({"key": "nvidia.com/gpu", "effect": "NoSchedule"},),
)  # fmt: skip
SEEN = Seen(
    "v1.33.2", (NODE,), (StorageClass("fast", True),), {"rayclusters.ray.io": True}, "v1.7.0"
)
SETTINGS = Settings()


def changed(value: Any, **more: Any) -> Any:
    return msgspec.structs.replace(value, **more)


def worst(findings: list[Finding]) -> list[Finding]:
    return [f for f in findings if f.level is not Level.OK]


def test_a_fitting_cluster_has_nothing_to_mend() -> None:
    assert worst(examine(WANTED, SEEN, SETTINGS)) == []


FAULTS = [
    # (what differs in the cluster, level, a part of what is said, a part of the remedy)
    ({"version": "v1.28.9"}, Level.STOP, "v1.28.9", "1.29"),
    ({"refused": {"version": "403"}}, Level.STOP, "403", "apiServerCidrs"),
    ({"crds": {}}, Level.STOP, "rayclusters.ray.io is not there", "install what brings it"),
    ({"crds": {"rayclusters.ray.io": False}}, Level.STOP, "too old", "--server-side"),
    ({"kuberay": None}, Level.STOP, "no operator", "KubeRay 1.6"),
    ({"kuberay": "v1.5.2"}, Level.STOP, "v1.5.2", "upgrade it to 1.6"),
    ({"kuberay": "nightly"}, Level.WARN, "nightly", "make sure"),
    ({"classes": ()}, Level.STOP, "no storage class the default", "storageClass"),
    ({"classes": None, "refused": {"storage": "403"}}, Level.WARN, "403", "ClusterRole"),
    ({"nodes": None, "refused": {"nodes": "403"}}, Level.WARN, "403", "ClusterRole"),
    ({"nodes": ()}, Level.STOP, "no node has pool=gpu", "nodeSelector"),
    ({"nodes": (changed(NODE, gpus={"nvidia.com/gpu": 4}),)}, Level.STOP, "room for 0",
     "lower replicas"),
    ({"nodes": (changed(NODE, is_cordoned=True),)}, Level.STOP, "n1 is cordoned", "add machines"),
    ({"nodes": (changed(NODE, is_ready=False),)}, Level.STOP, "n1 is not ready", "add machines"),
    ({"nodes": (changed(NODE, taints=({"key": "spot", "effect": "NoExecute"},)),)}, Level.STOP,
     "n1 has taint spot=", "tolerate the taint"),
    ({"nodes": (changed(NODE, labels={"pool": "gpu", PRODUCT: "NVIDIA-A100-SXM4-80GB",
                                      DRIVER: "580"}),)}, Level.STOP, "(a100-80)", "gpu.kind"),
    ({"nodes": (changed(NODE, labels={"pool": "gpu", PRODUCT: "GeForce", DRIVER: "580"}),)},
     Level.WARN, "none that the catalogue knows", "make sure"),
    ({"nodes": (changed(NODE, labels={"pool": "gpu", DRIVER: "550"}),)}, Level.WARN, "driver 550",
     "update the driver"),
    ({"nodes": (changed(NODE, labels={"pool": "gpu", DRIVER: "470"}),)}, Level.STOP, "driver 470",
     "update the driver"),
    ({"nodes": (changed(NODE, labels={"pool": "gpu"}),)}, Level.WARN, "no label", "make sure"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("change", "level", "said", "remedy"), FAULTS, ids=[f"{f[2]}" for f in FAULTS]
)
def test_a_fault_of_the_cluster_is_named_with_its_remedy(
    change: Any, level: Level, said: str, remedy: str
) -> None:
    found = worst(examine(WANTED, changed(SEEN, **change), SETTINGS))
    assert [(f.level, said in f.text, remedy in f.remedy) for f in found] == [(level, True, True)]


def test_a_group_that_begins_empty_may_wait_for_its_nodes() -> None:
    wanted = changed(WANTED, groups=(changed(GROUP, nodes=0),))
    (found,) = worst(examine(wanted, changed(SEEN, nodes=()), SETTINGS))
    assert found.level is Level.WARN


@pytest.mark.parametrize(
    "toleration",
    [{"operator": "Exists"}, {"key": "spot", "operator": "Exists"},
     {"key": "spot", "operator": "Equal", "value": "yes", "effect": "NoSchedule"}],
)  # fmt: skip
def test_a_tolerated_taint_is_none(toleration: dict[str, str]) -> None:
    taint = {"key": "spot", "value": "yes", "effect": "NoSchedule"}
    wanted = changed(WANTED, groups=(changed(GROUP, tolerations=(toleration,)),))
    seen = changed(SEEN, nodes=(changed(NODE, taints=(taint,)),))
    assert worst(examine(wanted, seen, SETTINGS)) == []


@pytest.mark.parametrize(
    "toleration",
    [{"key": "spot", "operator": "Equal", "value": "no"}, {"key": "other", "operator": "Exists"},
     {"key": "spot", "operator": "Exists", "effect": "NoExecute"}],
)  # fmt: skip
def test_a_toleration_of_something_else_does_not_help(toleration: dict[str, str]) -> None:
    taint = {"key": "spot", "value": "yes", "effect": "NoSchedule"}
    wanted = changed(WANTED, groups=(changed(GROUP, tolerations=(toleration,)),))
    seen = changed(SEEN, nodes=(changed(NODE, taints=(taint,)),))
    assert worst(examine(wanted, seen, SETTINGS))[0].level is Level.STOP


def test_a_volume_of_weights_must_be_there() -> None:
    wanted = changed(WANTED, groups=(changed(GROUP, claim="weights"),))
    (found,) = worst(examine(wanted, changed(SEEN, claims={"weights": "Pending"}), SETTINGS))
    assert "weights: Pending" in found.text
    assert worst(examine(wanted, changed(SEEN, claims={"weights": "Bound"}), SETTINGS)) == []


@pytest.mark.parametrize(("count", "level"), [(2, Level.STOP), (8, Level.OK)])
def test_an_engine_needs_its_gpus_in_one_pod(count: int, level: Level) -> None:
    model = {"name": "m", "card": "qwen3-32b", "variant": "fp8", "gpu": "h100-80",
             "layout": {"tensor": 4}}  # fmt: skip
    settings = Settings.model_validate({"models": [model]})
    wanted = changed(WANTED, groups=(changed(GROUP, count=count, nodes=1),))
    found = [f for f in examine(wanted, SEEN, settings) if f.subject == "model m"]
    assert [f.level for f in found] == [level]


def test_open_or_missing_policies_are_told() -> None:
    wanted = changed(WANTED, egress="open", reachable=(Reachable("a", "h", 443),))
    assert "egress is open" in worst(examine(wanted, SEEN, SETTINGS))[0].text
    bare = changed(WANTED, network_policy=False)
    assert "no policy" in worst(examine(bare, SEEN, SETTINGS))[0].text


@pytest.mark.parametrize(
    ("answer", "level"),
    [(Answer("provider a", 200), Level.OK), (Answer("provider a", 404), Level.OK),
     (Answer("provider a", 401), Level.STOP), (Answer("provider a", 0, "refused"), Level.STOP),
     (Answer("weights m", 404), Level.STOP), (Answer("weights m", 0, "timed out"), Level.WARN),
     (Answer("weights m", 403), Level.STOP)],
)  # fmt: skip
def test_answers_of_providers_and_hubs_are_judged(answer: Answer, level: Level) -> None:
    assert [f.level for f in asked([answer])] == [level]


# Over HTTP: an API server, a provider and a hub that answer from a list.

CANNED: dict[str, Any] = {
    "/version": {"gitVersion": "v1.33.2"},
    "/api/v1/nodes": {"items": [{
        "metadata": {"name": "n1", "labels": dict(NODE.labels)},
        "spec": {"taints": [dict(t) for t in NODE.taints]},
        "status": {"allocatable": {"cpu": "8", "nvidia.com/gpu": "8"},
                   "conditions": [{"type": "Ready", "status": "True"}]},
    }]},
    "/apis/storage.k8s.io/v1/storageclasses": {"items": [{"metadata": {
        "name": "fast", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}}}]},
    "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/rayclusters.ray.io": {
        "spec": {"versions": [{"name": "v1", "schema": {"openAPIV3Schema": {"properties": {"spec": {
            "properties": {"authOptions": {"properties": {"secretName": {}}}}}}}}}]}},
    "/apis/apps/v1/deployments": {"items": [{
        "metadata": {"name": "kuberay"},
        "spec": {"template": {"spec": {"containers": [
            {"image": "quay.example.com:5000/kuberay/operator:v1.7.0"}]}}}}]},
    "/api/v1/namespaces/llm/persistentvolumeclaims/weights": {"status": {"phase": "Bound"}},
    "/provider/v1/models": {"data": []},
    "/hub/api/models/Qwen/Qwen3-8B": {},
}  # fmt: skip


class Canned(BaseHTTPRequestHandler):
    """Answers from the list; what is missing is 404, without the right key 401."""

    rows: dict[str, Any] = CANNED

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        wants_key = path.startswith("/provider/")
        status = 200 if path in self.rows else 404
        if wants_key and self.headers["authorization"] != "Bearer sk-good":
            status = 401
        body = json.dumps(self.rows.get(path, {})).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Quiet."""


@pytest.fixture
def server() -> Iterator[str]:
    listener = ThreadingHTTPServer(("127.0.0.1", 0), Canned)
    thread = Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.01}, name="canned")
    thread.start()
    yield f"http://127.0.0.1:{listener.server_address[1]}"
    listener.shutdown()
    thread.join()
    listener.server_close()


def files(folder: Path, url: str, key: str = "sk-good") -> tuple[Path, Path]:
    """The chart's two files for a release that uses all there is."""
    (folder / "pepper").write_text("0123456789abcdef" * 4)
    (folder / "key").write_text(key)
    provider = {"id": "openai-compatible", "base_url": f"{url}/provider/v1", "jurisdiction": "cn",
                "api_key_file": str(folder / "key"),
                "models": {"big": {"context_tokens": 8192, "currency": "CNY", "input_per_mtok": 1,
                                   "output_per_mtok": 1, "as_of": "2026-11-26"}}}  # fmt: skip
    settings = {
        "pepper_file": str(folder / "pepper"), "state_dir": str(folder),
        "weights": {"huggingface_url": f"{url}/hub"}, "providers": [provider],
        "models": [{"name": "m", "engine": {"source": "hf:Qwen/Qwen3-8B"},
                    "profile": "cpu-embedded", "offerings": ["openai-compatible/big"]}],
    }  # fmt: skip
    config, facts = folder / "settings.yaml", folder / "values.json"
    config.write_text(json.dumps(settings))
    wanted = changed(
        WANTED,
        groups=(changed(GROUP, claim="weights"),),
        reachable=(Reachable("openai-compatible", "x", 443),),
    )
    facts.write_bytes(msgspec.json.encode(wanted))
    return config, facts


def doctor(config: Path, facts: Path, url: str) -> tuple[int, dict[str, tuple[str, str]]]:
    arguments = ["doctor", "-c", str(config), "--cluster", str(facts), "--kube-api", url, "--json"]
    done = CliRunner().invoke(app, arguments)
    rows = json.loads(done.stdout) if done.stdout else []
    return done.exit_code, {row["subject"]: (row["level"], row["text"]) for row in rows}


def test_the_doctor_asks_cluster_provider_and_hub(server: str, tmp_path: Path) -> None:
    code, found = doctor(*files(tmp_path, server), server)
    assert code == 0, found
    assert found["kubernetes"] == ("ok", "v1.33.2")
    assert found["kuberay"] == ("ok", "v1.7.0")
    assert found["provider openai-compatible"] == ("ok", "answered 200")
    assert found["weights m"] == ("ok", "answered 200")


def test_a_refused_key_stops_the_release(server: str, tmp_path: Path) -> None:
    code, found = doctor(*files(tmp_path, server, key="sk-bad"), server)
    assert code == 1
    assert found["provider openai-compatible"][0] == "stop"


def test_an_api_that_is_away_stops_the_release(server: str, tmp_path: Path) -> None:
    code, found = doctor(*files(tmp_path, server), "http://127.0.0.1:1")
    assert code == 1
    assert found["kubernetes"][0] == "stop"


def test_outside_a_cluster_the_doctor_says_how_to_reach_one(tmp_path: Path, server: str) -> None:
    config, facts = files(tmp_path, server)
    done = CliRunner().invoke(app, ["doctor", "-c", str(config), "--cluster", str(facts)])
    assert done.exit_code == 1
    assert "kubectl proxy" in done.stderr


def test_a_file_of_another_chart_is_refused(tmp_path: Path, server: str) -> None:
    config, facts = files(tmp_path, server)
    facts.write_text('{"namespace": "llm", "ray": false, "colour": "red"}')
    done = CliRunner().invoke(app, ["doctor", "-c", str(config), "--cluster", str(facts)])
    assert done.exit_code == 3
    assert "colour" in done.stderr


def test_a_pod_shows_its_account_to_an_api_that_its_authority_signed(tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    day = datetime.timedelta(days=1)
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - day)
        .not_valid_after(now + day)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (tmp_path / "ca.crt").write_bytes(certificate.public_bytes(pem))
    (tmp_path / "key").write_bytes(key.private_bytes(pem, *plain))
    (tmp_path / "token").write_text("sk-good\n")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "ca.crt", tmp_path / "key")
    listener = ThreadingHTTPServer(("127.0.0.1", 0), Canned)
    listener.socket = context.wrap_socket(listener.socket, server_side=True)
    thread = Thread(target=listener.handle_request, name="once")
    thread.start()
    port = str(listener.server_address[1])
    pod = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": port}
    try:
        api = cluster_probe.Api(account=tmp_path, environ=pod)
        # The canned provider's page wants just this token.
        assert api.get("/provider/v1/models") == {"data": []}
    finally:
        thread.join()
        listener.server_close()
