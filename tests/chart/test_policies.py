"""The network is closed, and opened by the same rules that the router keeps."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as some

from deploy.helm_cli import Helm, objects
from deploy.trial import BETA, EXTERNAL, POC, SCALE, laid
from models.provider import FOLDER, load
from serving.records import DataLabel, Residency, ResidencyLevel

ROWS = load(FOLDER)
PLAIN = sorted(name for name, row in ROWS.items() if "{" not in row.base_url)


def policy(found: Any, part: str) -> Any:
    return found.one("NetworkPolicy", f"ballast-{part}")["spec"]


def ports(rule: Any) -> list[Any]:
    return [p.get("endPort", p["port"]) for p in rule.get("ports", ())]


@pytest.mark.parametrize("values", [POC, BETA, SCALE, EXTERNAL])
def test_every_pod_of_the_release_is_closed_by_default(render: Any, values: Any) -> None:
    found = render(values)
    spec = policy(found, "default-deny")
    assert spec["policyTypes"] == ["Ingress", "Egress"]
    assert "ingress" not in spec
    assert "egress" not in spec
    wanted = spec["podSelector"]["matchLabels"].items()
    templates = [o["spec"]["template"] for o in found.all("Deployment") + found.all("Job")]
    for ray in found.all("RayCluster"):
        groups = [ray["spec"]["headGroupSpec"], *ray["spec"]["workerGroupSpecs"]]
        templates += [group["template"] for group in groups]
    assert all(wanted <= t["metadata"]["labels"].items() for t in templates)


def test_policies_can_be_left_to_somebody_else(render: Any) -> None:
    off = laid(POC, {"networkPolicy": {"enabled": False, "egress": {"mode": ""}}})
    assert not render(off).has("NetworkPolicy")


def test_engine_ports_open_for_gateways_and_controller_only(render: Any) -> None:
    among, served = policy(render(SCALE), "engine")["ingress"]
    parts = [p["podSelector"]["matchLabels"]["app.kubernetes.io/component"] for p in served["from"]]
    assert parts == ["gateway", "controller", "applications"]
    assert ports(served) == [31000, 8265]
    assert among["from"][0]["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "engine"


def test_no_disruption_budget_counts_a_jobs_pod(render: Any) -> None:
    """A budget over pods that nothing scales allows no disruption at all."""
    found = render(SCALE)
    jobs = [j["spec"]["template"]["metadata"]["labels"].items() for j in found.all("Job")]
    for budget in found.all("PodDisruptionBudget"):
        wanted = budget["spec"]["selector"]["matchLabels"].items()
        assert not any(wanted <= labels for labels in jobs)


def test_no_one_outside_reaches_rays_own_ports(render: Any) -> None:
    rules = policy(render(SCALE), "engine")["ingress"]
    closed = {6379, 10001, 52365}
    assert not any(closed & set(ports(rule)) for rule in rules)
    open_to_all = [rule for rule in rules if not rule.get("from")]
    assert open_to_all == []


def test_the_ops_listener_is_for_controller_and_monitoring_only(render: Any) -> None:
    more = {"networkPolicy": {"monitoringNamespaces": ["monitoring"]}}
    public, ops = policy(render(laid(BETA, more)), "gateway")["ingress"]
    assert ports(public) == [8080]
    assert ports(ops) == [8081]
    assert len(ops["from"]) == 2
    assert len(policy(render(BETA), "gateway")["ingress"][1]["from"]) == 1


def test_the_public_listener_can_be_kept_to_some(render: Any) -> None:
    peer = {"namespaceSelector": {"matchLabels": {"edge": "yes"}}}
    more = {"networkPolicy": {"publicFrom": [peer]}}
    assert policy(render(laid(POC, more)), "gateway")["ingress"][0]["from"] == [peer]
    assert "from" not in policy(render(POC), "gateway")["ingress"][0]


def test_stores_are_reached_where_they_are_and_nowhere_else(render: Any) -> None:
    rule = policy(render(BETA), "stores")["egress"][1]
    assert rule["to"] == [{"ipBlock": {"cidr": "10.0.8.0/24"}}]
    assert ports(rule) == [5432, 6379]
    assert not render(POC).has("NetworkPolicy", "ballast-stores")


def test_a_store_on_another_port_is_reached_there(render: Any) -> None:
    more = {"postgresql": {"url": "postgresql://b@pg.db:6432/ballast"}}
    assert ports(policy(render(laid(BETA, more)), "stores")["egress"][1])[0] == 6432


def test_engines_outside_are_reached_at_their_address_only(render: Any) -> None:
    rules = policy(render(EXTERNAL), "gateway")["egress"]
    found = [(r["to"][0]["ipBlock"]["cidr"], ports(r)) for r in rules if "ipBlock" in r["to"][0]]
    assert found == [("10.99.0.2/32", [30000]), ("203.0.113.7/32", [8443])]


def test_the_head_reaches_its_redis(render: Any) -> None:
    rules = policy(render(SCALE), "engine")["egress"]
    assert [6379] in [ports(rule) for rule in rules]


def test_engines_may_get_more_ways_out(render: Any) -> None:
    rule = {"to": [{"ipBlock": {"cidr": "10.1.0.0/16"}}], "ports": [{"port": 9000}]}
    more = {
        "networkPolicy": {"engineEgress": [rule], "egress": {"cidrs": {"hub": ["10.2.0.0/16"]}}}
    }
    rules = policy(render(laid(SCALE, more)), "engine")["egress"]
    assert rule in rules
    assert any(r.get("to") == [{"ipBlock": {"cidr": "10.2.0.0/16"}}] for r in rules)


# The ways to providers.


def test_open_means_public_addresses_on_443_alone(render: Any) -> None:
    rules = policy(render(POC), "providers")["egress"]
    assert [ports(rule) for rule in rules] == [[443]]
    kept_out = rules[0]["to"][0]["ipBlock"]["except"]
    assert {"10.0.0.0/8", "169.254.0.0/16", "192.168.0.0/16"} <= set(kept_out)


def test_by_cidr_only_admitted_providers_are_opened(render: Any) -> None:
    cidrs = {"deepseek": ["203.0.113.0/24"], "openai": ["198.51.100.0/24"]}
    more = {"networkPolicy": {"egress": {"mode": "cidr", "cidrs": cidrs}}}
    rules = policy(render(laid(POC, more)), "providers")["egress"]
    assert [r["to"] for r in rules] == [[{"ipBlock": {"cidr": "203.0.113.0/24"}}]]


def test_by_proxy_only_the_proxy_is_reached_and_it_gets_the_hosts(render: Any) -> None:
    egress = {"mode": "proxy", "proxy": {"url": "http://egress.net:3128", "cidr": "10.7.0.3/32"}}
    found = render(laid(POC, {"networkPolicy": {"egress": egress}}))
    rules = policy(found, "providers")["egress"]
    assert [(r["to"][0]["ipBlock"]["cidr"], ports(r)) for r in rules] == [("10.7.0.3/32", [3128])]
    hosts = found.one("ConfigMap", "ballast-egress-hosts")["data"]["hosts.txt"].split()
    assert hosts == ["api.deepseek.com:443"]


def test_by_proxy_tenants_own_accounts_take_it_too(render: Any) -> None:
    egress = {"mode": "proxy", "proxy": {"url": "http://egress.net:3128", "cidr": "10.7.0.3/32"}}
    account = {"id": "theirs", "tenant": "acme", "provider": "deepseek", "api_key_env": "THEIRS"}
    more = {"networkPolicy": {"egress": egress}, "settings": {"tenant_accounts": [account]}}
    text = render(laid(POC, more)).one("ConfigMap", "ballast-settings")["data"]["settings.yaml"]
    (told,) = yaml.safe_load(text)["tenant_accounts"]
    assert told == {**account, "proxy": "http://egress.net:3128"}


def test_by_cilium_hosts_are_opened_by_name(render: Any) -> None:
    found = render(laid(SCALE, {"networkPolicy": {"egress": {"mode": "cilium"}}}))
    rules = found.one("CiliumNetworkPolicy", "ballast-providers")["spec"]["egress"]
    assert [r["toFQDNs"] for r in rules[1:]] == [[{"matchName": "api.deepseek.com"}]]
    hub = found.one("CiliumNetworkPolicy", "ballast-hub")["spec"]["egress"][1]["toFQDNs"]
    assert {"matchName": "huggingface.co"} in hub
    assert not found.has("NetworkPolicy", "ballast-providers")


def test_a_hubs_mirror_stands_for_the_hub(render: Any) -> None:
    more = {
        "networkPolicy": {"egress": {"mode": "cilium"}},
        "mirrors": {"hub": "modelscope", "modelscopeUrl": "https://ms.example.com"},
    }
    found = render(laid(SCALE, more)).one("CiliumNetworkPolicy", "ballast-hub")
    assert found["spec"]["egress"][1]["toFQDNs"] == [{"matchName": "ms.example.com"}]


def test_no_admitted_provider_means_no_way_out(render: Any) -> None:
    only_home = {"settings": {"tenants": [{"id": "acme", "residency": "premises"}]}}
    found = render(laid(POC, only_home))
    assert not found.has("NetworkPolicy", "ballast-providers")


def test_tenants_to_come_may_be_admitted_beforehand(render: Any) -> None:
    egress = {"mode": "cilium", "residency": "named", "jurisdictions": ["us"]}
    found = render(laid(POC, {"networkPolicy": {"egress": egress}}))
    rules = found.one("CiliumNetworkPolicy", "ballast-providers")["spec"]["egress"]
    assert len(rules) == 3, "DNS, the mainland's, the new country's"


def test_an_account_bound_to_a_place_counts_there(render: Any) -> None:
    bound = {
        "networkPolicy": {"egress": {"mode": "cilium"}},
        "settings": {"providers": [{"id": "openai-compatible", "jurisdiction": "cn",
                                    "address": {"host": "llm.example.cn:8443"}}],
                     "models": [{"name": "chat"}]},
    }  # fmt: skip
    rules = render(laid(POC, bound)).one("CiliumNetworkPolicy", "ballast-providers")["spec"]
    opened = rules["egress"][1]
    assert opened["toFQDNs"] == [{"matchName": "llm.example.cn"}]
    assert opened["toPorts"] == [{"ports": [{"port": "8443", "protocol": "TCP"}]}]


LEVELS = {
    "premises": ResidencyLevel.PREMISES, "mainland": ResidencyLevel.MAINLAND,
    "named": ResidencyLevel.NAMED, "anywhere": ResidencyLevel.ANYWHERE,
}  # fmt: skip
PLACES = sorted({row.jurisdiction for row in ROWS.values()})
RULES = some.builds(
    lambda level, where: {"residency": level, "jurisdictions": sorted(where)},
    some.sampled_from(sorted(LEVELS)), some.sets(some.sampled_from(PLACES), min_size=1, max_size=3),
)  # fmt: skip


@settings(max_examples=15)
@given(rules=some.lists(RULES, max_size=3), chosen=some.sets(some.sampled_from(PLAIN), max_size=6))
def test_the_network_admits_whom_the_router_admits(
    helms: dict[str, Helm], rules: list[Any], chosen: set[str]
) -> None:
    values = laid(POC, {
        "settings": {
            "models": [{"name": "chat"}],
            "providers": [{"id": name} for name in sorted(chosen)],
            "tenants": [rule | {"id": f"t{i}"} for i, rule in enumerate(rules)],
        },
        "networkPolicy": {"egress": {"mode": "cilium"}},
    })  # fmt: skip
    residencies = [
        Residency(
            LEVELS[r["residency"]],
            frozenset(r["jurisdictions"] if r["residency"] == "named" else ()),
        )
        for r in rules
    ]
    admitted = {
        name
        for name, residency in itertools.product(chosen, residencies)
        if residency.admits(DataLabel(ROWS[name].jurisdiction, ROWS[name].operator, False))
    }
    found = objects(helms["4.3"].template(values))
    cilium = [o for o in found if o["kind"] == "CiliumNetworkPolicy"]
    rules_out = [r["toFQDNs"][0]["matchName"] for o in cilium for r in o["spec"]["egress"][1:]]
    hosts = {name: ROWS[name].base_url.split("/")[2] for name in chosen}
    assert sorted(rules_out) == sorted(hosts[name] for name in admitted)
