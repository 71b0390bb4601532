"""The alert bridge and the way to a trace collector, as Helm renders them."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from ballast.alerting import cards
from ballast.alerting.settings import Alerting
from deploy.trial import BETA, POC, laid
from serving.settings import Settings

DUTY = {"name": "duty", "kind": "feishu", "urlKey": "feishu-url", "secretKey": "feishu-secret"}
MONEY = {"name": "finance", "kind": "wecom", "urlKey": "wecom-url", "severities": ["note"],
         "language": "en"}  # fmt: skip
ROBOTS = {
    "alerts": {
        "enabled": True,
        "robots": [DUTY, MONEY],
        "alertmanagers": [
            {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}
        ],
    }
}
CIDRS = {
    "deepseek": ["203.0.113.0/24"],
    "feishu": ["198.51.100.0/24"],
    "wecom": ["198.51.100.9/32"],
}
TRACED = {
    "settings": {"tracing": {"endpoint": "https://otel.example.com:4318/v1/traces"}},
    "tracing": {
        "collector": [{"ipBlock": {"cidr": "10.0.9.0/24"}}],
        "secret": "otel",
        "tokenKey": "authorization",
    },
}


def egress(mode: str, **more: Any) -> Any:
    return {"networkPolicy": {"egress": {"mode": mode} | more}}


def opened(found: Any) -> Any:
    """What the bridge may reach beside DNS."""
    return found.one("NetworkPolicy", "ballast-alerts")["spec"]["egress"][1:]


def test_no_bridge_is_rendered_unless_it_is_switched_on(render: Any) -> None:
    found = render(POC)
    assert not found.has("Deployment", "ballast-alerts")
    assert not found.has("NetworkPolicy", "ballast-traces")


def test_the_bridge_reads_a_file_that_its_program_takes(render: Any) -> None:
    found = render(laid(POC, ROBOTS))
    text = found.one("ConfigMap", "ballast-alerts")["data"]["alerts.yaml"]
    given = Alerting.model_validate(yaml.safe_load(text))
    assert [r.name for r in given.robots] == ["duty", "finance"]
    assert given.robots[1].severities == ("note",)
    assert given.host == "0.0.0.0"
    assert given.proxy is None
    spec = found.one("Deployment", "ballast-alerts")["spec"]["template"]["spec"]
    volumes = {v["name"]: v for v in spec["volumes"]}
    mounts = {m["name"]: m["mountPath"] for m in spec["containers"][0]["volumeMounts"]}
    files = {f"{mounts['robots']}/{item['path']}" for item in volumes["robots"]["secret"]["items"]}
    asked = {str(r.url_file) for r in given.robots} | {str(given.token_file)}
    asked |= {str(r.secret_file) for r in given.robots if r.secret_file}
    assert files == asked
    assert spec["automountServiceAccountToken"] is False


def test_no_address_of_a_robot_is_in_the_release(render: Any) -> None:
    text = yaml.safe_dump(render(laid(POC, ROBOTS)).objects)
    assert "/bot/v2/hook" not in text
    assert "webhook/send" not in text


def test_only_alertmanager_and_monitoring_may_post(render: Any) -> None:
    more = {"networkPolicy": {"monitoringNamespaces": ["metrics"]}}
    spec = render(laid(laid(POC, ROBOTS), more)).one("NetworkPolicy", "ballast-alerts")["spec"]
    (rule,) = spec["ingress"]
    assert [p["port"] for p in rule["ports"]] == [9095]
    names = [
        peer["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"]
        for peer in rule["from"]
    ]
    assert names == ["monitoring", "metrics"]


def test_egress_by_names_is_to_the_robots_hosts_alone(render: Any) -> None:
    found = render(laid(laid(POC, ROBOTS), egress("cilium")))
    assert opened(found) == []
    rules = found.one("CiliumNetworkPolicy", "ballast-robots")["spec"]["egress"][1:]
    hosts = [rule["toFQDNs"][0]["matchName"] for rule in rules]
    assert hosts == ["open.feishu.cn", "qyapi.weixin.qq.com"]
    own = laid(laid(POC, ROBOTS), egress("cilium"))
    own["alerts"] = own["alerts"] | {"robots": [DUTY | {"host": "open.larksuite.com"}]}
    rules = render(own).one("CiliumNetworkPolicy", "ballast-robots")["spec"]["egress"][1:]
    assert [rule["toFQDNs"][0]["matchName"] for rule in rules] == ["open.larksuite.com"]


def test_egress_by_addresses_is_to_those_kept_for_each_kind(render: Any) -> None:
    found = render(laid(laid(POC, ROBOTS), egress("cidr", cidrs=CIDRS)))
    blocks = [[peer["ipBlock"]["cidr"] for peer in rule["to"]] for rule in opened(found)]
    assert blocks == [CIDRS["feishu"], CIDRS["wecom"]]
    assert all(p["port"] == 443 for rule in opened(found) for p in rule["ports"])


def test_through_a_proxy_the_bridge_uses_it_and_the_proxy_gets_the_hosts(render: Any) -> None:
    proxy = {"url": "http://10.0.0.9:3128", "cidr": "10.0.0.9/32"}
    found = render(laid(laid(BETA, ROBOTS), egress("proxy", proxy=proxy)))
    (rule,) = opened(found)
    assert rule["to"][0]["ipBlock"]["cidr"] == proxy["cidr"]
    text = found.one("ConfigMap", "ballast-alerts")["data"]["alerts.yaml"]
    assert Alerting.model_validate(yaml.safe_load(text)).proxy == proxy["url"]
    hosts = found.one("ConfigMap", "ballast-egress-hosts")["data"]["hosts.txt"].split()
    assert {"open.feishu.cn:443", "qyapi.weixin.qq.com:443"} <= set(hosts)


def test_an_open_egress_is_open_on_https_only(render: Any) -> None:
    (rule,) = opened(render(laid(POC, ROBOTS)))
    assert rule["to"][0]["ipBlock"]["cidr"] == "0.0.0.0/0"
    assert [p["port"] for p in rule["ports"]] == [443]


def test_the_chart_knows_the_host_of_every_kind_of_robot(render: Any) -> None:
    kinds = cards.Kind.__args__  # type: ignore[attr-defined]
    robots = [{"name": kind, "kind": kind, "urlKey": kind} for kind in kinds]
    values = laid(laid(POC, ROBOTS), egress("cilium"))
    values["alerts"] = values["alerts"] | {"robots": robots}
    rules = render(values).one("CiliumNetworkPolicy", "ballast-robots")["spec"]["egress"][1:]
    assert len(rules) == len(kinds)


def test_the_gateways_may_reach_the_collector_and_nobody_else_may(render: Any) -> None:
    found = render(laid(POC, TRACED))
    spec = found.one("NetworkPolicy", "ballast-traces")["spec"]
    assert spec["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "gateway"
    (rule,) = spec["egress"]
    assert rule["to"] == TRACED["tracing"]["collector"]
    assert [p["port"] for p in rule["ports"]] == [4318]


def test_the_collectors_token_is_mounted_where_the_settings_look_for_it(render: Any) -> None:
    found = render(laid(POC, TRACED))
    text = found.one("ConfigMap", "ballast-settings")["data"]["settings.yaml"]
    given = Settings.model_validate(yaml.safe_load(text)).tracing
    assert given.endpoint == TRACED["settings"]["tracing"]["endpoint"]
    assert str(given.token_file) == "/etc/ballast/tracing/authorization"
    spec = found.one("Deployment", "ballast-gateway")["spec"]["template"]["spec"]
    (volume,) = [v for v in spec["volumes"] if v["name"] == "tracing"]
    assert volume["secret"]["secretName"] == "otel"
    for one in spec["containers"]:
        paths = {m["name"]: m["mountPath"] for m in one["volumeMounts"]}
        assert paths["tracing"] == "/etc/ballast/tracing"


@pytest.mark.server
def test_alertmanagers_files_come_with_the_releases_own_addresses(
    render: Any, tool: Any, tmp_path: Path
) -> None:
    more = {"monitoring": {"alertmanager": {"enabled": True, "labels": {"a": "b"}}}}
    release = render(laid(laid(POC, ROBOTS), more))
    found = release.one("ConfigMap", "ballast-alertmanager")
    (port,) = release.one("Service", "ballast-alerts")["spec"]["ports"]
    assert found["metadata"]["labels"]["a"] == "b"
    for name, text in found["data"].items():
        (tmp_path / name).write_text(text, "utf-8")
    config = yaml.safe_load(found["data"]["alertmanager.yaml"])
    hook = config["receivers"][0]["webhook_configs"][0]
    assert hook["url"] == f"http://ballast-alerts.llm.svc:{port['port']}/alerts"
    token = hook["http_config"]["authorization"]["credentials_file"]
    assert token == "/etc/alertmanager/secrets/ballast-alerts/token"
    assert config["templates"] == ["/etc/alertmanager/configmaps/ballast-alertmanager/*.tmpl"]
    amtool = tool("amtool", "prometheus-alertmanager")
    path = tmp_path / "alertmanager.yaml"
    path.write_text(path.read_text("utf-8").replace(config["templates"][0], "*.tmpl"), "utf-8")
    said = subprocess.run(
        [amtool, "check-config", str(path)], capture_output=True, text=True, timeout=20,
        check=False,
    )  # fmt: skip
    assert said.returncode == 0, said.stdout + said.stderr
    assert "1 templates" in said.stdout
    assert not render(laid(POC, ROBOTS)).has("ConfigMap", "ballast-alertmanager")
