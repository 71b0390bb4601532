"""Each example renders on both Helms, is valid, hardened, and is a start for the gateway."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from ballast import cluster_facts
from deploy.helm_cli import Helm, objects
from deploy.manifests import Schemas, breaches
from deploy.trial import BETA, EXAMPLES, SCALE, SHAPES, laid
from serving import settings as serving_settings
from serving.app import Gateway

FILES = {path.stem: path for path in sorted(EXAMPLES.glob("*.yaml"))}
DEEP = ("api-only", "ack-reserved", "bare-gpu-host")
EDGES = {"gatewayApi": {"enabled": True, "hostnames": ["a.example.com"], "className": "envoy",
                        "tlsSecret": "c"},
         "networkPolicy": {"egress": {"mode": "cilium"}},
         "gateway": {"autoscaling": {"enabled": True, "openStreams": 100}},
         "alerts": {"enabled": True,
                    "robots": [{"name": "duty", "kind": "feishu", "urlKey": "feishu-url"}],
                    "alertmanagers": [{"ipBlock": {"cidr": "10.0.9.0/24"}}]},
         "monitoring": {"serviceMonitor": {"enabled": True},
                        "podMonitor": {"enabled": True}}}  # fmt: skip
PROXIED = {"ingress": {"enabled": True, "host": "a.example.com", "tlsSecret": "c"},
           "networkPolicy": {"egress": {"mode": "proxy", "proxy": {"url": "http://10.0.0.9:3128",
                                                                  "cidr": "10.0.0.9/32"}}},
           "gateway": {"service": {"type": "LoadBalancer"}}}  # fmt: skip
RELEASES: dict[str, Any] = {
    **{name: yaml.safe_load(path.read_text("utf-8")) for name, path in FILES.items()},
    **SHAPES,
    "edges": laid(SCALE, EDGES),
    "proxied": laid(BETA, PROXIED),
}
OLDEST, NEWEST = "1.29", "1.37"


@pytest.fixture(scope="module")
def schemas() -> Schemas:
    return Schemas(Path(__file__).parent / "schemas")


def test_the_three_deep_examples_are_there() -> None:
    assert set(DEEP) <= set(FILES)
    assert len(FILES) >= 14


@pytest.mark.parametrize("name", sorted(RELEASES))
def test_a_release_is_valid_on_the_oldest_and_newest_kubernetes(
    render: Any, schemas: Schemas, name: str
) -> None:
    found = render(RELEASES[name]).objects
    assert found
    faults = [f for one in found for line in (OLDEST, NEWEST) for f in schemas.faults(one, line)]
    assert faults == []


@pytest.mark.parametrize("name", sorted(RELEASES))
def test_a_release_keeps_the_policy(render: Any, name: str) -> None:
    assert [b for one in render(RELEASES[name]).objects for b in breaches(one)] == []


@pytest.mark.parametrize("name", sorted(RELEASES))
def test_both_helms_render_the_same_release(render: Any, name: str) -> None:
    def sorted_by_name(line: str) -> list[Any]:
        found = render(RELEASES[name], line).objects
        return sorted(found, key=lambda o: (o["kind"], o["metadata"]["name"]))

    assert sorted_by_name("3.17") == sorted_by_name("4.3")


@pytest.mark.parametrize("name", sorted(RELEASES))
def test_no_two_objects_of_a_release_have_one_name(render: Any, name: str) -> None:
    ids = [(o["kind"], o["metadata"]["name"]) for o in render(RELEASES[name]).objects]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=() if n in DEEP else pytest.mark.full) for n in sorted(FILES)],
)
def test_the_gateway_would_start_with_an_examples_settings(
    render: Any, tmp_path: Path, name: str
) -> None:
    text = render(RELEASES[name]).one("ConfigMap", "ballast-settings")["data"]["settings.yaml"]
    (tmp_path / "identity").mkdir()
    (tmp_path / "providers").mkdir()
    for entry in ("secret", "pepper"):
        (tmp_path / "identity" / entry).write_text("0123456789abcdef" * 4)
    (tmp_path / "identity" / "keys.yaml").write_text("[]")
    for account in yaml.safe_load(text).get("providers", ()):
        (tmp_path / "providers" / account["id"]).write_text("sk-test")
    path = tmp_path / "settings.yaml"
    path.write_text(text.replace("/etc/ballast/", f"{tmp_path}/").replace("/var/", f"{tmp_path}/"))
    environ = {"BALLAST_DEPLOYMENT_ID": "ballast-0123456789abcdef"}
    Gateway(serving_settings.load(path, environ))


@pytest.mark.parametrize("name", sorted(RELEASES))
def test_preflight_understands_what_the_chart_tells_it(
    render: Any, tmp_path: Path, name: str
) -> None:
    found = render(RELEASES[name])
    path = tmp_path / "values.json"
    path.write_text(found.one("ConfigMap", "ballast-hooks")["data"]["values.json"])
    wanted = cluster_facts.read(path)
    assert wanted.namespace == "llm"
    assert wanted.ray == found.has("RayCluster")
    if wanted.ray:
        groups = found.all("RayCluster")[0]["spec"]["workerGroupSpecs"]
        assert [g.name for g in wanted.groups] == [g["groupName"] for g in groups]


@pytest.mark.parametrize("name", sorted(FILES))
def test_an_example_says_what_it_is_and_whether_it_was_tried(name: str) -> None:
    text = FILES[name].read_text("utf-8")
    assert text.startswith("# ")
    head = text[: text.index("settings:")]
    assert name == "api-only" or "Untried" in head


def test_charts_pass_helms_own_lint(helms: dict[str, Helm], tmp_path: Path) -> None:
    for helm in helms.values():
        chart = str(EXAMPLES.parent / "ballast")
        helm.run("lint", "--strict", chart, "--values", str(FILES["ack-reserved"]))


def test_the_packaged_chart_renders_as_the_folder_does(
    helms: dict[str, Helm], tmp_path: Path
) -> None:
    helm = helms["4.3"]
    helm.run("package", str(EXAMPLES.parent / "ballast"), "--destination", str(tmp_path))
    (archive,) = tmp_path.glob("ballast-*.tgz")
    given = ("--namespace", "llm", "--values", str(FILES["ack-reserved"]))
    packed = objects(helm.run("template", "ballast", str(archive), *given))
    assert packed == objects(helm.template(RELEASES["ack-reserved"]))


# The judges themselves: each must see what it is there for.


def softened(found: Any, change: Any) -> list[str]:
    deployment = found.one("Deployment", "ballast-gateway")
    change(deployment["spec"]["template"]["spec"])
    return breaches(deployment)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda p: p["securityContext"].update(runAsUser=0), "root"),
        (lambda p: p["securityContext"].pop("seccompProfile"), "seccomp"),
        (lambda p: p.pop("automountServiceAccountToken"), "token"),
        (lambda p: p.pop("enableServiceLinks"), "variables"),
        (lambda p: p.update(hostNetwork=True), "hostNetwork"),
        (lambda p: p["containers"][0]["securityContext"].update(readOnlyRootFilesystem=False),
         "readOnlyRootFilesystem"),
        (lambda p: p["containers"][0]["securityContext"].update(capabilities={}), "capabilities"),
        (lambda p: p["containers"][0]["resources"].pop("limits"), "limits"),
        (lambda p: p["containers"][0].update(image="ballast/gateway:latest"), "not pinned"),
        (lambda p: p["containers"][0].pop("livenessProbe"), "livenessProbe"),
        (lambda p: p["containers"][0]["env"].append({"name": "DB_PASSWORD", "value": "x"}),
         "in the clear"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_the_policy_sees_a_softened_pod(render: Any, change: Any, said: str) -> None:
    found = softened(render(SHAPES["poc"]), change)
    assert any(said in breach for breach in found)


@pytest.mark.parametrize(
    ("kind", "name", "change"),
    [
        ("RayCluster", "ballast-engines", lambda o: o["spec"].update(enableAutoscaling=True)),
        ("RayCluster", "ballast-engines", lambda o: o["spec"]["workerGroupSpecs"][0]["template"][
            "spec"]["containers"][0].update(imagePulPolicy="Always")),
        ("HTTPRoute", "ballast", lambda o: o["spec"]["rules"][0].update(timeout={})),
        ("ServiceMonitor", "ballast-gateway", lambda o: o["spec"].update(endpoints={})),
        ("CiliumNetworkPolicy", "ballast-providers", lambda o: o["spec"]["egress"][1].update(
            toFQDNs=[{"name": "a.example.com"}])),
        ("Deployment", "ballast-gateway", lambda o: o["spec"].update(replica=2)),
        ("Deployment", "ballast-gateway", lambda o: o.update(kind="Deploymint")),
    ],
    ids=["field", "pod", "route", "monitor", "cilium", "deployment", "kind"],
)  # fmt: skip
def test_the_schemas_see_a_wrong_field(
    render: Any, schemas: Schemas, kind: str, name: str, change: Any
) -> None:
    manifest = render(RELEASES["edges"]).one(kind, name)
    assert schemas.faults(manifest, NEWEST) == []
    change(manifest)
    assert schemas.faults(manifest, NEWEST)
