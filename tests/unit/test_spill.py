"""Overflow ahead of lateness: hysteresis, who leaves first, ceilings, and a provider's own pace."""

from __future__ import annotations

import random

import msgspec
import pytest

from models.capacity import PROFILES, Load
from models.tariff import When
from serving.placement import spill
from serving.placement.beside import Beside
from serving.placement.pacing import WINDOW_S, Headroom
from serving.placement.spill import Marks, dearness, leaves, pressure, step
from serving.placement.tally import DAY, HOUR, MINUTE_MS, NEAR, TOKENS_MIN, Tally
from serving.placement.values import CALM, Ceilings, Route, Spill
from serving.rates import ALWAYS
from serving.records import Burst, LatencyClass, Price, Rate, Refuse, Run, TargetState
from serving.routing import place

GPU = PROFILES["qwen3-32b-fp8-h100"]
MARKS = Marks(enter=0.8, leave=0.4, after_s=3.0, first_token_s=5.0)
INTERACTIVE = LatencyClass.INTERACTIVE
PRICE = Price("USD", 2_000_000, 10_000_000, 0, "", "")
PRICE_NIGHT = Price("USD", 2_000_000, 2_000_000, 0, "", "")


def walk(*pressures, every_s=1.0, before=CALM):
    """The shares after each look, one a second."""
    shares = []
    for i, now in enumerate(pressures):
        before = step(before, now, MARKS, i * every_s)
        shares.append(before.share)
    return shares


def test_pressure_must_last_before_anything_leaves():
    assert walk(0.9, 0.9, 0.9) == [0.0, 0.0, 0.0]
    assert walk(0.9, 0.9, 0.9, 0.9)[-1] == 1.0
    assert walk(0.9, 0.9, 0.7, 0.9, 0.9, 0.9)[-1] == 0.0, "a dip starts the clock anew"


def test_it_holds_on_between_the_marks_and_lets_go_below_the_lower_one():
    on = Spill(0.9, 1.0)
    assert all(walk(0.6, 0.5, 0.6, 0.5, 0.6, 0.5, before=on)), "no flapping between the marks"
    assert walk(0.3, 0.3, 0.3, before=on) == [spill.SHARE_MIN] * 3
    assert walk(0.3, 0.3, 0.3, 0.3, before=on)[-1] == 0.0
    assert walk(0.3, 0.3, 0.5, 0.3, 0.3, before=on)[-1] > 0.0


def test_the_share_follows_the_pressure():
    on = Spill(0.9, 1.0)
    for now, share in ((0.6, 0.5), (0.8, 1.0), (3.0, 1.0), (0.41, spill.SHARE_MIN)):
        assert step(on, now, MARKS, 0.0).share == pytest.approx(share)


def test_pressure_is_the_shortest_queue_against_the_interactive_deadline(make):
    replicas = [make.replica(name, profile=GPU, limit=99) for name in ("r1", "r2")]
    state = {"r1": TargetState(), "r2": TargetState()}
    probe = make.call(prompt_tokens=0, max_tokens=0)
    for name, queued in (("r1", 100_000), ("r2", 50_000)):
        state[name].load, state[name].load_at_s = Load(0, 1, queued, 0.0), 0.0
    both, one = (make.view(rows, state=state) for rows in (replicas, replicas[:1]))
    assert pressure("m", both, probe, MARKS, 0.0) < pressure("m", one, probe, MARKS, 0.0)
    assert pressure("m", one, probe, MARKS, 0.0) == pytest.approx(
        1.7 * (100_000 / GPU.prefill_tokens_per_s) / 5.0, rel=0.05
    )
    assert pressure("m", make.view(), probe, MARKS, 0.0) == 0.0


def test_noise_around_a_mark_does_not_make_it_flap():
    """Ten minutes of a pressure that jumps by a quarter around the upper mark: it takes hold once
    and stays; without the lower mark and the time it would change its mind every few seconds."""
    lots, before, changes, crossings = random.Random(7), CALM, 0, 0
    was_above = False
    for second in range(600):
        now = 0.8 + lots.uniform(-0.25, 0.25)
        after = step(before, now, MARKS, float(second))
        changes += (after.share > 0.0) != (before.share > 0.0)
        crossings += (now >= 0.8) != was_above
        was_above, before = now >= 0.8, after
    assert changes == 1
    assert crossings > 200


# -- who leaves first


def test_dearness_lies_between_all_prompt_and_all_answer(make):
    """At 2 and 10 dollars a million, a GPU second of this profile is 27 milli-dollars of prefill or
    62 of decoding: prompts are the cheaper thing to send away."""
    api = make.offering(price=Price("USD", 2_000_000, 10_000_000, 0, "", ""))
    sizes = [(30_000, 10), (3000, 500), (10, 2000)]
    found = [dearness(make.call(prompt_tokens=p, max_tokens=o), api, GPU) for p, o in sizes]
    assert found == sorted(found)
    assert found[0] < 0.2
    assert found[-1] > 0.9
    assert all(0.0 <= one <= 1.0 for one in found)


def test_dearness_is_of_the_price_that_holds_now_and_of_the_answer_a_budget_bounds(make):
    """By night the answer costs what the prompt does: then it is long prompts that leave last."""
    night = Rate(When(0, 0, 1 << 30, ((0, 360),), frozenset()), PRICE_NIGHT)
    api = make.offering(price=PRICE, rates=(night, Rate(ALWAYS, PRICE)))
    flat, by_night = make.offering(price=PRICE), make.offering(price=PRICE_NIGHT)
    for hour, same in ((12, flat), (3, by_night)):
        call = make.call(prompt_tokens=3000, max_tokens=500, received_ms=hour * 3_600_000)
        assert dearness(call, api, GPU) == pytest.approx(dearness(call, same, GPU)), hour
    named = make.call(prompt_tokens=3000, max_tokens=40)
    bounded = make.call(prompt_tokens=3000, max_tokens=None, answer_max=40)
    assert dearness(bounded, flat, GPU) == dearness(named, flat, GPU)


def test_a_share_takes_the_cheapest_first_and_leaves_warm_and_patient_calls_at_home(make):
    api = make.offering(price=Price("USD", 2_000_000, 10_000_000, 0, "", ""))
    cheap = make.call(prompt_tokens=30_000, max_tokens=10, latency_class=INTERACTIVE)
    dear = make.call(prompt_tokens=10, max_tokens=2000, latency_class=INTERACTIVE)
    half, whole = Spill(0.6, 0.5), Spill(1.0, 1.0)
    assert [leaves(call, api, GPU, half) for call in (cheap, dear)] == [True, False]
    assert [leaves(call, api, GPU, whole) for call in (cheap, dear)] == [True, True]
    warm = msgspec.structs.replace(cheap, session="s")
    batch = msgspec.structs.replace(cheap, latency_class=LatencyClass.BATCH)
    assert not any(leaves(call, api, GPU, whole) for call in (warm, batch))
    assert not leaves(cheap, api, GPU, CALM)


def test_a_lasting_pressure_sends_calls_away_that_would_have_been_in_time(make):
    api = make.offering(price=Price("USD", 2_000_000, 10_000_000, 0, "", ""))
    call = make.call(prompt_tokens=3000, max_tokens=10, latency_class=INTERACTIVE)
    replica = make.replica(profile=GPU)
    calm = make.view([replica], [api])
    pressed = msgspec.structs.replace(calm, spills={"m": Spill(0.9, 1.0)})
    assert place(call, make.caller(), calm, 0.0).reason == "local"
    assert place(call, make.caller(), pressed, 0.0).reason == "overflow:pressure"
    home = msgspec.structs.replace(call, toward="own")
    assert place(home, make.caller(), pressed, 0.0).reason == "local"
    late = make.view([replica], [make.offering(first_token_s=99.0)], spills=pressed.spills)
    assert place(call, make.caller(), late, 0.0).reason == "local", "nothing gained by leaving"


def test_the_pressure_is_looked_at_with_each_view_and_only_where_there_is_somewhere_to_go(make):
    replica, api = make.replica(profile=GPU, limit=99), make.offering()
    state = TargetState()
    for sold in ((api,), ()):
        beside, share = Beside({}, {"m": sold}, MARKS), 0.0
        for second in range(5):
            state.load, state.load_at_s = Load(0, 1, 90_000, 0.0), float(second)
            view = beside.laid(make.view([replica], sold, state={"r1": state}), float(second))
            share = view.spills.get("m", CALM).share
        assert share == (1.0 if sold else 0.0)


# -- ceilings


def spent(tally, micro, now_ms=0, tokens=100):
    tally.ended("m", tokens, micro, now_ms)


def test_money_is_forgotten_after_its_hour_and_its_day():
    tally = Tally()
    hour, day = Ceilings(hour_micro=1000), Ceilings(day_micro=1000)
    spent(tally, 900)
    assert tally.reached("m", hour, 0, 0) == ("hour", 0.9)
    assert tally.reached("m", hour, 0, (HOUR - 1) * MINUTE_MS)[1] == 0.9
    assert tally.reached("m", hour, 0, HOUR * MINUTE_MS)[1] == 0.0
    assert tally.reached("m", day, 0, (DAY - 1) * MINUTE_MS) == ("day", 0.9)
    assert tally.reached("m", day, 0, DAY * MINUTE_MS)[1] == 0.0
    assert tally.reached("other", hour, 0, 0) == ("", 0.0)


def test_calls_under_way_count_as_what_such_calls_cost():
    tally = Tally()
    spent(tally, 100)
    assert tally.reached("m", Ceilings(hour_micro=1000), 9, 0) == ("hour", 1.0)


def test_a_share_says_nothing_before_there_is_traffic_and_ends_with_its_hour():
    tally, half = Tally(), Ceilings(share=0.5)
    tally.ended("m", TOKENS_MIN // 2 - 1, 0, 0)
    assert tally.reached("m", half, 0, 0) == ("", 0.0)
    tally.ended("m", TOKENS_MIN, None, 0)
    assert tally.reached("m", half, 0, 0)[1] == pytest.approx(2 / 3, rel=0.01)
    assert tally.reached("m", half, 0, HOUR * MINUTE_MS) == ("", 0.0)


def test_calls_under_way_at_an_adapter_s_own_tuning_count_as_its_model_s(make):
    tally, tune = Tally(), make.offering("api/tuned")
    spent(tally, 100)
    busy = TargetState()
    busy.unfinished = 9
    route = Route(ceilings=Ceilings(hour_micro=1000))
    view = make.view([], [make.offering()], routes={"m": route}, tally=tally)
    assert isinstance(place(make.call(), make.caller(), view, 0.0), Burst)
    rows = {"m": (make.offering(),), "law": (tune,)}
    view = msgspec.structs.replace(view, offerings=rows, state={tune.id: busy}, sifted={})
    placement = place(make.call(), make.caller(), view, 0.0)
    assert isinstance(placement, Refuse)
    assert "(hour) is reached" in placement.message


@pytest.mark.parametrize(
    ("used", "latency_class", "leaves_home"),
    [(0.5, "batch", True), (NEAR, "batch", False), (NEAR, "interactive", True),
     (1.0, "interactive", False)],
)  # fmt: skip
def test_near_a_ceiling_those_stay_that_can_wait_and_at_it_everybody(
    make, used, latency_class, leaves_home
):
    tally = Tally()
    spent(tally, round(1000 * used))
    route = Route(ceilings=Ceilings(hour_micro=1000))
    view = make.view([], [make.offering()], routes={"m": route}, tally=tally)
    placement = place(
        make.call(latency_class=LatencyClass(latency_class)), make.caller(), view, 0.0
    )
    assert isinstance(placement, Burst if leaves_home else Refuse)
    if not leaves_home:
        assert "the ceiling for third parties (hour) is reached" in placement.message


def test_a_ceiling_keeps_calls_on_a_slow_engine_rather_than_lose_them(make):
    tally = Tally()
    spent(tally, 1000)
    route = Route(ceilings=Ceilings(hour_micro=1000))
    slow = TargetState()
    slow.load, slow.load_at_s = Load(0, 1, 500_000, 0.0), 0.0
    view = make.view([make.replica(profile=GPU)], [make.offering()], routes={"m": route},
                     tally=tally, state={"r1": slow})  # fmt: skip
    call = make.call(first_token_by_s=50.0)
    assert place(call, make.caller(), view, 0.0).reason == "local:tight"


# -- a provider's own pace

OPENAI = {
    "x-ratelimit-limit-requests": "1000", "x-ratelimit-remaining-requests": "0",
    "x-ratelimit-reset-requests": "6m0s",
}  # fmt: skip
ANTHROPIC = {
    "anthropic-ratelimit-requests-limit": "50", "anthropic-ratelimit-requests-remaining": "0",
    "anthropic-ratelimit-requests-reset": "2026-11-26T04:06:00Z",
}  # fmt: skip
NOW_UTC = 1_795_665_600.0
"""2026-11-26T04:00:00Z."""


@pytest.mark.parametrize(
    ("headers", "until_s"),
    [
        (OPENAI, 360.0), (ANTHROPIC, 360.0),
        (OPENAI | {"x-ratelimit-reset-requests": "250ms"}, 0.25),
        (OPENAI | {"x-ratelimit-reset-requests": "12"}, 12.0),
        (OPENAI | {"x-ratelimit-reset-requests": "soon"}, WINDOW_S),
        (OPENAI | {"x-ratelimit-reset-requests": "99h"}, 3600.0),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": f"{(NOW_UTC + 30) * 1e3:.0f}"}, 30.0),
    ],
    ids=["minutes", "date", "milliseconds", "seconds", "unreadable", "a day", "epoch"],
)  # fmt: skip
def test_a_used_up_limit_holds_calls_back_until_its_window_ends(headers, until_s):
    pace = Headroom()
    pace.learn(headers, 100.0, NOW_UTC)
    assert pace.holds_back(1, 0, 100.0 + until_s - 0.01)
    assert not pace.holds_back(1, 0, 100.0 + until_s)


def test_tokens_count_by_the_call_and_what_was_sent_since(make):
    pace = Headroom()
    pace.learn({"x-ratelimit-limit-tokens": "1000", "x-ratelimit-remaining-tokens": "520"}, 0.0, 0)
    assert not pace.holds_back(500, 0, 1.0)
    assert pace.holds_back(501, 0, 1.0), "a fiftieth is kept back"
    pace.sent(400)
    assert pace.holds_back(101, 0, 1.0)
    assert not pace.holds_back(1001, 0, 1.0), "larger than the limit: only the provider can tell"


@pytest.mark.parametrize("value", ["", "many", "-5", "inf", "nan"])
def test_headers_that_say_nothing_bound_nothing(value):
    pace = Headroom()
    pace.learn({"x-ratelimit-remaining-requests": value, "x-ratelimit-limit-requests": "x"}, 0.0, 0)
    assert not pace.holds_back(10**9, 10**6, 0.0)


def test_a_known_number_of_calls_at_once_is_not_passed():
    pace = Headroom(concurrent=2)
    assert [pace.holds_back(1, out, 0.0) for out in (0, 1, 2)] == [False, False, True]


def test_a_call_that_an_account_would_refuse_stays_at_home_or_goes_elsewhere(make):
    pace = Headroom()
    pace.learn(OPENAI, 0.0, NOW_UTC)
    alone = make.view([], [make.offering()], paces={"api/big": pace})
    refusal = place(make.call(), make.caller(), alone, 0.0)
    assert isinstance(refusal, Refuse)
    assert refusal.retry_after_s == pytest.approx(360.0)
    replica = make.view([make.replica()], [make.offering()], paces={"api/big": pace})
    assert isinstance(place(make.call(), make.caller(), replica, 0.0), Run)
