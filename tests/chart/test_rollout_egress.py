"""A rollout's gate and hook: the controller reaches them, nobody else does, and no other place."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from deploy.helm_cli import RefusedError
from deploy.trial import BETA, POC, laid

NAMED = "https://changes.example.com:8443/all"
CIDRS = {"rollout": ["203.0.113.0/24"]}


def values(base: Any, gate: str = "", hook: str = "", **egress: Any) -> Any:
    """A release whose controller asks a gate and tells a hook."""
    rollout: Any = {"gate": {"url": gate}} if gate else {}
    identity = {}
    if hook:
        rollout["hook"], identity = {"url": hook}, {"hookKey": "hook"}
    return laid(base, {
        "settings": {"rollout": rollout}, "secrets": {"identity": identity},
        "networkPolicy": {"egress": egress},
    })  # fmt: skip


def egress(found: Any) -> Any:
    """What the policy for rollouts opens, names' servers left out."""
    spec = found.one("NetworkPolicy", "ballast-rollout")["spec"]
    return spec["podSelector"]["matchLabels"]["app.kubernetes.io/component"], spec["egress"][1:]


@pytest.mark.parametrize(("base", "part"), [(BETA, "controller"), (POC, "gateway")])
def test_the_controller_reaches_gate_and_hook_where_it_stands(
    render: Any, base: Any, part: str
) -> None:
    asked = values(base, "https://198.51.100.7/gate", NAMED, mode="open", cidrs=CIDRS)
    assert egress(render(asked)) == (part, [
        {"to": [{"ipBlock": {"cidr": "198.51.100.7/32"}}],
         "ports": [{"protocol": "TCP", "port": 443}]},
        {"to": [{"ipBlock": {"cidr": "203.0.113.0/24"}}],
         "ports": [{"protocol": "TCP", "port": 8443}]},
    ])  # fmt: skip


def test_a_name_is_opened_as_the_mode_says(render: Any) -> None:
    found = render(values(BETA, "https://gate.example.com/", mode="open"))
    assert egress(found)[1][0]["to"][0]["ipBlock"]["cidr"] == "0.0.0.0/0"
    found = render(values(BETA, hook=NAMED, mode="cilium"))
    assert egress(found)[1] == []
    rules = found.one("CiliumNetworkPolicy", "ballast-rollout")["spec"]["egress"]
    assert rules[1] == {
        "toFQDNs": [{"matchName": "changes.example.com"}],
        "toPorts": [{"ports": [{"port": "8443", "protocol": "TCP"}]}],
    }


def test_the_hooks_secret_is_mounted_and_named_in_the_settings(render: Any) -> None:
    found = render(values(BETA, hook=NAMED, mode="open", cidrs=CIDRS))
    file = found.one("ConfigMap", "ballast-settings")["data"]["settings.yaml"]
    assert yaml.safe_load(file)["rollout"]["hook"] == {
        "url": NAMED, "secret_file": "/etc/ballast/identity/hook",
    }  # fmt: skip
    spec = found.one("Deployment", "ballast-controller")["spec"]["template"]["spec"]
    volume = next(one for one in spec["volumes"] if one["name"] == "identity")
    assert "hook" in {item["key"] for item in volume["secret"]["items"]}


@pytest.mark.parametrize("gate", ["", "http://127.0.0.1:9000/gate"])
def test_nothing_is_opened_for_nothing(render: Any, gate: str) -> None:
    assert not render(values(BETA, gate, mode="open")).has("NetworkPolicy", "ballast-rollout")


@pytest.mark.parametrize(("asked", "key"), [
    (values(BETA, hook=NAMED, mode="open"), "networkPolicy.egress.cidrs.rollout"),
    (values(BETA, "https://gate.example.com/", mode="cidr", cidrs={
        "deepseek": ["203.0.113.0/24"], "alibaba-cn": ["203.0.113.0/24"]}),
     "networkPolicy.egress.cidrs.rollout"),
    (laid(BETA, {"settings": {"rollout": {"hook": {"url": NAMED}}}}), "secrets.identity.hookKey"),
    (laid(BETA, {"secrets": {"identity": {"hookKey": "hook"}}}), "secrets.identity.hookKey"),
    (laid(BETA, {"settings": {"rollout": {"hook": {"secret_file": "/x"}}}}),
     "settings.rollout.hook.secret_file"),
], ids=["port not open", "no addresses", "unsigned", "no hook", "by hand"])  # fmt: skip
def test_what_cannot_be_reached_or_signed_is_refused(render: Any, asked: Any, key: str) -> None:
    with pytest.raises(RefusedError, match=key):
        render(asked)
