"""Each conditional of the chart, seen in what Helm renders."""

from __future__ import annotations

import json
import math
import re
from typing import Any

import pytest
import yaml

from deploy.helm_cli import CHART
from deploy.trial import BETA, EXTERNAL, GROUP, POC, SCALE, laid
from serving.engine.spec import EngineSpec
from serving.settings import Settings

GATEWAY, CONTROLLER, CLUSTER = "ballast-gateway", "ballast-controller", "ballast-engines"


def pod(found: Any, name: str = GATEWAY) -> Any:
    return found.one("Deployment", name)["spec"]["template"]["spec"]


def container(found: Any, name: str = "gateway", deployment: str = GATEWAY) -> Any:
    containers = pod(found, deployment)["containers"]
    return next(c for c in containers if c["name"] == name)


def cluster(found: Any) -> Any:
    return found.one("RayCluster", CLUSTER)["spec"]


def group(found: Any, index: int) -> Any:
    return cluster(found)["workerGroupSpecs"][index]


def settings(found: Any) -> Any:
    return yaml.safe_load(found.one("ConfigMap", "ballast-settings")["data"]["settings.yaml"])


# Sizes of a deployment, by values alone.


def test_a_poc_has_no_gpu_no_operator_and_no_second_deployment(render: Any) -> None:
    found = render(POC)
    assert not found.has("RayCluster")
    assert [d["metadata"]["name"] for d in found.all("Deployment")] == [GATEWAY]
    assert not found.has("Job", "ballast-migrations")


def test_without_postgresql_the_controller_runs_beside_the_gateway(render: Any) -> None:
    mounts = [
        {m["name"]: m["mountPath"] for m in c["volumeMounts"]}
        for c in pod(render(POC))["containers"]
    ]
    assert len(mounts) == 2
    assert mounts[0]["state"] == mounts[1]["state"], "both have the one ledger's file"


def test_with_postgresql_the_controller_has_its_own_deployment(render: Any) -> None:
    found = render(BETA)
    assert len(pod(found)["containers"]) == 1
    assert container(found, "controller", CONTROLLER)["command"][2] == "autoscale.app"


def test_the_controller_can_be_left_out(render: Any) -> None:
    off = {"controller": {"enabled": False}}
    assert len(pod(render(laid(POC, off)))["containers"]) == 1
    assert not render(laid(BETA, off)).has("Deployment", CONTROLLER)


def test_at_scale_engines_are_a_raycluster_that_we_alone_write(render: Any) -> None:
    spec = cluster(render(SCALE))
    assert spec["enableInTreeAutoscaling"] is False
    assert spec["upgradeStrategy"] == {"type": "None"}
    assert [g["groupName"] for g in spec["workerGroupSpecs"]] == ["h100-reserved", "h100-spot"]


# The gateway.


def test_the_preferred_number_of_gateways_is_set_without_autoscaling_only(render: Any) -> None:
    assert render(BETA).one("Deployment", GATEWAY)["spec"]["replicas"] == 2
    scaled = laid(BETA, {"gateway": {"autoscaling": {"enabled": True}}})
    assert "replicas" not in render(scaled).one("Deployment", GATEWAY)["spec"]


def test_gateways_scale_on_cpu_and_open_streams(render: Any) -> None:
    more = {"gateway": {"autoscaling": {"enabled": True, "openStreams": 200}}}
    hpa = render(laid(BETA, more)).one("HorizontalPodAutoscaler", GATEWAY)["spec"]
    assert [m["type"] for m in hpa["metrics"]] == ["Resource", "Pods"]
    assert hpa["metrics"][1]["pods"]["metric"]["name"] == "ballast_running"
    assert hpa["scaleTargetRef"]["name"] == GATEWAY


def test_open_streams_are_left_out_where_no_adapter_serves_them(render: Any) -> None:
    found = render(laid(BETA, {"gateway": {"autoscaling": {"enabled": True}}}))
    assert len(found.one("HorizontalPodAutoscaler", GATEWAY)["spec"]["metrics"]) == 1


def test_there_is_no_autoscaler_unless_asked_for(render: Any) -> None:
    assert not render(BETA).has("HorizontalPodAutoscaler")


def test_a_pod_drains_longer_than_the_longest_stream(render: Any) -> None:
    found = render(POC)
    longest = max(c.complete_s for n, c in Settings().gateway.classes.items() if n != "batch")
    drain_s = settings(found)["gateway"]["drain_s"]
    assert drain_s >= longest
    before = container(found)["lifecycle"]["preStop"]["sleep"]["seconds"]
    wait_s = settings(found)["ledger"]["exit_wait_s"]
    assert pod(found)["terminationGracePeriodSeconds"] > before + drain_s + wait_s


def test_a_longer_class_makes_the_drain_longer(render: Any) -> None:
    classes = {"patient": {"first_token_s": 60, "complete_s": 900.5}}
    found = render(laid(POC, {"settings": {"gateway": {"classes": classes}}}))
    assert settings(found)["gateway"]["drain_s"] == math.ceil(900.5)
    assert pod(found)["terminationGracePeriodSeconds"] > 900


def test_the_drain_can_be_set_longer_still(render: Any) -> None:
    found = render(laid(POC, {"gateway": {"drain": {"streamSeconds": 1200}}}))
    assert settings(found)["gateway"]["drain_s"] == 1200


@pytest.mark.parametrize(("version", "way"), [("1.29.4", "exec"), ("1.33.0", "sleep")])
def test_the_pause_before_the_end_suits_the_clusters_version(
    render: Any, version: str, way: str
) -> None:
    found = render(POC, more=("--kube-version", version))
    assert list(container(found)["lifecycle"]["preStop"]) == [way]


def test_a_disruption_budget_stands_unless_switched_off(render: Any) -> None:
    assert render(BETA).one("PodDisruptionBudget", GATEWAY)["spec"]["maxUnavailable"] == 1
    off = laid(BETA, {"gateway": {"podDisruptionBudget": {"enabled": False}}})
    assert not render(off).has("PodDisruptionBudget", GATEWAY)


def test_gateways_spread_over_zones_and_hosts(render: Any) -> None:
    keys = [c["topologyKey"] for c in pod(render(BETA))["topologySpreadConstraints"]]
    assert keys == ["topology.kubernetes.io/zone", "kubernetes.io/hostname"]
    off = laid(BETA, {"gateway": {"topologySpread": {"enabled": False}}})
    assert "topologySpreadConstraints" not in pod(render(off))


def test_the_two_listeners_have_two_services(render: Any) -> None:
    found = render(POC)
    assert found.one("Service", "ballast")["spec"]["ports"][0]["targetPort"] == "http"
    ops = found.one("Service", "ballast-ops")["spec"]
    assert ops["clusterIP"] == "None"
    assert ops["ports"][0]["targetPort"] == "ops"


def test_a_load_balancer_keeps_its_annotations_and_ranges(render: Any) -> None:
    service = {
        "type": "LoadBalancer", "annotations": {"a": "b"}, "loadBalancerClass": "acme/internal",
        "loadBalancerSourceRanges": ["203.0.113.0/24"],
    }  # fmt: skip
    found = render(laid(POC, {"gateway": {"service": service}})).one("Service", "ballast")
    assert found["metadata"]["annotations"] == {"a": "b"}
    assert found["spec"]["loadBalancerClass"] == "acme/internal"
    assert found["spec"]["loadBalancerSourceRanges"] == ["203.0.113.0/24"]


def test_a_claim_keeps_the_state_and_excludes_a_second_pod(render: Any) -> None:
    state = {"kind": "pvc", "size": "5Gi", "storageClass": "fast"}
    found = render(laid(POC, {"gateway": {"state": state}}))
    claim = found.one("PersistentVolumeClaim", "ballast-state")
    assert claim["spec"]["storageClassName"] == "fast"
    assert claim["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    assert found.one("Deployment", GATEWAY)["spec"]["strategy"] == {"type": "Recreate"}
    assert not render(POC).has("PersistentVolumeClaim")


@pytest.mark.parametrize("part", ["gateway", "controller"])
def test_pods_go_where_they_are_told(render: Any, part: str) -> None:
    placing = {
        "nodeSelector": {"pool": "cpu"}, "priorityClassName": "serving",
        "tolerations": [{"key": "cpu", "operator": "Exists"}],
        "affinity": {"nodeAffinity": {}}, "podLabels": {"team": "llm"},
        "podAnnotations": {"note": "yes"},
    }  # fmt: skip
    found = render(laid(BETA, {part: placing}))
    spec = pod(found, f"ballast-{part}")
    for key in ("nodeSelector", "priorityClassName", "tolerations", "affinity"):
        assert spec[key] == placing[key]
    metadata = found.one("Deployment", f"ballast-{part}")["spec"]["template"]["metadata"]
    assert metadata["labels"]["team"] == "llm"
    assert metadata["annotations"]["note"] == "yes"


def test_a_changed_setting_rolls_the_pods(render: Any) -> None:
    def stamp(values: Any) -> str:
        metadata = render(values).one("Deployment", GATEWAY)["spec"]["template"]["metadata"]
        return str(metadata["annotations"]["checksum/settings"])

    changed = laid(POC, {"settings": {"gateway": {"queue": {"hold_s_max": 5}}}})
    assert stamp(POC) != stamp(changed)


# Names, images, secrets.


def test_names_follow_release_and_override(render: Any) -> None:
    assert render(laid(POC, {"fullnameOverride": "llm"})).has("Service", "llm")


def test_one_registry_replaces_those_of_all_images(render: Any) -> None:
    more = {
        "global": {"imageRegistry": "registry.example.com/mirror", "imagePullSecrets": ["pull"]},
        "images": {"engine": {"registry": "quay.example.com"}},
    }
    found = render(laid(SCALE, more))
    engine = cluster(found)["headGroupSpec"]["template"]["spec"]
    assert container(found)["image"] == "registry.example.com/mirror/ballast/gateway:0.1.0"
    assert engine["containers"][0]["image"].startswith("registry.example.com/mirror/")
    assert pod(found)["imagePullSecrets"] == [{"name": "pull"}]
    assert engine["imagePullSecrets"] == [{"name": "pull"}]


def test_a_digest_wins_over_a_tag(render: Any) -> None:
    digest = "sha256:" + "a" * 64
    image = {"registry": "r.example.com", "tag": "1.2.3", "digest": digest}
    found = render(laid(POC, {"images": {"gateway": image}}))
    assert container(found)["image"] == f"r.example.com/ballast/gateway@{digest}"


def test_a_tag_wins_over_the_charts_version(render: Any) -> None:
    found = render(laid(POC, {"images": {"gateway": {"tag": "1.2.3"}}}))
    assert container(found)["image"] == "ballast/gateway:1.2.3"


def test_only_named_entries_of_the_identity_reach_a_pod(render: Any) -> None:
    identity = {"auditKey": "audit.pem", "apiKeys": "keys.yaml", "reviewKey": "review",
                "canaryKey": "canary"}  # fmt: skip
    found = render(laid(SCALE, {"secrets": {"identity": identity}}))

    def entries(spec: Any) -> set[str]:
        volume = next(v for v in spec["volumes"] if v["name"] == "identity")
        return {item["key"] for item in volume["secret"]["items"]}

    assert entries(pod(found)) == {"secret", "pepper", *identity.values()}
    assert entries(group(found, 0)["template"]["spec"]) == {"secret"}, "an engine gets no pepper"
    assert entries(pod(render(POC))) == {"secret", "pepper"}
    written = settings(found)
    assert written["keys_file"].endswith("/keys.yaml")
    assert written["audit"]["key_file"].endswith("/audit.pem")


def test_the_deployments_id_comes_from_its_secret(render: Any) -> None:
    for deployment in (GATEWAY, CONTROLLER):
        name = deployment.removeprefix("ballast-")
        variables = container(render(BETA), name, deployment)["env"]
        found = next(v for v in variables if v["name"] == "BALLAST_DEPLOYMENT_ID")
        assert found["valueFrom"]["secretKeyRef"]["name"] == "ballast-identity"


def test_no_manifest_holds_a_secret(render: Any) -> None:
    for values in (POC, BETA, SCALE, EXTERNAL):
        assert not render(values).has("Secret")


def test_addresses_can_come_from_secrets(render: Any) -> None:
    more = {
        "postgresql": {"url": "", "urlKey": "url"},
        "redis": {"url": "", "urlKey": "address"},
    }
    found = render(laid(BETA, more))
    variables = {v["name"]: v for v in container(found)["env"]}
    assert variables["BALLAST_LEDGER__URL"]["valueFrom"]["secretKeyRef"]["key"] == "url"
    assert variables["BALLAST_REDIS__URL"]["valueFrom"]["secretKeyRef"]["key"] == "address"
    assert "url" not in settings(found)["ledger"]
    job = found.one("Job", "ballast-migrations")["spec"]["template"]["spec"]["containers"][0]
    assert any(v["name"] == "BALLAST_LEDGER__URL" and "valueFrom" in v for v in job["env"])


def test_authorities_of_stores_are_read_from_their_secrets(render: Any) -> None:
    found = settings(render(laid(BETA, {"postgresql": {"caKey": "ca.crt"},
                                        "redis": {"caKey": "ca.pem"}})))  # fmt: skip
    assert found["ledger"]["sslrootcert"] == "/etc/ballast/postgresql/ca.crt"
    assert found["redis"]["ca_file"] == "/etc/ballast/redis/ca.pem"


# Hooks.


def test_migrations_run_before_the_gateways_that_need_them(render: Any) -> None:
    found = render(BETA)
    job = found.one("Job", "ballast-migrations")
    assert job["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"
    config = found.one("ConfigMap", "ballast-hooks")
    weights = [o["metadata"]["annotations"]["helm.sh/hook-weight"] for o in (config, job)]
    assert int(weights[0]) < int(weights[1]), "the job finds its settings"
    off = laid(BETA, {"postgresql": {"migrations": {"enabled": False}}})
    assert not render(off).has("Job", "ballast-migrations")


def test_migrations_may_run_as_the_tables_owner(render: Any) -> None:
    owner = {"url": "postgresql://owner@pg.db/ballast", "secret": "pg-owner", "passwordKey": "pw"}
    found = render(laid(BETA, {"postgresql": {"migrations": owner}}))
    spec = found.one("Job", "ballast-migrations")["spec"]["template"]["spec"]
    variables = {v["name"]: v["value"] for v in spec["containers"][0]["env"]}
    assert variables["BALLAST_LEDGER__URL"] == owner["url"]
    assert variables["BALLAST_LEDGER__PASSWORD_FILE"].endswith("/pw")
    assert any(v.get("secret", {}).get("secretName") == "pg-owner" for v in spec["volumes"])


def test_preflight_reads_and_runs_before_all_else(render: Any) -> None:
    found = render(SCALE)
    job = found.one("Job", "ballast-preflight")
    assert job["spec"]["template"]["spec"]["containers"][0]["command"][:2] == ["ballast", "doctor"]
    verbs = {
        verb
        for kind in ("Role", "ClusterRole")
        for role in found.all(kind)
        if role["metadata"]["name"].endswith("preflight")
        for rule in role["rules"]
        for verb in rule["verbs"]
    }
    assert verbs == {"get", "list"}
    off = render(laid(POC, {"preflight": {"enabled": False}}))
    assert not off.has("Job")
    assert not off.has("ConfigMap", "ballast-hooks")


def test_engines_are_put_onto_the_cluster_after_each_change(render: Any) -> None:
    found = render(SCALE)
    job = found.one("Job", "ballast-applications")
    hooks = job["metadata"]["annotations"]["helm.sh/hook"]
    assert hooks == "post-install,post-upgrade,post-rollback"
    command = job["spec"]["template"]["spec"]["containers"][0]["command"]
    assert command[:2] == ["ballast", "engines"]
    assert job["spec"]["activeDeadlineSeconds"] > int(command[-1])
    assert not render(BETA).has("Job", "ballast-applications")


# Engines.


def test_groups_get_their_gpus_taints_and_machines(render: Any) -> None:
    found = render(SCALE)
    spot = group(found, 1)["template"]
    limits = spot["spec"]["containers"][0]["resources"]["limits"]
    assert limits["nvidia.com/gpu"] == 1
    assert {t["key"] for t in spot["spec"]["tolerations"]} == {"spot", "nvidia.com/gpu"}
    assert spot["spec"]["nodeSelector"] == {"pool": "spot"}
    assert spot["metadata"]["labels"]["ballast/terms"] == "spot"
    volumes = {v["name"]: v for v in spot["spec"]["volumes"]}
    assert volumes["shm"]["emptyDir"] == {"medium": "Memory", "sizeLimit": "32Gi"}
    assert volumes["cache"]["hostPath"]["path"] == "/mnt/nvme/ballast"


def test_only_spot_machines_may_be_emptied_by_an_autoscaler(render: Any) -> None:
    found = render(SCALE)
    notes = [group(found, i)["template"]["metadata"]["annotations"] for i in (0, 1)]
    assert notes[0]["cluster-autoscaler.kubernetes.io/safe-to-evict"] == "false"
    assert "cluster-autoscaler.kubernetes.io/safe-to-evict" not in notes[1]


@pytest.mark.parametrize(
    ("cache", "kind"),
    [({"kind": "pvc", "claim": "weights"}, "persistentVolumeClaim"),
     ({"kind": "emptyDir", "size": "50Gi"}, "emptyDir"),
     ({"kind": "hostPath", "path": "/mnt/nvme"}, "hostPath")],
)  # fmt: skip
def test_weights_are_kept_where_the_group_says(render: Any, cache: Any, kind: str) -> None:
    ray = {"engines": {"ray": {"groups": [GROUP | {"cache": cache}]}}}
    spec = group(render(laid(SCALE, ray)), 0)["template"]["spec"]
    volume = next(v for v in spec["volumes"] if v["name"] == "cache")
    assert kind in volume


def test_a_group_without_gpus_asks_for_none(render: Any) -> None:
    plain = {key: value for key, value in GROUP.items() if key != "gpu"}
    spec = group(render(laid(SCALE, {"engines": {"ray": {"groups": [plain]}}})), 0)["template"]
    assert set(spec["spec"]["containers"][0]["resources"]["limits"]) == {"cpu", "memory"}
    assert "tolerations" not in spec["spec"]
    assert "ballast/gpu" not in spec["metadata"]["labels"]


def test_another_vendors_gpus_are_asked_for_by_their_own_name(render: Any) -> None:
    gpu = {"kind": "mi300x", "count": 8, "resource": "amd.com/gpu"}
    spec = group(render(laid(SCALE, {"engines": {"ray": {"groups": [GROUP | {"gpu": gpu}]}}})), 0)
    pod_spec = spec["template"]["spec"]
    assert pod_spec["containers"][0]["resources"]["limits"]["amd.com/gpu"] == 8
    assert pod_spec["tolerations"][0]["key"] == "amd.com/gpu"


def test_the_head_keeps_its_state_in_redis(render: Any) -> None:
    found = cluster(render(SCALE))["gcsFaultToleranceOptions"]
    assert found["redisAddress"] == "redis.db:6379"
    assert found["redisPassword"]["valueFrom"]["secretKeyRef"]["name"] == "redis"
    off = laid(SCALE, {"engines": {"ray": {"gcs": {"faultTolerant": False}}}})
    assert "gcsFaultToleranceOptions" not in cluster(render(off))


def test_a_redis_without_a_password_names_no_secret(render: Any) -> None:
    off = laid(SCALE, {"engines": {"ray": {"gcs": {"secret": ""}}}})
    assert "redisPassword" not in cluster(render(off))["gcsFaultToleranceOptions"]


def test_no_engine_runs_on_the_head(render: Any) -> None:
    assert cluster(render(SCALE))["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"


def test_rays_token_is_asked_for_and_read_by_gateways(render: Any) -> None:
    found = render(SCALE)
    assert cluster(found)["authOptions"] == {"mode": "token", "secretName": "ballast-ray"}
    fleet = settings(found)["fleet"]
    assert fleet["serve_url"] == "http://ballast-engines-head-svc:8265"
    assert fleet["ray_token_file"] == "/etc/ballast/ray/auth_token"
    assert {m["mountPath"] for m in container(found)["volumeMounts"]} >= {"/etc/ballast/ray"}


def test_an_engine_that_ends_outlives_its_longest_stream(render: Any) -> None:
    spec = group(render(SCALE), 0)["template"]["spec"]
    longest = EngineSpec(model_name="m", model_path="x", secret_path="y").stream_s_max
    assert spec["terminationGracePeriodSeconds"] > longest
    more = laid(SCALE, {"engines": {"ray": {"drainSeconds": 1000}}})
    assert group(render(more), 0)["template"]["spec"]["terminationGracePeriodSeconds"] == 1030


def test_mirrors_and_hub_tokens_reach_engines_and_settings(render: Any) -> None:
    more = {
        "mirrors": {"hub": "modelscope", "huggingfaceUrl": "https://hf.example.com",
                    "modelscopeUrl": "https://ms.example.com",
                    "packages": "https://index.example.com/simple"},
        "secrets": {"hub": {"name": "hubs", "huggingface": "hf", "modelscope": "ms"}},
    }  # fmt: skip
    found = render(laid(SCALE, more))
    assert settings(found)["weights"] == {
        "hub": "modelscope", "huggingface_url": "https://hf.example.com",
        "modelscope_url": "https://ms.example.com",
        "huggingface_token_file": "/etc/ballast/hub/hf",
        "modelscope_token_file": "/etc/ballast/hub/ms",
    }  # fmt: skip
    engine = group(found, 0)["template"]["spec"]["containers"][0]
    variables = {v["name"]: v["value"] for v in engine["env"]}
    assert variables["PIP_INDEX_URL"] == "https://index.example.com/simple"
    assert "/etc/ballast/hub" in {m["mountPath"] for m in engine["volumeMounts"]}


def test_engines_outside_are_listed_with_their_label(render: Any) -> None:
    fleet = settings(render(EXTERNAL))["fleet"]
    assert fleet["pool"] == {"jurisdiction": "us", "operator": "runpod", "on_premises": False}
    assert fleet["static"][0] == {
        "model": "chat", "url": "http://10.99.0.2:30000/m/chat", "limit": 256,
    }  # fmt: skip


def test_an_engine_over_mutual_tls_is_reached_by_loopback_alone(render: Any) -> None:
    found = render(EXTERNAL)
    assert settings(found)["fleet"]["static"][1]["url"] == "http://127.0.0.1:9101/m/chat"
    sidecar = pod(found)["initContainers"][0]
    assert sidecar["restartPolicy"] == "Always", "it ends after the gateway's last stream"
    envoy = yaml.safe_load(found.one("ConfigMap", "ballast-mtls")["data"]["envoy.yaml"])
    listener = envoy["static_resources"]["listeners"][1]["address"]["socket_address"]
    assert listener == {"address": "127.0.0.1", "port_value": 9101}
    tls = envoy["static_resources"]["clusters"][0]["transport_socket"]["typed_config"]
    versions = tls["common_tls_context"]["tls_params"].values()
    assert set(versions) == {"TLSv1_3"}, "Envoy's clients speak 1.2 at most unless told"
    names = tls["common_tls_context"]["validation_context"]["match_typed_subject_alt_names"]
    assert names == [{"san_type": "DNS", "matcher": {"exact": "gpu.example.com"}}]
    assert "initContainers" not in pod(render(POC))


# The edge and monitoring.


def test_an_ingress_serves_the_public_paths_over_tls(render: Any) -> None:
    edge = {"enabled": True, "className": "nginx", "host": "llm.example.com", "tlsSecret": "cert",
            "annotations": {"a": "b"}}  # fmt: skip
    spec = render(laid(POC, {"ingress": edge})).one("Ingress", "ballast")["spec"]
    assert spec["tls"] == [{"hosts": ["llm.example.com"], "secretName": "cert"}]
    assert spec["ingressClassName"] == "nginx"
    paths = spec["rules"][0]["http"]["paths"]
    assert {p["backend"]["service"]["name"] for p in paths} == {"ballast"}, "never the ops Service"
    assert not render(POC).has("Ingress")


def test_a_route_hangs_on_an_existing_gateway(render: Any) -> None:
    parent = {"name": "edge", "namespace": "infra", "sectionName": "https"}
    edge = {"enabled": True, "hostnames": ["llm.example.com"], "parent": parent}
    found = render(laid(POC, {"gatewayApi": edge}))
    assert found.one("HTTPRoute", "ballast")["spec"]["parentRefs"] == [parent]
    assert not found.has("Gateway")


def test_a_gateway_of_its_own_ends_tls(render: Any) -> None:
    edge = {"enabled": True, "hostnames": ["a.example.com", "b.example.com"], "className": "envoy",
            "tlsSecret": "cert"}  # fmt: skip
    found = render(laid(POC, {"gatewayApi": edge}))
    listeners = found.one("Gateway", "ballast")["spec"]["listeners"]
    assert [item["hostname"] for item in listeners] == ["a.example.com", "b.example.com"]
    assert all(item["tls"]["mode"] == "Terminate" for item in listeners)
    timeouts = found.one("HTTPRoute", "ballast")["spec"]["rules"][0]["timeouts"]
    assert timeouts == {"request": "0s"}, "an edge must not cut a stream"


def test_monitors_are_made_where_the_operator_is(render: Any) -> None:
    on = {"enabled": True, "labels": {"release": "prometheus"}}
    found = render(laid(SCALE, {"monitoring": {"serviceMonitor": on, "podMonitor": on}}))
    monitor = found.one("ServiceMonitor", "ballast-gateway")
    assert monitor["metadata"]["labels"]["release"] == "prometheus"
    wanted = monitor["spec"]["selector"]["matchLabels"].items()
    matching = [s["metadata"]["name"] for s in found.all("Service")
                if wanted <= s["metadata"]["labels"].items()]  # fmt: skip
    assert matching == ["ballast-ops"]
    assert found.has("PodMonitor", "ballast-engine")
    assert not render(SCALE).has("ServiceMonitor")
    assert not render(SCALE).has("PodMonitor")


def test_alerts_and_dashboards_come_along_when_asked_for(render: Any) -> None:
    rules = {"enabled": True, "labels": {"release": "prometheus"}}
    found = render(laid(POC, {"monitoring": {"rules": rules, "dashboards": {"enabled": True}}}))
    rule = found.one("PrometheusRule", "ballast")
    text = (CHART / "files" / "rules.yaml").read_text("utf-8")
    assert rule["spec"] == yaml.safe_load(text)
    assert rule["metadata"]["labels"]["release"] == "prometheus"
    boards = {p.name for p in (CHART / "files" / "dashboards").glob("*.json")}
    shown = [m for m in found.all("ConfigMap") if "grafana_dashboard" in m["metadata"]["labels"]]
    assert {name for board in shown for name in board["data"]} == boards
    assert all(json.loads(t) for board in shown for t in board["data"].values())
    assert not render(POC).has("PrometheusRule")


def test_both_are_scraped_under_the_names_that_alerts_look_for(render: Any) -> None:
    found = render(laid(POC, {"monitoring": {"serviceMonitor": {"enabled": True}}}))
    label = found.one("ServiceMonitor", "ballast-gateway")["spec"]["jobLabel"]
    job = found.one("Service", "ballast-ops")["metadata"]["labels"][label]
    text = (CHART / "files" / "rules.yaml").read_text("utf-8")
    monitor = found.one("PodMonitor", "ballast-controller")["spec"]["podMetricsEndpoints"][0]
    jobs = [job, monitor["relabelings"][0]["replacement"]]
    patterns = set(re.findall(r'up\{job=~"([^"]*)"\}', text))
    named = [[job for job in jobs if re.fullmatch(one, job)] for one in sorted(patterns)]
    assert sorted(named) == [["ballast-controller"], ["ballast-gateway"]]


# Accounts and rights.


def test_only_the_pods_that_ask_kubernetes_get_a_token(render: Any) -> None:
    found = render(SCALE)
    assert pod(found)["automountServiceAccountToken"] is False
    assert pod(found, CONTROLLER)["automountServiceAccountToken"] is True
    for part in (cluster(found)["headGroupSpec"], group(found, 0)):
        assert part["template"]["spec"]["automountServiceAccountToken"] is False
    assert all(a["automountServiceAccountToken"] is False for a in found.all("ServiceAccount"))


def test_without_engines_in_the_cluster_the_controller_has_no_rights(render: Any) -> None:
    found = render(BETA)
    assert pod(found, CONTROLLER)["automountServiceAccountToken"] is False
    assert not found.has("Role", CONTROLLER)


def test_the_controller_may_patch_one_raycluster_and_hold_one_lease(render: Any) -> None:
    found = render(SCALE)
    rules = found.one("Role", CONTROLLER)["rules"]
    writing = [r for r in rules if {"patch", "update"} & set(r["verbs"])]
    assert [(r["resources"], r["resourceNames"]) for r in writing] == [
        (["leases"], [CONTROLLER]), (["rayclusters"], [CLUSTER]),
    ]  # fmt: skip
    cluster_rules = found.one("ClusterRole", "llm-ballast-controller")["rules"]
    assert cluster_rules == [
        {"apiGroups": [""], "resources": ["nodes"], "verbs": ["get", "list", "watch"]}
    ]


def test_accounts_keep_their_annotations(render: Any) -> None:
    found = render(laid(POC, {"serviceAccount": {"annotations": {"role": "llm"}}}))
    assert found.one("ServiceAccount", GATEWAY)["metadata"]["annotations"] == {"role": "llm"}


def test_the_controllers_probe_asks_where_it_listens(render: Any) -> None:
    found = render(BETA)
    one = container(found, "controller", CONTROLLER)
    away = [row["value"] for row in one["env"] if row["name"].startswith("BALLAST_GATEWAY__")]
    assert away == ["ballast-ops"] * 2, "signals and canaries ask pods, not itself"
    assert one["ports"] == [{"name": "control", "containerPort": 8090}]
    assert one["livenessProbe"]["httpGet"] == {"path": "/livez", "port": "control"}
    service = found.one("Service", CONTROLLER)["spec"]
    assert service["ports"] == [{"name": "control", "port": 8090, "targetPort": "control"}]


@pytest.mark.parametrize(("values", "part"), [(BETA, "controller"), (POC, "gateway")])
def test_the_controller_is_scraped_where_it_stands(render: Any, values: Any, part: str) -> None:
    """Without PostgreSQL it is a container of the one gateway pod."""
    asked = {"monitoring": {"serviceMonitor": {"enabled": True}}}
    asked |= {"networkPolicy": {"monitoringNamespaces": ["watch"]}}
    found = render(laid(values, asked))
    monitor = found.one("PodMonitor", CONTROLLER)["spec"]
    assert monitor["selector"]["matchLabels"]["app.kubernetes.io/component"] == part
    rows = monitor["podMetricsEndpoints"][0]["relabelings"]
    assert rows == [{"targetLabel": "job", "replacement": "ballast-controller"}]
    policy = found.one("NetworkPolicy", f"ballast-{part}")["spec"]["ingress"]
    openings = [rule for rule in policy if rule["ports"] == [{"protocol": "TCP", "port": 8090}]]
    assert "watch" in str(openings)
