"""Kill switches and stale knowledge: whatever else holds, what is stopped sees nothing new."""

from __future__ import annotations

import itertools

import pytest

from serving.records import (
    Burst,
    DataLabel,
    Refuse,
    Residency,
    ResidencyLevel,
    Run,
    Stops,
)
from serving.routing import place
from serving.rules import EGRESS_POLICY_S_MAX, POLICY_S_MAX

ANYWHERE = Residency(ResidencyLevel.ANYWHERE)
US, CN = DataLabel("us", "x"), DataLabel("cn", "y")


def set_of(*names: str) -> frozenset[str]:
    return frozenset(names)


WHOLE = {
    "all": Stops(is_all=True),
    "model": Stops(models=set_of("m", "other")),
    "tenant": Stops(tenants=set_of("acme")),
}


@pytest.mark.parametrize("stops", WHOLE.values(), ids=WHOLE)
def test_a_switch_stops_what_it_names_for_engines_and_apis_alike(make, stops):
    view = make.view([make.replica()], [make.offering()], stops=stops)
    refusal = place(make.call(), make.caller(ANYWHERE), view, 0.0)
    assert isinstance(refusal, Refuse)
    assert (refusal.code, refusal.reason) == ("stopped", "kill_switch")
    assert refusal.retry_after_s is not None


def test_a_forwarder_that_is_stopped_takes_its_customers_along(make):
    view = make.view([make.replica()], stops=Stops(tenants=set_of("acme")))
    for tenant, is_stopped in (("acme/shop", True), ("acme", True), ("acmes", False)):
        placement = place(make.call(tenant=tenant), make.caller(), view, 0.0)
        assert isinstance(placement, Refuse if is_stopped else Run), tenant


def test_what_is_not_named_flows_on(make):
    stops = Stops(
        models=set_of("x"), tenants=set_of("x"), providers=set_of("x"), jurisdictions=set_of("xx")
    )
    view = make.view([], [make.offering()], stops=stops)
    assert isinstance(place(make.call(), make.caller(ANYWHERE), view, 0.0), Burst)


@pytest.mark.parametrize(
    "stops", [Stops(providers=set_of("api")), Stops(jurisdictions=set_of("us"))], ids=["api", "us"]
)
def test_a_stopped_provider_or_country_gives_way_to_another(make, stops):
    other = make.offering("beta/big", provider="beta", label=CN)
    view = make.view([], [make.offering(label=US), other], stops=stops)
    placement = place(make.call(), make.caller(ANYWHERE), view, 0.0)
    assert isinstance(placement, Burst)
    assert placement.target.id == "beta/big"


def test_a_stopped_country_stops_our_own_pool_there_too(make):
    view = make.view([make.replica(label=US)], stops=Stops(jurisdictions=set_of("us")))
    assert isinstance(place(make.call(), make.caller(ANYWHERE), view, 0.0), Refuse)


# -- how old what we know may be


def served(make, age_s, replica_label=None):
    """What a call gets when the directory was read so long ago: engine, API, or neither."""
    labels = {} if replica_label is None else {"label": replica_label}
    replicas = [] if replica_label == "none" else [make.replica(**labels)]
    view = make.view(replicas, [make.offering()], policy_at_s=100.0)
    placement = place(
        make.call(first_token_by_s=1e12, complete_by_s=1e12, received_s=0.0),
        make.caller(ANYWHERE), view, 100.0 + age_s,
    )  # fmt: skip
    return type(placement)


def test_nothing_goes_to_a_third_party_on_old_knowledge(make):
    assert served(make, EGRESS_POLICY_S_MAX, "none") is Burst
    assert served(make, EGRESS_POLICY_S_MAX + 0.1, "none") is Refuse


def test_only_the_premises_are_served_on_older_knowledge(make):
    assert served(make, POLICY_S_MAX, US) is Run
    assert served(make, POLICY_S_MAX + 0.1, US) is Refuse
    assert served(make, 1e9) is Run


def test_without_a_directory_nothing_ages(make):
    view = make.view([], [make.offering()])
    call = make.call(first_token_by_s=1e12, complete_by_s=1e12)
    assert isinstance(place(call, make.caller(ANYWHERE), view, 1e9), Burst)


def test_no_mix_of_switches_and_age_ever_lets_a_stopped_target_see_a_call(make):
    """Every pair of switches, every age, every remaining order of targets."""
    offerings = [
        make.offering("a/x", provider="a", label=US), make.offering("b/x", provider="b", label=CN),
    ]  # fmt: skip
    replicas = [make.replica("r1", label=US), make.replica("r2", label=CN), make.replica("r3")]
    switches = [
        {"providers": set_of("a")}, {"providers": set_of("b")}, {"jurisdictions": set_of("us")},
        {"jurisdictions": set_of("cn")}, {"models": set_of("m")}, {},
    ]  # fmt: skip
    for one, two, age_s, cut in itertools.product(switches, switches, (0, 11, 61), range(4)):
        stops = Stops(**(one | two))
        view = make.view(replicas[cut:], offerings, stops=stops, policy_at_s=0.0)
        call = make.call(first_token_by_s=1e6, complete_by_s=1e6)
        placement = place(call, make.caller(ANYWHERE), view, float(age_s))
        if isinstance(placement, Run | Burst):
            target = placement.target
            assert not stops.models
            assert target.label.jurisdiction not in stops.jurisdictions
            if isinstance(placement, Burst):
                assert placement.target.provider not in stops.providers
                assert age_s <= EGRESS_POLICY_S_MAX
            elif not target.label.on_premises:
                assert age_s <= POLICY_S_MAX
