"""Every conditional of the chart goes each way it can in some render of this file, counted."""

from __future__ import annotations

import re
import runpy
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import yaml

from deploy import branches
from deploy.helm_cli import CHART, Helm, RefusedError, objects
from deploy.trial import BETA, EXTERNAL, GROUP, POC, SCALE, laid

HERE = Path(__file__).parent
PLACED: dict[str, Any] = {
    "nodeSelector": {"pool": "cpu"}, "tolerations": [{"key": "cpu", "operator": "Exists"}],
    "affinity": {"nodeAffinity": {}}, "priorityClassName": "serving",
    "podLabels": {"team": "llm"}, "podAnnotations": {"note": "yes"},
}  # fmt: skip
ROBOT = {"name": "duty", "kind": "feishu", "urlKey": "feishu-url"}
ROBOTS: dict[str, Any] = {"alerts": {
    "enabled": True, "robots": [ROBOT, ROBOT | {"name": "money", "host": "open.larksuite.com",
                                                "secretKey": "sign", "language": "en",
                                                "severities": ["note"]}],
    "alertmanagers": [{"ipBlock": {"cidr": "10.0.9.0/24"}}], **PLACED}}  # fmt: skip
HOOK = {"secrets": {"identity": {"hookKey": "hook"}}}
CIDRS = {"deepseek": ["203.0.113.0/24"], "feishu": ["198.51.100.0/24"],
         "hub": ["203.0.113.9/32"], "rollout": ["192.0.2.0/24"]}  # fmt: skip
PROXY = {"mode": "proxy", "proxy": {"url": "http://10.0.0.9:3128", "cidr": "10.0.0.9/32"}}
HEAD = {k: v for k, v in PLACED.items() if not k.startswith("pod")}


def rollout(gate: str = "", hook: str = "") -> Any:
    asked = {"gate": gate and {"url": gate}, "hook": hook and {"url": hook}}
    return {"settings": {"rollout": {k: v for k, v in asked.items() if v}}}


def egress(mode: str, **more: Any) -> Any:
    return {"networkPolicy": {"egress": {"mode": mode} | more}}


def one_group(**more: Any) -> Any:
    return {"engines": {"ray": {"groups": [GROUP | more]}}}


VARIANTS: dict[str, tuple[Any, ...]] = {
    "nothing asked": ({"networkPolicy": {"egress": {"mode": "open"}}}, {}),
    "no network policies": (SCALE, {"networkPolicy": {"enabled": False}}),
    "robots without network policies": (POC, laid(ROBOTS, {"networkPolicy": {"enabled": False}})),
    "no hooks": (POC, {"preflight": {"enabled": False}}),
    "no migrations": (BETA, {"postgresql": {"migrations": {"enabled": False}}}),
    "no secret for PostgreSQL": (BETA, {"postgresql": {"secret": "", "sslmode": "require"}}),
    "no password entry": (BETA, {"postgresql": {"passwordKey": ""}}),
    "ports of stores by default": (BETA, {"postgresql": {"url": "postgresql://ballast@pg.db/b"},
                                          "redis": {"url": "rediss://redis.db/0", "secret": "",
                                                    "passwordKey": ""}}),
    "no redis": (BETA, {"redis": {"url": "", "secret": "", "passwordKey": ""}}),
    "no ledger but a redis": (POC, {
        "redis": {"url": "rediss://r:6379/0"},
        "networkPolicy": {"databases": [{"ipBlock": {"cidr": "10.0.8.0/24"}}]}}),
    "no preflight": (BETA, {"preflight": {"enabled": False}}),
    "addresses from Secrets": (BETA, {"postgresql": {"url": "", "urlKey": "url", "caKey": "ca"},
                                      "redis": {"url": "", "urlKey": "at", "caKey": "ca"}}),
    "migrations as the owner": (BETA, {"postgresql": {"migrations": {
        "url": "postgresql://owner@pg.db/b", "secret": "owner"}}}),
    "pods told where": (BETA, {"gateway": PLACED, "controller": PLACED}),
    "every identity": (laid(BETA, HOOK), {
        "secrets": {"identity": {"auditKey": "a", "apiKeys": "k", "reviewKey": "r",
                                 "canaryKey": "c"}},
        "settings": {"rollout": {"hook": {"url": "https://192.0.2.7/x"}}},
        "serviceAccount": {"annotations": {"role": "llm"}}}),
    "own images": (SCALE, {"global": {"imageRegistry": "r.example.com", "imagePullSecrets": ["p"]},
                           "images": {"gateway": {"digest": "sha256:" + "a" * 64},
                                      "engine": {"tag": "1.2.3"}}}),
    "one image of another registry": (POC, {"images": {"gateway": {"registry": "q.example.com"}}}),
    "all digests": (POC, {"images": {"requireDigests": True,
                                     "gateway": {"digest": "sha256:" + "a" * 64}}}),
    "a name": (POC, {"fullnameOverride": "llm"}),
    "a fixed drain": (SCALE, {"gateway": {"drain": {"streamSeconds": 1200}},
                              "engines": {"ray": {"drainSeconds": 900}}}),
    "own classes": (POC, {"settings": {"gateway": {"classes": {
        "patient": {"first_token_s": 60, "complete_s": 900}}}}}),
    "a claim": (POC, {"gateway": {"state": {"kind": "pvc", "storageClass": "fast"}}}),
    "a claim of the default class": (POC, {"gateway": {"state": {"kind": "pvc"}}}),
    "gateways that scale": (BETA, {"gateway": {"autoscaling": {"enabled": True}}}),
    "gateways that scale on streams": (BETA, {"gateway": {
        "autoscaling": {"enabled": True, "openStreams": 100}}}),
    "neither budget nor spread": (BETA, {"gateway": {
        "podDisruptionBudget": {"enabled": False}, "topologySpread": {"enabled": False}}}),
    "a load balancer": (POC, {"gateway": {"service": {
        "type": "LoadBalancer", "annotations": {"a": "b"}, "loadBalancerClass": "x/y",
        "loadBalancerSourceRanges": ["203.0.113.0/24"]}}}),
    "no controller": (BETA, {"controller": {"enabled": False}}),
    "no controller beside the gateway": (POC, {
        "controller": {"enabled": False},
        "monitoring": {"serviceMonitor": {"enabled": True}, "rules": {"enabled": True}}}),
    "watched PoC": (POC, {
        "networkPolicy": {"monitoringNamespaces": ["watch"], "publicFrom": [{"podSelector": {}}]},
        "monitoring": {
            "serviceMonitor": {"enabled": True, "labels": {"a": "b"}},
            "rules": {"enabled": True, "labels": {"a": "b"}},
            "dashboards": {"enabled": True, "labels": {"grafana_dashboard": None}}}}),
    "rules alone": (POC, {"monitoring": {"rules": {"enabled": True}}}),
    "watched engines": (SCALE, {"monitoring": {"podMonitor": {"enabled": True}}}),
    "watched at scale": (SCALE, {
        "networkPolicy": {"monitoringNamespaces": ["watch"]},
        "monitoring": {"serviceMonitor": {"enabled": True},
                       "podMonitor": {"enabled": True, "labels": {"a": "b"}},
                       "dashboards": {"enabled": True}}}),
    "an ingress": (POC, {"ingress": {"enabled": True, "host": "a.example.com", "tlsSecret": "c"}}),
    "an ingress of a class": (POC, {"ingress": {
        "enabled": True, "host": "a.example.com", "tlsSecret": "c", "className": "nginx",
        "annotations": {"a": "b"}}}),
    "a route": (POC, {"gatewayApi": {"enabled": True, "hostnames": ["a.example.com"], "parent": {
        "name": "edge", "namespace": "infra", "sectionName": "https"}}}),
    "a route in this namespace": (POC, {"gatewayApi": {
        "enabled": True, "hostnames": ["a.example.com"], "parent": {"name": "edge"}}}),
    "a gateway": (POC, {"gatewayApi": {"enabled": True, "hostnames": ["a.example.com"],
                                       "className": "envoy", "tlsSecret": "c"}}),
    "robots, open": (POC, laid(ROBOTS, {"monitoring": {"serviceMonitor": {
        "enabled": True, "labels": {"a": "b"}}},
        "networkPolicy": {"monitoringNamespaces": ["w"]}})),
    "one plain robot": (POC, {"alerts": ROBOTS["alerts"] | {
        "robots": [ROBOT], "nodeSelector": {}, "tolerations": [], "affinity": {},
        "priorityClassName": "", "podLabels": {}, "podAnnotations": {}},
        "monitoring": {"serviceMonitor": {"enabled": True}}}),
    "an Alertmanager's files": (POC, laid(ROBOTS, {"monitoring": {"alertmanager": {
        "enabled": True, "labels": {"a": "b"}}}})),
    "an Alertmanager's files, no labels": (POC, laid(ROBOTS, {"monitoring": {"alertmanager": {
        "enabled": True}}})),
    "robots by proxy": (BETA, laid(ROBOTS, egress(**PROXY))),
    "robots by cilium": (BETA, laid(ROBOTS, egress("cilium"))),
    "robots by addresses": (BETA, laid(ROBOTS, egress("cidr", cidrs=CIDRS))),
    "robots and no provider": ({"networkPolicy": {"egress": {"mode": "open"}}}, ROBOTS),
    "a proxy at 80": (POC, egress("proxy", proxy=PROXY["proxy"] | {"url": "http://10.0.0.9"})),
    "a proxy over TLS": (POC, egress("proxy", proxy=PROXY["proxy"] | {"url": "https://p.x"})),
    "tenants' accounts by proxy": (laid(POC, egress(**PROXY)), {"settings": {"tenant_accounts": [
        {"id": "a", "tenant": "acme", "provider": "deepseek", "api_key_file": "/k"}]}}),
    "tenants' accounts": (POC, {"settings": {"tenant_accounts": [
        {"id": "a", "tenant": "acme", "provider": "deepseek", "api_key_file": "/k"}]}}),
    "engines, cilium": (SCALE, egress("cilium")),
    "engines, cilium, mirrors": (laid(SCALE, egress("cilium")), {"mirrors": {
        "huggingfaceUrl": "https://h.example.com", "modelscopeUrl": "https://m.example.com",
        "packages": "https://index.example.com/simple"}}),
    "engines, cilium, ModelScope": (laid(SCALE, egress("cilium")), {
        "mirrors": {"hub": "modelscope"},
        "secrets": {"hub": {"name": "hubs", "huggingface": "h", "modelscope": "m"}}}),
    "cilium and no provider": ({"networkPolicy": {"egress": {"mode": "cilium"}}}, {}),
    "addresses and no provider": ({"networkPolicy": {"egress": {"mode": "cidr"}}}, {}),
    "a proxy and no provider": ({"networkPolicy": {"egress": PROXY}}, {}),
    "no provider in reach": (POC, {"settings": {"tenants": [{"id": "a"}]}}),
    "engines by addresses": (SCALE, laid(egress("cidr", cidrs=CIDRS), {
        "networkPolicy": {"engineEgress": [{"to": [{"ipBlock": {"cidr": "10.1.0.0/16"}}]}]}})),
    "no way to Kubernetes": (SCALE, {"networkPolicy": {"apiServerCidrs": []}}),
    "a head that may be lost": (SCALE, {"engines": {"ray": {"gcs": {"faultTolerant": False}}}}),
    "a head's Redis without a password": (SCALE, {"engines": {"ray": {"gcs": {"secret": ""}}}}),
    "a head told where": (SCALE, {"engines": {"ray": {"head": HEAD}}}),
    "a group told where": (SCALE, one_group(**HEAD, cache={"kind": "pvc", "claim": "w"},
                                            sharedMemory="8Gi")),
    "a group with a sized cache": (SCALE, one_group(cache={"kind": "emptyDir", "size": "9Gi"})),
    "a group without GPUs": (SCALE, {"engines": {"ray": {"groups": [
        {k: v for k, v in GROUP.items() if k != "gpu"}]}}}),
    "a group of another resource": (SCALE, one_group(gpu={
        "kind": "h100-80", "count": 1, "resource": "x.com/gpu"})),
    "a group that says where it stands": (SCALE, one_group(pool=SCALE["engines"]["pool"])),
    "machines by group": (SCALE, {"settings": {"controller": {"acting": {"machines": [
        {"model": "chat", "pool": "p", "by": "cluster", "group": "h100-reserved"}]}}}}),
    "engines outside": (EXTERNAL, {"engines": {"external": [
        {"model": "chat", "url": "https://10.99.0.2:8443/m/chat", "via": "mtls",
         "pool": {"jurisdiction": "us", "operator": "x", "onPremises": False}},
        {"model": "chat", "url": "http://10.99.0.3:30000/m/chat", "via": "network"}]}}),
    "own cards and providers": (POC, {"settings": {
        "providers_dir": "/etc/providers", "providers": [
            {"id": "own", "base_url": "http://llm.example.com/v1", "jurisdiction": "cn"},
            {"id": "azure", "jurisdiction": "cn", "address": {"resource": "acme"}},
            {"id": "deepseek", "base_url": "https://llm.example.com:8443/v1"}],
        "models": [{"name": "chat"}]}}),
    "a provider's own proxy": (POC, {"settings": {"providers": [
        {"id": "deepseek", "proxy": "http://10.0.0.9:3128"}, {"id": "openai"}]}}),
    "tenants of each rule": (POC, {"settings": {"tenants": [
        {"id": "a"}, {"id": "b", "residency": "anywhere"},
        {"id": "c", "residency": "named", "jurisdictions": ["us"]}]}}),
    "residency of later tenants": (POC, egress("open", residency="named", jurisdictions=["us"])),
    "a traced PoC": (POC, {
        "settings": {"tracing": {"endpoint": "https://c.example.com/v1/traces"}},
        "tracing": {"collector": [{"ipBlock": {"cidr": "10.0.9.0/24"}}], "secret": "otel",
                    "tokenKey": "token"}}),
    "a rollout's hook by address": (laid(BETA, HOOK), rollout(hook="https://192.0.2.7/x")),
    "rollouts by name, open": (laid(BETA, HOOK), rollout("https://gate.example.com/g",
                                                         "https://hook.example.com/h")),
    "rollouts by name, a PoC": (POC, rollout("https://gate.example.com/g")),
    "rollouts by addresses": (laid(BETA, HOOK), laid(
        rollout("https://gate.example.com/g", "https://192.0.2.7/x"),
        egress("cidr", cidrs=CIDRS))),
    "rollouts by cilium": (laid(BETA, HOOK), laid(
        rollout("https://gate.example.com/g", "https://192.0.2.7/x"), egress("cilium"))),
    "rollouts on loopback": (POC, rollout("http://127.0.0.1:9000/g")),
    "rollouts without policies": (POC, laid(rollout("https://gate.example.com/g"),
                                            {"networkPolicy": {"enabled": False}})),
    "an older Kubernetes": (POC, {}, "--kube-version", "1.29.4"),
}  # fmt: skip

FIXED = [
    # (file and action, the way it cannot go, why)
    (r"\S+ range (\$\w+(, \$\w+)? := )?(list|append|dict|uniq|\$owned|\$images)\b(?!.*compact)",
     "passed by", "a list written in the template"),
    (r"\S+ range \$path, \$text := \$\.Files\.Glob", "passed by", "the chart has dashboards"),
    (r"\S+ range \(include .ballast\.hubHosts. \. \| fromJson\)\.list", "passed by",
     "some hub is always used"),
    (r"alerts\.yaml range \(include .ballast\.robotHosts. \. \| fromJson\)\.list", "passed by",
     "checkAlerts asks for a robot"),
    (r"(_watching\.tpl|alerts\.yaml) range .*[aA]lerts\.robots", "passed by",
     "checkAlerts asks for a robot"),
    (r"\S+ range .*get \$policy\.egress\.cidrs \.", "passed by",
     "checkNetwork and checkAlerts ask for addresses"),
    (r"edge\.yaml range \$index, \$host := \.hostnames", "passed by", "checkEdge asks for a host"),
    (r"(_preflight\.tpl|engines\.yaml|_checks\.tpl range \$index, \$group :=) .*ray\.groups",
     "passed by", "checkEngines asks for a group"),
    (r"_mtls\.tpl range .*engines\.external", "passed by", "included where one speaks mutual TLS"),
    (r"NOTES\.txt range \$asked", "passed by", "stands where more is asked than is in reach"),
    (r"_egress\.tpl .*default list \.jurisdictions", "default first",
     "checkProviders asks for countries"),
]  # fmt: skip


def is_fixed(way: str, said: tuple[str, ...]) -> bool:
    """Whether no values can make the action `said[0]` go that way: by the table, since it loops
    over what it stands within an `if` or `with` of, or over a map that values.yaml fills."""
    action = f"{way.partition(':')[0]} {said[0]}"
    if any(re.match(one, action) and way.endswith(end) for one, end, _ in FIXED):
        return True
    if not way.endswith("passed by"):
        return False
    if said[0].startswith("range "):
        what = said[0].partition(":= ")[2] or said[0].removeprefix("range ")
        return any(is_guard(outer, what) for outer in said[1:])
    asked = re.match(r"with \$?\.Values\.([\w.]+)$", said[0])
    found: Any = yaml.safe_load((CHART / "values.yaml").read_text("utf-8"))
    for key in asked[1].split(".") if asked else ():
        found = (found or {}).get(key)
    # Values only add keys to a map that values.yaml fills.
    return bool(asked) and isinstance(found, dict) and bool(found)


def is_guard(outer: str, what: str) -> bool:
    """Whether a block stands only where `what` is not empty."""
    condition = re.sub(r"^(else )?(if|with) ", "", outer)
    if condition == outer:
        return False
    if what == ".":
        return "with " in outer
    return condition == what or condition.startswith(f"and {what} ")


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory, helms: dict[str, Helm]) -> Any:
    """A Helm that renders the marked copy, and all ways of it with their actions."""
    folder = tmp_path_factory.mktemp("marked")
    ways = branches.marked(CHART, folder / "chart")
    return Helm(helms["4.3"].binary, folder, folder / "chart"), ways


@pytest.fixture
def live() -> Iterator[tuple[str, ...]]:
    """What makes Helm ask a cluster that has the RayCluster already."""
    cluster = runpy.run_path(str(HERE / "test_live_counts.py"))["Cluster"]
    listener = ThreadingHTTPServer(("127.0.0.1", 0), cluster)
    thread = Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.01}, name="cluster")
    thread.start()
    address = f"http://127.0.0.1:{listener.server_address[1]}"
    yield "--dry-run=server", "--disable-openapi-validation", "--kube-apiserver", address
    listener.shutdown()
    thread.join()
    listener.server_close()


def releases() -> Iterable[tuple[Any, tuple[str, ...]]]:
    """Examples, stages and the variants of this file."""
    for folder in ("examples", "stages"):
        for path in sorted((CHART.parent / folder).glob("*.yaml")):
            yield yaml.safe_load(path.read_text("utf-8")), ()
    for base, more, *flags in VARIANTS.values():
        yield laid(base, more), tuple(flags)


@pytest.mark.full
@pytest.mark.timeout(400)
def test_each_conditional_goes_each_way(copy: Any, live: tuple[str, ...]) -> None:
    helm, ways = copy
    refused = runpy.run_path(str(HERE / "test_refusals.py"))["CONTRADICTIONS"]

    def told(given: tuple[Any, tuple[str, ...]]) -> set[str]:
        return branches.seen(helm.template(given[0], *given[1]))

    def complaint(base: Any, more: Any) -> set[str]:
        with pytest.raises(RefusedError) as caught:
            helm.template(laid(base, more))
        return branches.seen(str(caught.value))

    with ThreadPoolExecutor(2) as pool:
        taken = set().union(*pool.map(told, releases()))
        taken |= set().union(*pool.map(lambda c: complaint(*c[:2]), refused))
    taken |= branches.seen(helm.template(POC, release="llm"))
    taken |= branches.seen(helm.template(SCALE, *live))
    assert taken <= set(ways)
    fixed = {way for way, said in ways.items() if is_fixed(way, said)}
    open_ways = [f"{w}: {{{{ {ways[w][0]} }}}}" for w in ways if w not in taken | fixed]
    print(f"{len(ways)} ways, {len(taken)} gone, {len(fixed)} that no values can go")
    assert open_ways == [], "\n".join(open_ways)
    happened = sorted(fixed & taken)
    assert happened == [], f"called impossible, and yet it happened: {happened}"


def test_marks_change_nothing_that_is_rendered(copy: Any, helms: dict[str, Helm]) -> None:
    for values in (SCALE, laid(*VARIANTS["rollouts by cilium"])):
        plain = objects(helms["4.3"].template(values))
        assert objects(branches.unmarked(copy[0].template(values))) == plain
