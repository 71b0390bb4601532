"""Routes of public names: what the settings say, and what they may not."""

from __future__ import annotations

import msgspec
import pytest

from serving.codecs.told import told
from serving.placement.build import marks, routes
from serving.placement.values import Ceilings, PolicyName
from serving.records import Burst, Price, Refuse, Run, TargetState, Wait
from serving.routing import place
from serving.settings import Settings, SettingsError

MODELS = [
    {"name": "m", "aliases": ["alias"], "adapters": [{"name": "lora", "elsewhere": "refuse"}]},
    {"name": "small", "context_tokens": 4096}, {"name": "e", "surfaces": ["embeddings"]},
]  # fmt: skip


def built(make, names=None, **more):
    tree = {"models": MODELS, "routing": {"names": names or {}, **more}}
    return routes(Settings.model_validate(tree), {"m": (make.offering(),)})


def test_every_public_name_has_a_route(make):
    found = built(make, {"alias": {"policy": "cost-first"}}, substitutes_max_tier=2)
    assert found.keys() == {"m", "alias", "lora", "small", "e"}
    assert {name: found[name].model for name in ("alias", "lora")} == {"alias": "m", "lora": "m"}
    assert found["alias"].policy is PolicyName.COST_FIRST
    assert found["m"].policy is PolicyName.LOCAL_FIRST
    assert {route.tier_max for route in found.values()} == {2}
    assert found["lora"].is_closed
    assert found["small"].context_tokens == 4096


def test_a_ceiling_s_money_is_that_of_all_gateways(make):
    most = {"share": 0.25, "hour_usd": "3", "day_usd": "30"}
    routing = {"names": {"m": {"ceilings": most}}}
    tree = {"models": MODELS, "gateway": {"pods": 3}, "routing": routing}
    found = routes(Settings.model_validate(tree), {})
    assert found["m"].ceilings == Ceilings(0.25, 3_000_000, 30_000_000, "m")


def test_a_ceiling_over_money_that_nobody_can_count_refuses_to_start(make):
    names = {"m": {"ceilings": {"hour_usd": "3"}}}
    tree = {"models": MODELS, "routing": {"names": names}}
    sold = {"m": (make.offering(exchange=0.0),)}
    with pytest.raises(SettingsError, match="no rate to dollars for api/big"):
        routes(Settings.model_validate(tree), sold)


def test_pressure_is_measured_against_the_interactive_deadline():
    tree = {"gateway": {"classes": {"interactive": {"first_token_s": 2.0, "complete_s": 9.0}}}}
    assert marks(Settings.model_validate(tree)).first_token_s == 2.0


LOST = {
    "unknown name": ({"mm": {}}, "no model, alias or adapter 'mm'"),
    "unknown target": (
        {"m": {"split": [{"name": "a", "percent": 100, "toward": "x/y"}]}}, "'x/y' is no target",
    ),
    "unknown model": ({"m": {"rules": [{"name": "r", "model": "x"}]}}, "no model 'x'"),
    "other surface": ({"m": {"rules": [{"name": "r", "model": "e"}]}}, "does not serve"),
    "other vectors": ({"e": {"rules": [{"name": "r", "model": "m"}]}}, "does not serve"),
    "adapter": ({"lora": {"rules": [{"name": "r", "toward": "own"}]}}, "an adapter has one model"),
}  # fmt: skip


@pytest.mark.parametrize(("names", "message"), LOST.values(), ids=LOST)
def test_a_route_that_leads_nowhere_refuses_to_start(make, names, message):
    with pytest.raises(SettingsError, match=message):
        built(make, names)


ODD = {
    "percentages": {"split": [{"name": "a", "percent": 60}]},
    "names": {"rules": [{"name": "a", "toward": "own"}] * 2},
    "nowhere": {"rules": [{"name": "a"}]},
    "both": {"rules": [{"name": "a", "toward": "own", "model": "m"}]},
    "arm with both": {"split": [{"name": "a", "percent": 100, "toward": "own", "model": "m"}]},
    "header alone": {"rules": [{"name": "a", "toward": "own", "header": "x-task"}]},
    "cascade to a target": {"rules": [{"name": "a", "toward": "own", "is_cascade": True}]},
    "odd name": {"rules": [{"name": "a b", "toward": "own"}]},
    "policy": {"policy": "random"},
}


@pytest.mark.parametrize("given", ODD.values(), ids=ODD)
def test_settings_that_contradict_themselves_refuse_to_start(make, given):
    with pytest.raises(ValueError, match="routing"):
        built(make, {"m": given})


def test_marks_that_would_flap_refuse_to_start():
    with pytest.raises(ValueError, match="leave must be below enter"):
        Settings.model_validate({"routing": {"spill": {"enter": 0.5, "leave": 0.5}}})


def test_a_model_chosen_by_a_budget_brings_its_own_route(make):
    """The alias is `latency-first`; what the owner's ladder puts in its place is not."""
    found = built(make, {"m": {"policy": "latency-first"}})
    free = make.offering(first_token_s=0.0, price=Price("USD", 0, 0, 0, "", ""))
    view = make.view([make.replica()], [free], routes=found)
    call = make.call(alias="small")
    assert place(call, make.caller(), view, 0.0).reason == "latency:sooner"


# -- adapters

LORA = frozenset({"lora"})


def full(make, route_of, **offerings):
    """One engine with the adapter, full; and what stands behind names."""
    state = TargetState()
    state.unfinished = 8
    view = make.view([make.replica(adapters=LORA)], state={"r1": state}, routes=route_of)
    return msgspec.structs.replace(view, offerings=offerings)


def test_an_adapter_s_call_waits_is_refused_or_leaves_as_its_settings_say(make):
    call = make.call(adapter="lora", alias="lora", first_token_by_s=5.0)
    closed = built(make)
    assert isinstance(place(call, make.caller(), full(make, {}), 0.0), Wait)
    assert isinstance(place(call, make.caller(), full(make, closed), 0.0), Refuse)
    base = {"m": (make.offering(),)}
    stays = place(call, make.caller(), full(make, {}, **base), 0.0)
    assert isinstance(stays, Wait), "the base model is another model"
    tuned = {"lora": (make.offering("api/tuned"),)}
    late = make.call(adapter="lora", alias="lora", may_wait=False)
    placement = place(late, make.caller(), full(make, {}, **tuned), 0.0)
    assert isinstance(placement, Burst)
    assert placement.target.id == "api/tuned"
    free = make.view([make.replica(adapters=LORA)], routes=closed)
    assert isinstance(place(call, make.caller(), free, 0.0), Run)


@pytest.mark.parametrize("role", ["system", "developer"])
def test_a_prompt_in_place_of_an_adapter_stands_before_the_caller_s_own(make, role):
    own = {"role": role, "content": "Be brief."}
    said = make.chat(messages=[own, {"role": "user", "content": "hi"}])
    found = messages_of(told(said, "You sum up."))
    assert found[0] == {"role": role, "content": "You sum up.\n\nBe brief."}
    assert found[1:] == [{"role": "user", "content": "hi"}]


def test_a_prompt_opens_a_conversation_that_had_no_system_message(make):
    said = make.chat()
    assert messages_of(told(said, "x")) == [{"role": "system", "content": "x"}, *messages_of(said)]
    assert told(said, "") is said


def messages_of(call):
    return msgspec.json.decode(call.fields["messages"])
