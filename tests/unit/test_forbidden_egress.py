"""No sequence of faults, loads, retries and changes ever sends a call where it may not go.

The judge below is written from the rules as they are told in docs/routing.md, on its own: it shares
no code with `serving.rules` or `serving.placement`.
"""

from __future__ import annotations

import math

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.capacity import Load, Quantiles
from serving.admission import Admission
from serving.errors import Kind
from serving.placement.pacing import Headroom
from serving.placement.tally import Tally
from serving.placement.values import Ceilings, PolicyName, Route, Spill
from serving.records import (
    Burst,
    DataLabel,
    LatencyClass,
    Overflow,
    Pending,
    Residency,
    ResidencyLevel,
    Run,
    Sensitivity,
    Stops,
    Surface,
)
from serving.routing import place
from serving.rules import HARD, confined, keeps_out

COUNTRIES = ("cn", "us", "sg", "eu", "zz", "")
ANYWHERE = Residency(ResidencyLevel.ANYWHERE)


def often(usual, *others):
    """Mostly the usual, or nothing would ever be placed and so nothing be proven."""
    return st.sampled_from([usual] * (3 * max(1, len(others))) + list(others))


labels = st.builds(DataLabel, often("us", *COUNTRIES), st.just("x"), often(False, True))
residencies = st.one_of(
    st.just(ANYWHERE), st.just(ANYWHERE), st.just(ANYWHERE),
    st.builds(
        Residency, st.sampled_from(ResidencyLevel),
        st.frozensets(st.sampled_from(["cn", "us", "sg"]), max_size=2),
    ),
)  # fmt: skip
ids = st.sampled_from(["r0", "r1", "a/0", "b/1", "a/2", "b/3"])


def admits(rule, label):
    """The residency rule in plain words."""
    if label.jurisdiction == "":
        return False
    if label.on_premises and label.jurisdiction == "cn":
        return True
    named = label.jurisdiction in rule.jurisdictions
    return {
        ResidencyLevel.PREMISES: label.on_premises and named,
        ResidencyLevel.MAINLAND: label.jurisdiction == "cn",
        ResidencyLevel.NAMED: named,
        ResidencyLevel.ANYWHERE: True,
    }[rule.level]


def may_hold(sensitivity, label, rules):
    """What the content itself demands."""
    if sensitivity is Sensitivity.SECRET:
        return label.on_premises
    if sensitivity is Sensitivity.PERSONAL and all(
        rule.level is ResidencyLevel.ANYWHERE for rule in rules
    ):
        return label.jurisdiction == "cn"
    return True


class World:
    """One call on its way, and everything that may happen around it."""

    def __init__(self, make, data):
        self.make, self.draw = make, data.draw
        self.admission, self.now_s = Admission(), 0.0
        self.tried, self.attempt = frozenset(), 0
        draw = self.draw
        self.replicas = [
            make.replica(f"r{i}", label=draw(labels), limit=draw(st.integers(1, 3)),
                         adapters=draw(st.sampled_from([frozenset(), frozenset({"lora"})])))
            for i in range(draw(st.integers(0, 2)))
        ]  # fmt: skip
        self.offerings = [self._offering(i) for i in range(draw(st.integers(1, 4)))]
        own = {tenant: (self._their(tenant),) for tenant in ("acme", "beta")}
        self.theirs = {tenant: {"m": rows, "lora": rows} for tenant, rows in own.items()}
        self.own = draw(residencies)
        self.caller = make.caller(
            self.own,
            overflow=draw(often(Overflow.ALLOWED, Overflow.NEVER, Overflow.OWN_KEYS,
                                Overflow.OWN_KEYS_FIRST)),
            tier_max=draw(often(3, 0, 1, 2)),
            is_load_test=draw(often(False, True)),
        )  # fmt: skip
        asked = draw(st.none() | residencies)
        self.rules = [self.own] if asked is None else [self.own, asked]
        self.sensitivity = draw(often(Sensitivity.PUBLIC, Sensitivity.SECRET, Sensitivity.PERSONAL))
        call = make.call(
            surface=draw(often(Surface.CHAT, Surface.EMBEDDINGS)),
            residency=asked, first_token_by_s=draw(st.sampled_from([1.0, 30.0, 1e6])),
            latency_class=draw(st.sampled_from(LatencyClass)), complete_by_s=1e6,
            adapter=draw(often("", "lora")),
            pin=draw(often("", "own", "a/0")),
            session=draw(st.sampled_from(["", "s"])),
            toward=draw(st.sampled_from(["", "", "own", "a/0", "b/1"])),
        )  # fmt: skip
        self.call = confined(call, self.caller, self.sensitivity)
        self.stops, self.read_s, self.paces = None, draw(st.sampled_from([math.inf, 0.0])), {}
        self.route = self._route()
        self.pending, self.spill, self.tally = {}, Spill(), Tally()
        self.seen = None

    def _their(self, tenant):
        row = self._offering(0)
        return msgspec.structs.replace(
            row, id=f"a@{tenant}/0", owner=tenant, account=f"a@{tenant}",
            keys=self.draw(often(None, frozenset(), frozenset({"key"}))),
        )  # fmt: skip

    def _offering(self, i):
        draw, provider = self.draw, "ab"[i % 2]
        return self.make.offering(
            f"{provider}/{i}", provider=provider, label=draw(labels),
            tier=draw(often(1, 2, 3)), is_same_weights=draw(st.booleans()),
            surfaces=frozenset({Surface.CHAT, Surface.EMBEDDINGS}),
            is_thinking=draw(often(False, True)), first_token_s=draw(st.sampled_from([0.5, 5.0])),
            exchange=draw(st.sampled_from([1.0, 0.0])),
        )  # fmt: skip

    def _route(self):
        draw = self.draw
        return Route(
            policy=draw(st.sampled_from(PolicyName)), tier_max=draw(st.integers(1, 3)),
            shadow=draw(st.none() | st.sampled_from(PolicyName)),
            ceilings=draw(often(None, Ceilings(hour_micro=1000))),
        )  # fmt: skip

    def view(self):
        """A view stands until something in it changes; time alone does not change it."""
        if self.seen is not None:
            return self.seen
        everything = {"m": tuple(self.offerings), "lora": tuple(self.offerings[:1])}
        view = self.make.view(
            self.replicas, state=self.admission.state, stops=self.stops, policy_at_s=self.read_s,
            routes={"m": self.route}, paces=self.paces,
            pending=self.pending,
            spills={"m": self.spill}, tally=self.tally,
            drifting=frozenset({"a/0"}), margins=self.admission.margins,
        )  # fmt: skip
        self.seen = msgspec.structs.replace(view, offerings=everything, theirs=self.theirs)
        return self.seen

    def happens(self, event):
        draw = self.draw
        if event in VIEWED:
            self.seen = None
        if event == "time":
            self.now_s += draw(st.sampled_from([0.3, 5.0, 11.0, 70.0]))
        elif event == "read" and self.read_s != math.inf:
            self.read_s = self.now_s
        elif event == "stops":
            self.stops = Stops(
                is_all=draw(often(False, True)),
                providers=draw(st.frozensets(st.sampled_from("ab"))),
                jurisdictions=draw(st.frozensets(st.sampled_from(["us", "cn"]))),
                tenants=draw(often(frozenset(), frozenset({"acme"}))),
            )
        elif event == "load":
            load = Load(draw(st.integers(0, 90)), draw(st.integers(0, 9)), 0, 0.5)
            self.admission.reported(draw(ids), load, self.now_s)
        elif event == "money":
            closed = draw(st.frozensets(ids, min_size=1))
            self.call = msgspec.structs.replace(self.call, unaffordable=closed)
            self.tally.ended("m", 10, draw(st.sampled_from([0, 2000])), 0)
        elif event == "route":
            self.route = self._route()
            self.spill = Spill(share=draw(st.sampled_from([0.0, 1.0])))
        elif event == "loading":
            self.pending = {"m": Pending("m", self.now_s + draw(st.sampled_from([1.0, 99.0])))}
        elif event == "late":
            key = self.call.model, self.call.latency_class
            for _ in range(draw(st.sampled_from([1, 30]))):
                self.admission.margins.seen(key, Quantiles(0.0, 0.0), 1.0, 9.0, self.now_s)
        elif event == "home":
            self.call = msgspec.structs.replace(self.call, is_home_only=True)
        elif event == "pace":
            pace = self.paces[draw(ids)] = Headroom()
            pace.learn({"x-ratelimit-remaining-requests": "0"}, self.now_s, 0.0)
        elif event == "forget":  # the pipeline asks again without what it tried, as after "full"
            self.tried = frozenset()

    def asks(self):
        """One placement, judged; then what was placed fails."""
        view = self.view()
        self.another(view)
        placement = place(self.call, self.caller, view, self.now_s, self.tried)
        if not isinstance(placement, Run | Burst):
            return
        self.judge(placement)
        assert not keeps_out(
            placement.target, (self.call, self.caller, self.call.residency or self.own), view,
            self.now_s, self.tried,
        )  # fmt: skip
        self.attempt += 1
        ticket = self.admission.issue(self.call, placement, self.attempt, self.now_s)
        kind = self.draw(st.sampled_from([None, Kind.FULL, Kind.CONNECT, Kind.RATE_LIMIT]))
        if kind is not None:
            self.admission.failed(ticket, kind, None, self.now_s)
            self.admission.release(ticket, self.call)
            if kind is not Kind.FULL:
                self.tried |= {placement.target.id}

    def another(self, view):
        """What the view learns from one caller must not be told to the next."""
        call = self.make.call(latency_class=self.call.latency_class, surface=self.call.surface)
        caller = self.make.caller(tier_max=self.caller.policy.tier_max)
        place(call, caller, view, self.now_s)

    def judge(self, placement):
        call, target, stops = self.call, placement.target, self.stops
        label = target.label
        assert all(admits(rule, label) for rule in self.rules)
        assert may_hold(self.sensitivity, label, self.rules)
        assert target.id not in self.tried
        state = self.admission.state.get(target.id)
        assert state is None or state.open_until_s <= self.now_s
        age_s = self.now_s - self.read_s
        assert label.on_premises or age_s <= 60.0
        if stops is not None:
            assert not stops.is_all
            assert not stops.tenants
            assert label.jurisdiction not in stops.jurisdictions
        if isinstance(placement, Run):
            assert call.pin in ("", "own")
            assert not call.adapter or call.adapter in target.adapters
            return
        mode = self.caller.policy.overflow
        if target.owner:
            assert mode in (Overflow.OWN_KEYS, Overflow.OWN_KEYS_FIRST)
            assert target.owner == "acme"
            assert target.keys is None or "key" in target.keys
        else:
            assert mode in (Overflow.ALLOWED, Overflow.OWN_KEYS_FIRST)
        assert not self.caller.policy.is_load_test
        assert not call.is_home_only
        assert call.pin in ("", target.id)
        assert target.id not in call.unaffordable
        assert age_s <= 10.0
        assert stops is None or target.provider not in stops.providers
        assert target.tier <= (self.caller.policy.tier_max or self.route.tier_max)
        assert call.surface is Surface.CHAT or target.is_same_weights
        assert not (call.latency_class is LatencyClass.LIVE and target.is_thinking)
        if call.adapter:
            assert target is self.offerings[0] or target.owner


VIEWED = ("read", "stops", "route", "loading")
EVENTS = ("time", "load", "money", "money", "home", "pace", "forget", "stops", "late", *VIEWED)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_no_sequence_of_events_ever_makes_a_forbidden_placement(make, data):
    world = World(make, data)
    for event in data.draw(st.lists(st.sampled_from(EVENTS), min_size=1, max_size=16)):
        world.asks()
        world.happens(event)
    world.asks()


@pytest.mark.parametrize("country", ["", "zz"])
def test_a_place_nobody_knows_is_open_to_no_rule_that_names_places(make, country):
    label = DataLabel(country, "x", on_premises=country == "")
    view = make.view([make.replica(label=label)], [make.offering(label=label)])
    for level in ResidencyLevel:
        rule = Residency(level, frozenset({"cn", "us"}))
        placement = place(make.call(), make.caller(rule), view, 0.0)
        is_served = isinstance(placement, Run | Burst)
        assert is_served == (country == "zz" and level is ResidencyLevel.ANYWHERE)


def test_premises_abroad_are_abroad_unless_they_are_named(make):
    view = make.view([make.replica(label=DataLabel("sg", "self", on_premises=True))])
    asked = {
        Residency(): False, Residency(ResidencyLevel.MAINLAND): False,
        Residency(ResidencyLevel.NAMED, frozenset({"sg"})): True,
        Residency(ResidencyLevel.PREMISES, frozenset({"sg"})): True,
        Residency(ResidencyLevel.ANYWHERE): True,
    }  # fmt: skip
    for rule, is_served in asked.items():
        placement = place(make.call(), make.caller(rule), view, 0.0)
        assert isinstance(placement, Run) == is_served, rule


def test_a_secret_stays_on_the_premises_that_its_rule_names(make):
    named = make.caller(Residency(ResidencyLevel.NAMED, frozenset({"sg"})))
    call = confined(make.call(), named, Sensitivity.SECRET)
    there, api = DataLabel("sg", "self", on_premises=True), DataLabel("sg", "api")
    for label, is_served in ((there, True), (api, False)):
        view = make.view([make.replica(label=label)])
        assert isinstance(place(call, named, view, 0.0), Run) == is_served


@pytest.mark.parametrize("name", HARD)
def test_each_hard_rule_keeps_its_own_target_out_and_is_named(make, name):
    us = DataLabel("us", "x")
    target = make.offering(label=us)
    caller, call, view = make.caller(), make.call(), {"policy_at_s": 0.0}
    tried, now_s = frozenset(), 5.0
    if name == "residency":
        caller = make.caller(Residency())
    elif name == "stopped":
        view["stops"] = Stops(providers=frozenset({"api"}))
    elif name == "age":
        now_s = 10.1
    elif name == "overflow":
        caller = make.caller(overflow=Overflow.NEVER)
    elif name == "account":
        caller = make.caller(overflow=Overflow.OWN_KEYS)
    elif name == "load_test":
        caller = make.caller(is_load_test=True)
    elif name in ("home_only", "pin", "budget"):
        changes = {"home_only": {"is_home_only": True}, "pin": {"pin": "own"},
                   "budget": {"unaffordable": frozenset({target.id})}}  # fmt: skip
        call = make.call(**changes[name])
    elif name == "breaker":
        admission = Admission()
        admission.know(target.id).open_until_s = 9.0
        view["state"] = admission.state
    else:
        tried = frozenset({target.id})
    seen = make.view([], [target], **view)
    asked = call, caller, caller.policy.residency
    assert keeps_out(target, asked, seen, now_s, tried) == name
    assert not isinstance(place(call, caller, seen, now_s, tried), Burst)
