"""How much surer than nine times of ten an engine must be: learnt, bounded, and never a reason to
send a call where it may not go."""

from __future__ import annotations

import random
from statistics import NormalDist

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoscale.calls import Row, Setup
from autoscale.requests import Requests
from models.capacity import PROFILES, Load, Quantiles
from serving.admission import Admission
from serving.placement.build import margins
from serving.placement.candidates import explained
from serving.placement.margin import HALF_S, LATE, MOST, Margins
from serving.placement.values import PolicyName, Route
from serving.records import Burst, Overflow, Residency, ResidencyLevel, Run
from serving.routing import place
from serving.settings import Settings

KEY = ("m", "patient")
SURE = Quantiles(1.0, 2.0)
NINTH = NormalDist().inv_cdf(0.9)


def late(known: Margins, times: int = 1, now_s: float = 0.0) -> Margins:
    """First tokens that had been foreseen at once and came after their deadline."""
    for _ in range(times):
        known.seen(KEY, Quantiles(0.0, 0.0), 1.0, 9.0, now_s)
    return known


@settings(max_examples=40)
@given(st.lists(st.tuples(st.booleans(), st.floats(0.0, 1e4)), max_size=60))
def test_a_margin_stays_within_its_bounds_whatever_comes(happened):
    known, now_s = Margins(), 0.0
    for is_late, later_s in happened:
        now_s += later_s
        before = known.of(*KEY, now_s)
        known.seen(KEY, Quantiles(0.0, 0.0), 1.0, 9.0 if is_late else 0.5, now_s)
        after = known.of(*KEY, now_s)
        assert 0.0 <= after <= MOST
        assert after >= before if is_late else after <= before


def drawn(known: Margins, calls: int, off: float) -> float:
    """The share of late ones among the last half of the calls that the margin gave to an engine.
    Of calls that are near their deadline one of ten is late at p90, and more where the truth is
    `off` times as wide as foreseen."""
    lots, placed, missed = random.Random(7), 0, 0
    for number in range(calls):
        left_s = lots.uniform(1.5, 6.0)
        took_s = 1.0 + off * lots.gauss(0.0, 1.0 / NINTH)
        if 2.0 + known.of(*KEY, number) <= left_s:
            known.seen(KEY, SURE, left_s, took_s, float(number))
            if number > calls // 2:
                placed, missed = placed + 1, missed + (took_s > left_s)
    return missed / placed


@pytest.mark.parametrize("off", [1.3, 1.6])
def test_the_late_share_comes_down_to_the_one_aimed_at(off):
    without = drawn(Margins(most=0.0), 40_000, off)
    assert without > 2 * LATE
    assert drawn(Margins(most=4.0), 40_000, off) == pytest.approx(LATE, rel=0.25)


def test_nothing_is_asked_while_fewer_are_late_than_may_be():
    known = Margins()
    assert drawn(known, 20_000, 0.7) < LATE
    assert known.of(*KEY, 20_000.0) < 0.1


def test_a_call_that_the_margin_would_not_have_placed_teaches_nothing():
    known = late(Margins(), 10)
    before = known.told(0.0)[KEY]
    known.seen(KEY, SURE, 2.5, 99.0, 0.0)
    assert known.told(0.0)[KEY] == before


def test_a_margin_fades_without_answers_and_is_a_class_s_own():
    known = late(Margins(), 5)
    now = known.of(*KEY, 0.0)
    assert known.of(*KEY, HALF_S) == pytest.approx(now / 2)
    assert known.of("m", "live", 0.0) == known.of("other", "patient", 0.0) == 0.0


def test_settings_say_how_many_may_be_late_and_turn_it_off():
    routing = {"margin": {"late": 0.1, "most": 0.0}}
    assert late(margins(Settings(routing=routing)), 50).of(*KEY, 0.0) == 0.0
    gentle = late(margins(Settings(routing={"margin": {"late": 0.1}})))
    assert 0.0 < gentle.of(*KEY, 0.0) < late(margins(Settings())).of(*KEY, 0.0)


# -- where a call goes


def near(make, **view):
    """An engine that is in time nine times of ten, and by less than a spread."""
    engine = make.replica(profile=PROFILES["cpu-embedded"])
    admission = Admission(view.pop("known", None))
    admission.reported("r1", Load(), 0.0)
    seen = make.view([engine], state=admission.state, margins=admission.margins, **view)
    first = place(make.call(prompt_tokens=500), make.caller(), seen, 0.0).estimate.first_token_s
    by_s = first.p90 + 0.3 * (first.p90 - first.p50)
    return seen, make.call(prompt_tokens=500, first_token_by_s=by_s)


def test_a_call_near_its_deadline_leaves_once_others_were_late(make):
    sold = [make.offering(first_token_s=0.01)]
    known = Margins()
    view, call = near(make, offerings=sold, known=known)
    assert isinstance(place(call, make.caller(), view, 0.0), Run)
    late(known, 10)
    found = place(call, make.caller(), view, 0.0)
    assert (type(found), found.reason) == (Burst, "overflow:predicted_wait")
    told = explained(call, make.caller(), view, 0.0)
    assert told.margin == pytest.approx(known.of(*KEY, 0.0)) == pytest.approx(0.995, abs=0.01)
    cheap = msgspec.structs.replace(view, routes={"m": Route(policy=PolicyName.COST_FIRST)})
    assert isinstance(place(call, make.caller(), cheap, 0.0), Run), "goes by the likely case"


@pytest.mark.parametrize("bound", ["residency", "overflow", "nobody", "slower"])
def test_a_call_that_nobody_else_may_take_goes_to_the_engine_all_the_same(make, bound):
    rule = Residency(ResidencyLevel.PREMISES) if bound == "residency" else None
    policy = {"overflow": Overflow.NEVER} if bound == "overflow" else {}
    first_s = 99.0 if bound == "slower" else 0.01
    sold = [] if bound == "nobody" else [make.offering(first_token_s=first_s)]
    view, call = near(make, offerings=sold, known=late(Margins(), 30))
    found = place(call, make.caller(rule, **policy), view, 0.0)
    assert (type(found), found.reason) == (Run, "local:tight")


# -- in the simulator

PROFILE = msgspec.structs.replace(
    PROFILES["qwen3-32b-fp8-h100"], max_num_seqs=32, mean_output_tokens=600
)


def hour() -> list[Row]:
    """Long prompts and long answers, for one engine whose memory is full most of the time."""
    lots = random.Random(3)
    at_s, rows = 0.0, []
    for _ in range(1500):
        at_s += lots.expovariate(0.8)
        rows.append(Row(at_s, int(lots.lognormvariate(8.8, 0.8)), int(lots.expovariate(1 / 600))))
    return rows


def test_fewer_answers_of_an_engine_with_full_memory_are_late():
    shares = []
    for most in (0.0, MOST):
        run = Requests(Setup(PROFILE, slots=32, months=1), lambda *_: 1, 1)
        run._admission.margins = Margins(most=most)
        tally = run.run(hour())
        assert tally.kept <= tally.answered == tally.calls
        shares.append(1.0 - tally.kept / tally.calls)
    assert shares[1] < 0.8 * shares[0]
