"""Values that Helm refuses, each by a message that names the key and what to do."""

from __future__ import annotations

from typing import Any

import pytest

from deploy.helm_cli import Helm, RefusedError
from deploy.trial import BETA, EXTERNAL, GROUP, POC, SCALE, laid

MODEL = {"name": "chat"}
ENGINE = EXTERNAL["engines"]["external"][0]


def groups(**more: Any) -> Any:
    return {"engines": {"ray": {"groups": [GROUP | more]}}}


def outside(**more: Any) -> Any:
    return {"engines": {"external": [ENGINE | more]}}


def alerts(*robots: Any) -> Any:
    peers = [{"ipBlock": {"cidr": "10.0.9.0/24"}}]
    return {"alerts": {"enabled": True, "robots": list(robots), "alertmanagers": peers}}


ROBOT = {"name": "duty", "kind": "feishu", "urlKey": "feishu-url"}
NO_API = {"settings": {"models": [MODEL]}, "engines": EXTERNAL["engines"]}
TRACED = {"settings": {"tracing": {"endpoint": "https://c.example.com/v1/traces"}}}
PEERS: dict[str, Any] = {"collector": [{"ipBlock": {"cidr": "10.0.9.0/24"}}]}
ROLLOUT: Any = {"settings": {"rollout": {"hook": {"url": "https://changes.example.com:8443/all"}}},
                "secrets": {"identity": {"hookKey": "hook"}}}  # fmt: skip

CONTRADICTIONS = [
    # (base, values over it, the key it names, a part of the remedy)
    (POC, {"gateway": {"replicas": 2}}, "gateway.replicas", "postgresql.url"),
    (POC, {"gateway": {"autoscaling": {"enabled": True}}}, "gateway.autoscaling.enabled",
     "postgresql.url"),
    (BETA, {"gateway": {"autoscaling": {"enabled": True, "minReplicas": 20}}},
     "gateway.autoscaling.minReplicas", "lower it"),
    (BETA, {"gateway": {"state": {"kind": "pvc"}}}, "gateway.state.kind", "use emptyDir"),
    (POC, {"controller": {"replicas": 2}}, "controller.replicas", "postgresql.url"),
    (POC, {"gateway": {"drain": {"streamSeconds": 60}}}, "gateway.drain.streamSeconds", "raise it"),
    (POC, {"gateway": {"service": {"loadBalancerClass": "x"}}}, "gateway.service.type",
     "use LoadBalancer"),
    (POC, {"fullnameOverride": "7up"}, "fullnameOverride", "begin with a letter"),
    (POC, {"secrets": {"providers": ""}}, "secrets.providers", "name a Secret"),
    (POC, {"settings": {"providers": [{"id": "nobody"}]}}, "settings.providers[0].id",
     "known are alibaba-cn"),
    (POC, {"settings": {"models": [MODEL | {"offerings": ["zhipu-cn/glm-5"]}]}},
     "settings.models[0].offerings", "add it there"),
    (POC, {"settings": {"tenants": [{"id": "a", "residency": "named"}]}},
     "settings.tenants[0].jurisdictions", "name countries"),
    (POC, {"settings": {"models": [MODEL | {"engine": {}}]}}, "settings.models[0]",
     "engines.ray.enabled"),
    (POC, {"settings": {"gateway": {"port": 9000}}}, "settings.gateway.port",
     "use gateway.service.port"),
    (POC, {"settings": {"deployment_id": "x"}}, "settings.deployment_id",
     "secrets.identity.deploymentId"),
    (POC, {"settings": {"fleet": {"static": []}}}, "settings.fleet.static", "engines.external"),
    (POC, {"settings": {"ledger": {"url": "postgresql://a/b"}}}, "settings.ledger.url",
     "postgresql.url"),
    (POC, {"settings": {"providers": [{"id": "deepseek", "api_key_env": "X"}]}},
     "settings.providers[0].api_key_env", "Secret secrets.providers"),
    (SCALE, {"settings": {"controller": {"acting": {"lease": {}}}}},
     "settings.controller.acting.lease", "the release's name"),
    (SCALE, {"settings": {"controller": {"acting": {"machines": [
        {"model": "chat", "pool": "p", "by": "cluster", "group": "none"}]}}}},
     "settings.controller.acting.machines[0].group", "add it there"),
    (BETA, {"postgresql": {"urlKey": "url"}}, "postgresql.url", "keep one"),
    (POC, {"redis": {"urlKey": "url"}}, "redis.urlKey", "redis.secret"),
    (POC, {"redis": {"passwordKey": "p"}}, "redis.passwordKey", "redis.secret"),
    (BETA, {"networkPolicy": {"databases": []}}, "networkPolicy.databases", "ipBlock"),
    (SCALE, {"engines": {"pool": {"operator": ""}}}, "engines.pool", "jurisdiction: cn"),
    (SCALE, {"engines": {"ray": {"groups": []}}}, "engines.ray.groups", "at least one"),
    (SCALE, {"engines": {"ray": {"gcs": {"redisAddress": ""}}}}, "engines.ray.gcs.redisAddress",
     "host:port"),
    (SCALE, {"engines": {"ray": {"groups": [GROUP, GROUP]}}}, "engines.ray.groups[1].name",
     "rename one"),
    (SCALE, groups(replicas=9), "engines.ray.groups[0].replicas", "mend one of them"),
    (SCALE, groups(pool={"jurisdiction": "us", "operator": "acme", "onPremises": True}),
     "engines.ray.groups[0].pool", "a release of their own"),
    (SCALE, groups(cache={"kind": "hostPath"}), "engines.ray.groups[0].cache.path", "/mnt/nvme"),
    (SCALE, groups(cache={"kind": "pvc"}), "engines.ray.groups[0].cache.claim", "existing claim"),
    (EXTERNAL, {"engines": {"external": [ENGINE], "pool": {"operator": ""}}}, "engines.pool",
     "jurisdiction: cn"),
    (EXTERNAL, outside(model="other"), "engines.external[0].model", "add it there"),
    (EXTERNAL, outside(url="http://gpu.example.com:30000/m/chat"), "engines.external[0].cidr",
     "203.0.113.7/32"),
    (EXTERNAL, {"engines": {"mtls": {"secret": ""}}}, "engines.external[1].via",
     "engines.mtls.secret"),
    (EXTERNAL, {"engines": {"mtls": {"image": {"tag": ""}}}}, "engines.mtls.image", "a digest"),
    (POC, {"secrets": {"hub": {"huggingface": "hf"}}}, "secrets.hub.name", "name the Secret"),
    (POC, {"networkPolicy": {"egress": {"mode": ""}}}, "networkPolicy.egress.mode", "choose"),
    (POC, {"networkPolicy": {"egress": {"mode": "proxy"}}}, "networkPolicy.egress.proxy", "cidr"),
    (POC, {"networkPolicy": {"egress": {"mode": "cidr"}}}, "networkPolicy.egress.cidrs.deepseek",
     "api.deepseek.com"),
    (POC, {"networkPolicy": {"egress": {"residency": "named"}}},
     "networkPolicy.egress.jurisdictions", "name countries"),
    (POC, {"settings": {"providers": [{"id": "deepseek"}, {"id": "azure", "jurisdiction": "cn"}]}},
     "settings.providers", "base_url"),
    (POC, {"ingress": {"enabled": True, "tlsSecret": "c"}}, "ingress.host", "name the host"),
    (POC, {"ingress": {"enabled": True, "host": "a.example.com"}}, "ingress.tlsSecret",
     "name a Secret"),
    (POC, {"gatewayApi": {"enabled": True}}, "gatewayApi.hostnames", "at least one"),
    (POC, {"gatewayApi": {"enabled": True, "hostnames": ["a.example.com"]}},
     "gatewayApi.parent.name", "className and tlsSecret"),
    (POC, {"images": {"gateway": {"tag": "latest"}}}, "images.gateway.tag", "a digest"),
    (POC, {"images": {"requireDigests": True}}, "images.gateway.digest", "sha256:"),
    (POC, {"monitoring": {"podMonitor": {"enabled": True}}}, "monitoring.podMonitor.enabled",
     "switch it off"),
    (POC, {"ingress": {"enabled": True, "host": "a.example.com", "tlsSecret": "c"},
           "gatewayApi": {"enabled": True}}, "gatewayApi.enabled", "choose one edge"),
    (POC, {"monitoring": {"alertmanager": {"enabled": True}}}, "monitoring.alertmanager.enabled",
     "switch alerts.enabled on"),
    (POC, {"alerts": {"enabled": True}}, "alerts.robots", "name at least one"),
    (POC, {"alerts": {"enabled": True, "robots": [ROBOT]}}, "alerts.alertmanagers",
     "NetworkPolicyPeer"),
    (POC, alerts(ROBOT, ROBOT), "alerts.robots[1].name", "rename one"),
    (POC, alerts(ROBOT) | {"networkPolicy": {"egress": {
        "mode": "cidr", "cidrs": {"deepseek": ["203.0.113.0/24"]}}}},
     "networkPolicy.egress.cidrs.feishu", "addresses"),
    (NO_API, alerts(ROBOT), "networkPolicy.egress.mode", "robots of alerts"),
    (POC, {"settings": {"tracing": {"endpoint": "http://c:4318/v1/traces"}}}, "tracing.collector",
     "NetworkPolicyPeer"),
    (POC, {"tracing": {"secret": "otel", "tokenKey": "token"}}, "settings.tracing.endpoint",
     "leave tracing.collector"),
    (POC, TRACED | {"tracing": PEERS | {"secret": "otel"}}, "tracing.secret", "or neither"),
    (POC, {"settings": {"tracing": {"token_file": "/x"}}}, "settings.tracing.token_file",
     "tracing.tokenKey"),
    (POC, {"settings": {"providers": [{"id": "deepseek", "proxy": "http://10.0.0.8:3128"}]},
           "networkPolicy": {"egress": {"mode": "proxy", "proxy": {
               "url": "http://10.0.0.9:3128", "cidr": "10.0.0.9/32"}}}},
     "settings.providers[0].proxy", "leave one of them out"),
    (POC, {"redis": {"url": "rediss://r:6379/0", "caKey": "ca.pem"}}, "redis.caKey",
     "redis.secret"),
    (SCALE, {"postgresql": {"url": ""}, "gateway": {"replicas": 1}}, "engines.ray.enabled",
     "name postgresql.url"),
    (SCALE, {"settings": {"controller": {"acting": {"machines": [
        {"model": "chat", "pool": "p", "by": "cluster"}]}}}},
     "settings.controller.acting.machines[0].group", "add it there"),
    (BETA, ROLLOUT | {"networkPolicy": {"egress": {"mode": "open"}}},
     "networkPolicy.egress.cidrs.rollout", "203.0.113.0/24"),
    (BETA, {"settings": ROLLOUT["settings"]}, "secrets.identity.hookKey", "or neither"),
    (BETA, {"settings": {"rollout": {"hook": {"secret_file": "/x"}}}},
     "settings.rollout.hook.secret_file", "leave it out"),
]  # fmt: skip

OUT_OF_FORM = [
    # (values over the PoC, the key as a path, what is expected there)
    ({"gatway": {}}, "", "gatway"),
    ({"gateway": {"replica": 2}}, "gateway", "replica"),
    ({"gateway": {"replicas": 0}}, "gateway.replicas", "1"),
    ({"gateway": {"replicas": "two"}}, "gateway.replicas", "integer"),
    ({"gateway": {"autoscaling": {"cpuPercent": 150}}}, "gateway.autoscaling.cpuPercent", "100"),
    ({"gateway": {"service": {"type": "Loadbalancer"}}}, "gateway.service.type", "LoadBalancer"),
    ({"gateway": {"state": {"kind": "disk"}}}, "gateway.state.kind", "emptyDir"),
    ({"gateway": {"resources": {"limits": {"cpu": "two"}}}}, "gateway.resources.limits.cpu",
     "pattern"),
    ({"gateway": {"state": {"size": "5 GB"}}}, "gateway.state.size", "pattern"),
    ({"images": {"gateway": {"digest": "sha256:abc"}}}, "images.gateway.digest", "pattern"),
    ({"images": {"pullPolicy": "always"}}, "images.pullPolicy", "IfNotPresent"),
    ({"networkPolicy": {"egress": {"mode": "any"}}}, "networkPolicy.egress.mode", "cilium"),
    ({"networkPolicy": {"apiServerCidrs": ["10.0.0.1"]}}, "networkPolicy.apiServerCidrs.0",
     "pattern"),
    ({"postgresql": {"url": "postgresql://u:secret@h/d"}}, "postgresql.url", "pattern"),
    ({"redis": {"url": "redis://:secret@h"}}, "redis.url", "pattern"),
    ({"engines": {"ray": {"version": "2.60"}}}, "engines.ray.version", "pattern"),
    ({"engines": {"external": [{"model": "chat", "url": "http://h:1/m/chat"}]}},
     "engines.external.0", "via"),
    ({"engines": {"external": [{"model": "c", "via": "network", "url": "http://h/m/c"}]}},
     "engines.external.0.url", "pattern"),
    ({"engines": {"pool": {"jurisdiction": "China"}}}, "engines.pool.jurisdiction", "pattern"),
    ({"secrets": {"identity": {"pepper": ""}}}, "secrets.identity.pepper", ""),
    ({"monitoring": {"serviceMonitor": {"interval": "often"}}},
     "monitoring.serviceMonitor.interval", "pattern"),
    ({"settings": {"gateway": {"queue": {"calls_max": -1}}}}, "settings.gateway.queue.calls_max",
     "0"),
    ({"settings": {"gateway": {"quue": {}}}}, "settings.gateway", "quue"),
    ({"settings": {"tenants": [{"id": "a", "residency": "china"}]}},
     "settings.tenants.0.residency", "mainland"),
    ({"settings": {"models": [{"aliases": ["x"]}]}}, "settings.models.0", "name"),
    ({"settings": {"controller": {"tick_s": 0}}}, "settings.controller.tick_s", "0"),
    ({"settings": {"tracing": {"ratio": 2}}}, "settings.tracing.ratio", "1"),
    ({"engines": {"external": [ENGINE | {"pool": {"jurisdiction": "us"}}]}},
     "engines.external.0.pool", "operator"),
    ({"alerts": {"robots": [{"name": "duty", "kind": "slack", "urlKey": "u"}]}},
     "alerts.robots.0.kind", "feishu"),
    ({"alerts": {"robots": [{"name": "duty", "kind": "wecom"}]}}, "alerts.robots.0", "urlKey"),
    ({"tracing": {"collector": ["10.0.0.1"]}}, "tracing.collector.0", "object"),
]  # fmt: skip


def complaint(helm: Helm, base: Any, more: Any) -> str:
    with pytest.raises(RefusedError) as refused:
        helm.template(laid(base, more))
    return str(refused.value)


@pytest.mark.parametrize(
    ("base", "more", "key", "remedy"), CONTRADICTIONS, ids=[c[2] for c in CONTRADICTIONS]
)
def test_what_contradicts_another_key_is_refused_by_name(
    helms: dict[str, Helm], base: Any, more: Any, key: str, remedy: str
) -> None:
    said = complaint(helms["4.3"], base, more)
    assert f" {key}: " in said
    assert remedy in said.partition(key)[2]


@pytest.mark.parametrize(
    ("more", "key", "expected"), OUT_OF_FORM, ids=[f"{c[1]}-{c[2]}" for c in OUT_OF_FORM]
)
def test_what_is_out_of_form_is_refused_by_name(
    helms: dict[str, Helm], more: Any, key: str, expected: str
) -> None:
    for helm in helms.values():
        said = complaint(helm, POC, more)
        # Helm 3 writes a.0.b, Helm 4 '/a/0/b'.
        assert (key or "(root)") in said or f"'/{key.replace('.', '/')}'" in said or not key
        assert expected in said or "pattern" in expected


def test_two_deployments_cannot_share_names_by_a_typo(helms: dict[str, Helm]) -> None:
    said = complaint(helms["3.17"], POC, {"fullnameOverride": "Ballast"})
    assert "fullnameOverride" in said
