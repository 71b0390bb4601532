"""The score: what an option costs, and which of the allowed targets it makes the best."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.capacity import PROFILES, Load
from models.hearing import Hearing
from models.tariff import When
from serving.codecs.sound import Sound
from serving.placement import score
from serving.placement.fitness import UNFIT, Asked, unfit
from serving.placement.offered import Ask, best
from serving.placement.pacing import Headroom
from serving.placement.values import PLAIN, PolicyName, Route
from serving.records import (
    Burst,
    LatencyClass,
    Pending,
    Price,
    Rate,
    Run,
    Surface,
    TargetState,
    Wait,
)
from serving.routing import place
from serving.rules import keeps_out

SLOW = PROFILES["cpu-embedded"]
COST, LATENCY, LOCAL = PolicyName.COST_FIRST, PolicyName.LATENCY_FIRST, PolicyName.LOCAL_FIRST


def price(fresh, out, cached=None, **more):
    """Dollars a million tokens."""
    micro = [round(x * 1e6) for x in (fresh, out, fresh if cached is None else cached)]
    return Price("USD", *micro, "a test", "2026-11-21", **more)


def policy(name, **more):
    return {"routes": {"m": Route(policy=name, **more)}}


def busy(make, seconds, **changes):
    """A view whose one slow engine, with room, needs about so long to the first token."""
    state = TargetState()
    state.load = Load(0, 1, round((seconds - 0.044) * SLOW.prefill_tokens_per_s), 0.0)
    state.load_at_s = 0.0
    replica = make.replica(profile=SLOW, limit=80)
    return make.view([replica], state={"r1": state}, **changes)


# -- money


def test_a_call_costs_its_tokens_at_the_price_and_a_warm_prefix_less(make):
    offering = make.offering(price=price(2, 10, 0.5))
    call = make.call(prompt_tokens=1000, max_tokens=100, n=2)
    assert score.money_micro(offering, call) == pytest.approx(2000 + 2000)
    assert score.money_micro(offering, call, is_warm=True) == pytest.approx(500 + 2000)
    unnamed = make.call(prompt_tokens=0, max_tokens=None)
    assert score.money_micro(offering, unnamed) == pytest.approx(10 * score.OUTPUT_TOKENS)
    bounded = make.call(prompt_tokens=0, max_tokens=None, answer_max=50)
    assert score.money_micro(offering, bounded) == pytest.approx(500)


def test_credit_counts_less_than_cash_and_yuan_by_their_rate(make):
    call = make.call(prompt_tokens=1000, max_tokens=0)
    cash = score.money_micro(make.offering(price=price(2, 10)), call)
    credit = make.offering(price=price(2, 10, money_kind="credit"))
    assert score.money_micro(credit, call) == pytest.approx(cash * score.SPENT_SHARE)
    yuan = make.offering(price=price(2, 10), exchange=1 / 7)
    assert score.money_micro(yuan, call) == pytest.approx(cash / 7)
    assert score.money_micro(make.offering(exchange=0.0), call) == score.UNKNOWN_MONEY


def test_the_price_is_the_one_of_the_hour(make):
    night = Rate(When(0, 0, 1 << 30, ((0, 360),), frozenset()), price(1, 1))
    day = Rate(When(0, 0, 1 << 30, (), frozenset()), price(9, 9))
    offering = make.offering(price=price(9, 9), rates=(night, day))
    at_3, at_12 = (make.call(received_ms=h * 3_600_000, prompt_tokens=1000) for h in (3, 12))
    assert score.money_micro(offering, at_3) * 9 == pytest.approx(
        score.money_micro(offering, at_12)
    )


# -- the choice among third parties


def first(make, *offerings, call=None, **view):
    seen = make.view([], offerings, **view)
    placement = place(call or make.call(), make.caller(tier_max=3), seen, 0.0)
    return placement.target.id if isinstance(placement, Burst) else None


def test_the_cheapest_of_those_in_time_is_taken(make):
    dear, cheap = make.offering("dear", price=price(5, 5)), make.offering("b", price=price(1, 1))
    late = make.offering("late", price=price(0, 0), first_token_s=90.0)
    assert first(make, dear, late, cheap) == "b"


def test_short_sound_goes_by_the_least_that_is_billed(make):
    """Ten seconds at 1 cost more than one at 5, and less than twenty."""
    surfaces = frozenset({Surface.TRANSCRIPTION})
    ears = Hearing.model_validate({"by": "time", "bytes_max": 1 << 20})
    least = ears.model_copy(update={"seconds_min": 10})
    rows = [make.offering("least", price=price(1, 0), hearing=least, surfaces=surfaces),
            make.offering("dear", price=price(5, 0), hearing=ears, surfaces=surfaces)]  # fmt: skip

    def taken(seconds):
        file = Sound(b"RIFF", "wav", seconds * 10)
        call = make.call(surface=Surface.TRANSCRIPTION, sound=file, prompt_tokens=seconds * 10,
                         max_tokens=0)  # fmt: skip
        return first(make, *rows, call=call)

    assert taken(1) == "dear"
    assert taken(20) == "least"


def test_equal_scores_keep_the_owner_s_order(make):
    assert first(make, make.offering("z"), make.offering("a")) == "z"


def test_of_many_that_are_late_the_earliest_is_taken(make):
    later = make.offering("later", price=price(0, 0), first_token_s=90.0)
    sooner = make.offering("sooner", price=price(9, 9), first_token_s=70.0)
    assert first(make, later, sooner) == "sooner"


def test_same_weights_come_before_any_price_and_a_kept_deadline_before_them(make):
    same = make.offering("same", price=price(50, 50), first_token_s=2.0)
    other = make.offering("other", price=price(0, 0), tier=2)
    small = make.offering("small", price=price(0, 0), tier=3)
    assert first(make, small, other, same) == "same"
    assert first(make, small, other) == "other"
    hasty = make.call(first_token_by_s=1.5)
    assert first(make, other, same, call=hasty) == "other"


def test_what_has_drifted_is_asked_last_but_asked(make):
    drifts, other = make.offering("drifts", price=price(0, 0)), make.offering("other", tier=3)
    drifting = frozenset({"drifts"})
    assert first(make, drifts, other, drifting=drifting) == "other"
    assert first(make, drifts, drifting=drifting) == "drifts"


def test_a_full_a_broken_and_a_paced_one_give_way(make):
    offerings = [make.offering(name) for name in ("a", "b", "c", "d")]
    state = {"a": TargetState(), "b": TargetState()}
    state["a"].full_until_s = state["b"].open_until_s = 5.0
    pace = Headroom()
    pace.learn({"x-ratelimit-remaining-requests": "0"}, 0.0, 0.0)
    assert first(make, *offerings, state=state, paces={"c": pace}) == "d"


# -- capability


def test_each_lack_keeps_a_third_party_out_and_is_named(make):
    call = make.call(prompt_tokens=90, max_tokens=20)
    lacks = {
        "surface": (make.offering(surfaces=frozenset({Surface.COMPLETIONS})), call),
        "weights": (
            make.offering(surfaces=frozenset({Surface.EMBEDDINGS})),
            make.call(surface=Surface.EMBEDDINGS),
        ),
        "batch": (make.offering(vendor="api"), call),
        "tier": (make.offering(tier=2), call),
        "context": (make.offering(context_tokens=109), call),
        "sound": (make.offering(), make.call(sound=Sound(b"RIFF", "wav", 1))),
        "members": (make.offering(speaks=frozenset()), make.chat(seed=1)),
        "thinking": (make.offering(is_thinking=True), make.call(latency_class=LatencyClass.LIVE)),
    }
    assert lacks.keys() == UNFIT.keys() - {"adapter"}
    caller = make.caller()
    for name, (offering, asked) in lacks.items():
        wanted = frozenset(asked.fields) & {"seed"}
        assert unfit(offering, asked, Asked(asked, caller, PLAIN, wanted)) == name
        placement = place(asked, caller, make.view([], [offering]), 0.0)
        assert not isinstance(placement, Burst), name


def test_substitutes_answer_only_tenants_who_allow_them(make):
    view = make.view([], [make.offering(tier=2)])
    refusal = place(make.call(), make.caller(), view, 0.0)
    assert "other weights" in refusal.message
    assert isinstance(place(make.call(), make.caller(tier_max=2), view, 0.0), Burst)
    route = {"m": Route(tier_max=3)}
    loose = make.view([], [make.offering(tier=3)], routes=route)
    assert isinstance(place(make.call(), make.caller(), loose, 0.0), Burst)
    assert not isinstance(place(make.call(), make.caller(tier_max=1), loose, 0.0), Burst)


def test_an_engine_that_always_thinks_is_no_engine_for_live_calls(make):
    view = make.view([make.replica()], routes={"m": Route(is_thinking=True)})
    live = make.call(latency_class=LatencyClass.LIVE)
    refusal = place(live, make.caller(), view, 0.0)
    assert (refusal.reason, refusal.code) == ("thinking", "no_capacity")
    assert isinstance(place(make.call(), make.caller(), view, 0.0), Run)


# -- policies


def test_local_first_pays_nobody_while_our_engine_is_in_time(make):
    fast = make.offering(price=price(0, 0), first_token_s=0.01)
    placement = place(make.call(), make.caller(), busy(make, 5.0, offerings=[fast]), 0.0)
    assert placement.reason == "local"


def test_latency_first_buys_seconds_up_to_their_worth(make):
    """10 + 16 tokens at 50 dollars a million cost 1,300 micro; the engine is 4 s slower."""
    fast = make.offering(price=price(50, 50), first_token_s=1.0)
    for second_micro, reason in ((300.0, "local"), (400.0, "latency:sooner")):
        view = busy(make, 5.0, offerings=[fast], **policy(LATENCY, second_micro=second_micro))
        assert place(make.call(), make.caller(), view, 0.0).reason == reason


def test_latency_first_never_waits_for_what_can_be_bought(make):
    full = TargetState()
    full.unfinished = 8
    for view in (
        make.view([make.replica()], [make.offering()], state={"r1": full}, **policy(LATENCY)),
        make.view([], [make.offering()], pending={"m": Pending("m", 5.0)}, **policy(LATENCY)),
    ):
        assert isinstance(place(make.call(), make.caller(), view, 0.0), Burst)


def test_cost_first_takes_the_risk_that_others_pay_to_avoid(make):
    """30 s are likely, 51 s in one case of ten; the deadline is at 40 s."""
    call = make.call(first_token_by_s=40.0)
    for name, kind in ((LOCAL, Burst), (COST, Run)):
        view = busy(make, 30.0, offerings=[make.offering()], **policy(name))
        assert type(place(call, make.caller(), view, 0.0)) is kind
    view = busy(make, 45.0, offerings=[make.offering()], **policy(COST))
    assert isinstance(place(call, make.caller(), view, 0.0), Burst), "likely late is late"


def test_cost_first_waits_where_a_start_is_likely_to_end_in_time(make):
    pending = {"m": Pending("m", 10.0, 30.0)}
    for name, kind in ((LOCAL, Burst), (COST, Wait)):
        view = make.view([], [make.offering()], pending=pending, **policy(name))
        assert type(place(make.call(), make.caller(), view, 0.0)) is kind


@pytest.mark.parametrize("shadow", PolicyName)
def test_a_shadow_policy_is_told_and_changes_nothing(make, shadow):
    call = make.call(first_token_by_s=40.0)
    plain = busy(make, 30.0, offerings=[make.offering()])
    shaded = msgspec.structs.replace(plain, routes={"m": Route(shadow=shadow)})
    acts, told = (place(call, make.caller(), view, 0.0) for view in (plain, shaded))
    other = "r1" if shadow is COST else "api/big"
    assert told == msgspec.structs.replace(acts, shadow=f"{shadow}={other}")


# -- the quick way and the plain way


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_the_sifted_choice_is_the_plain_minimum(make, data):
    draw = data.draw
    prices = st.sampled_from([0.0, 0.5, 2.0, 50.0])
    night = Rate(When(0, 0, 1 << 30, ((0, 600),), frozenset()), price(1, 1))
    offerings = [
        make.offering(
            f"o{i}", price=price(draw(prices), draw(prices)), tier=draw(st.integers(1, 3)),
            first_token_s=draw(st.sampled_from([0.5, 2.0, 9.0])),
            exchange=draw(st.sampled_from([1.0, 0.14, 0.0])),
            context_tokens=draw(st.sampled_from([20, 8192])),
            rates=draw(st.sampled_from([(), (night,)])),
        )
        for i in range(draw(st.integers(1, 6)))
    ]  # fmt: skip
    route = Route(policy=draw(st.sampled_from(PolicyName)), tier_max=3)
    call = make.call(
        first_token_by_s=draw(st.sampled_from([1.0, 5.0, 60.0])),
        prompt_tokens=draw(st.sampled_from([10, 1000])), max_tokens=draw(st.none() | st.just(30)),
        session=draw(st.sampled_from(["", "s"])), toward=draw(st.sampled_from(["", "o1"])),
        unaffordable=draw(st.frozensets(st.sampled_from(["o0", "o2"]))),
    )  # fmt: skip
    view = make.view([], offerings, routes={"m": route}, drifting=frozenset({"o3"}))
    caller = make.caller()
    ask = Ask(call, caller, view, 0.0, frozenset(), route, caller.policy.residency)
    by = score.terms(call, route, route.policy, view, 0.0)
    asked = Asked(call, caller, route, frozenset())
    plain = [
        score.of_offering(o, call, view, by)
        for o in offerings
        if not unfit(o, call, asked)
        and not keeps_out(o, (call, caller, ask.residency), view, 0.0, frozenset())
    ]
    found = best(ask, by)
    assert (found is None) == (not plain)
    if found is not None:
        assert found.score == pytest.approx(min(plain), rel=1e-9, abs=1e-6)
        assert found.score == pytest.approx(score.of_offering(found.offering, call, view, by))
