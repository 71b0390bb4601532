"""Rollouts: what the next step is and why, who may change what, and whose calls move."""

from __future__ import annotations

import math
import random
from collections import Counter
from datetime import date

import msgspec
import pytest

from models.capacity import Estimate, Quantiles
from serving.api.models import Catalogue
from serving.directory.changes import By
from serving.directory.values import Directory, build
from serving.errors import CallerError
from serving.placement.assign import assign
from serving.placement.values import Arm, Ceilings, Route
from serving.records import Burst, FleetView, LatencyClass, Refuse, Run, Wait
from serving.rollout import commands, counts, weights
from serving.rollout.aside import Found, instead
from serving.rollout.counts import Load
from serving.rollout.decide import (
    Advance,
    Arrive,
    Finish,
    Hold,
    Pause,
    RollBack,
    Seen,
    Tally,
    Unseen,
    by_chance,
    decide,
)
from serving.rollout.desk import staying
from serving.rollout.endings import header_lines, told
from serving.rollout.gap import gap
from serving.rollout.history import spans
from serving.rollout.moving import ceilings
from serving.rollout.values import CANARY, Checks, Rollout
from serving.settings import KeySettings, SettingsError
from serving.settings_rollout import Ending, RolloutSettings

BY = By("ops", 1_000_000, "because")
CHECKS = Checks(calls_min=50, hold_s=60, deadline_s=600)
T0 = 1_000_000


def row(**changes) -> Rollout:
    given = {"id": "chat", "old": "a", "new": "b", "checks": CHECKS, "step": 1, "since_ms": T0,
             "started_ms": T0}  # fmt: skip
    return Rollout.model_validate(given | changes)


def seen(calls=100, errors=0, late=0, old=Tally(1000, 10, 10), **more) -> Seen:  # noqa: B008
    faults = {"asked": more.pop("asked", 0), "rejected": more.pop("rejected", 0)}
    new = Tally(calls, errors, late, **faults)
    return Seen(new, old, **{"engines": 1, "gate": ""} | more)


CASES = {
    "passes": (row(), seen(), 60, Advance, "100 calls, 0 with errors"),
    "too few calls": (row(), seen(49), 60, Hold, "49 of 50 calls"),
    "too early": (row(), seen(), 59, Hold, "59 of 60 s"),
    "no engine is left": (row(), seen(engines=0), 60, Hold, "no engine"),
    "the last step": (row(step=4), seen(), 60, Finish, "100 calls"),
    "errors": (row(), seen(100, 12), 60, RollBack,
        "errors in 12 of 100 calls (12.0%); the old model 1.0%"),
    "errors that may be chance": (row(), seen(100, 5), 60, Advance, "5 with errors"),
    "as bad as the old one": (row(), seen(100, 12, old=Tally(1000, 120)), 60, Advance, ""),
    "the old one's few calls do not count": (
        row(), seen(100, 12, old=Tally(2, 2), before=Tally(900, 9)), 60, RollBack, "model 1.0%"),
    "late": (row(), seen(100, 0, 20), 60, RollBack, "a late first token in 20"),
    "answers of 4xx to all": (
        row(), seen(0, rejected=8, asked=8, old=Tally(1000, 10, 10, 1000)), 5, RollBack,
        "answers of 4xx in 8 of 8 calls"),
    "callers as wrong as usual, with nothing to compare": (
        row(), seen(100, rejected=30, asked=130, old=Tally()), 60, Advance, ""),
    "answers of 4xx to all, with nothing to compare": (
        row(), seen(0, rejected=14, asked=14, old=Tally()), 5, RollBack, "4xx in 14 of 14"),
    "callers as wrong as with the old one": (
        row(), seen(100, rejected=30, asked=130, old=Tally(700, 7, 7, 1000, 300)), 60, Advance, ""),
    "answers of 4xx above the old one's": (
        row(), seen(100, rejected=40, asked=140, old=Tally(950, 0, 0, 1000, 50)), 60, RollBack,
        "the old model 5.0%"),
    "few answers of 4xx": (row(), seen(0, rejected=4, asked=4), 5, Hold, "0 of 50"),
    "all errors at once": (row(), seen(5, 5), 1, RollBack, "hard bound of 50%"),
    "four are too few": (row(), seen(4, 4), 1, Hold, "4 of 50"),
    "few calls at the deadline": (row(), seen(9, old=Tally(100)), 600, Pause, "9 of 50 calls"),
    "calls that hang": (
        row(), seen(3, old=Tally(2000)), 600, RollBack, "105 calls were its own and 3 have ended"),
    "few at the last step": (row(step=4), seen(9, old=Tally()), 600, Pause, "9 of 50"),
    "blind": (row(), Unseen("no ledger"), 60, Hold, "no ledger"),
    "blind at the deadline": (row(), Unseen("no ledger"), 600, Pause, "no ledger"),
    "paused": (row(state="paused"), seen(), 60, Hold, "paused"),
    "paused and blind": (row(state="paused"), Unseen("x"), 600, Hold, "x"),
    "paused, and it burns": (row(state="paused"), seen(9, 9), 60, RollBack, "9 of 9"),
    "done, and it burns": (row(state="done", step=4), seen(9, 9), 60, RollBack, "9 of 9"),
    "done": (row(state="done", step=4), seen(), 60, Hold, "done"),
    "done long ago": (row(state="done", step=4), seen(9, 9), 600, Hold, "done"),
    "aborted": (row(state="aborted"), seen(9, 9), 60, Hold, "aborted"),
    "without an engine": (row(step=-1), seen(engines=0), 1, Hold, "waits for an engine"),
    "never an engine": (row(step=-1), seen(engines=0), 600, Pause, "nothing was moved"),
    "without the gate": (row(step=-1), seen(gate=None), 1, Hold, "waits for the gate"),
    "the gate's no": (row(step=-1), seen(gate="7 of 9 fail"), 1, RollBack, "7 of 9 fail"),
    "begins": (row(step=-1), seen(0), 1, Advance, "gate said yes"),
    "begins without engines of ours": (
        row(step=-1, needs_engine=False), seen(0, engines=0), 1, Advance, ""),
    "paused before it began": (row(step=-1, state="paused"), seen(0), 1, Hold, "paused"),
}  # fmt: skip


@pytest.mark.parametrize(("one", "what", "after_s", "kind", "word"), CASES.values(), ids=CASES)
def test_the_next_step_has_a_reason(one, what, after_s, kind, word):
    step = decide(one, what, T0 + after_s * 1000)
    assert isinstance(step, kind), step
    assert word in step.reason


def test_steps_go_through_all_weights_and_back_to_none():
    one, found = row(step=-1), []
    for now_ms in range(T0, T0 + 600_000, 60_000):
        step = decide(one, seen(), now_ms)
        change = commands.taken(one, step, By("controller", now_ms))
        if change is not None:
            one = build(1, change.documents).rollouts["chat"]
            found.append((one.percent, one.state))
    assert [percent for percent, _ in found[:5]] == list(CANARY)
    assert found[-1] == (100, "done")
    back = commands.taken(one, RollBack("late"), BY)
    assert back is not None
    assert build(1, back.documents).rollouts["chat"].percent == 0
    assert back.event.details["percent_before"] == 100
    assert back.event.why == "late"


def test_in_place_nothing_is_judged_until_the_new_engine_is_there():
    one = row(step=0, steps=(100,), is_in_place=True)
    hold = decide(one, seen(50, 50, engines=0), T0 + 1000)
    assert isinstance(hold, Hold)
    assert "carry the gap" in hold.reason
    arrived = decide(one, seen(50, 50), T0 + 1000)
    assert isinstance(arrived, Arrive)
    change = commands.taken(one, arrived, By("controller", T0 + 1000))
    assert change is not None
    there = build(1, change.documents).rollouts["chat"]
    assert (there.has_begun, there.since_ms, there.percent) == (True, T0 + 1000, 100)
    assert isinstance(decide(there, seen(50, 50), T0 + 2000), RollBack)
    assert isinstance(decide(one, seen(engines=0), T0 + 600_000), RollBack)
    begins = decide(row(step=-1, steps=(100,), is_in_place=True), seen(0, engines=0), T0)
    assert isinstance(begins, Advance), "in place the step does not wait for an engine"


def looks(rate: float, seed: int, old_rate: float = 0.01) -> str:
    """How a step of 400 calls ends that is looked at after every call."""
    draw = random.Random(seed)
    one = row(checks=Checks(calls_min=400, hold_s=0, deadline_s=1e6, error_max=0.0))
    errors = 0
    for calls in range(1, 401):
        errors += draw.random() < rate
        step = decide(one, seen(calls, errors, old=Tally(10_000, round(old_rate * 10_000))), T0 + 1)
        if not isinstance(step, Hold):
            return type(step).__name__
    return "Hold"


def test_chance_takes_few_good_ones_back_and_no_bad_one_passes():
    same = Counter(looks(0.02, seed, 0.02) for seed in range(300))
    bad = Counter(looks(0.15, seed, 0.02) for seed in range(100))
    print(f"as good as the old one: {dict(same)}; 15 % against 2 %: {dict(bad)}")
    assert same["RollBack"] <= 9, "3 %, looked at 400 times each"
    assert bad["RollBack"] == 100, "each of them"


def test_one_client_in_a_loop_takes_nothing_back_where_others_call():
    loop, others = ("k1", 40, 40), [("k2", 3, 1), ("k3", 4, 0)]
    assert counts.rejected(Tally(7), [loop, *others], 5) == Tally(7, 0, 0, 7, 1)
    assert counts.rejected(Tally(0), [loop], 5) == Tally(0, 0, 0, 40, 40), "nobody else called"
    assert counts.rejected(Tally(3), [loop, others[0]], 5) == Tally(3, 0, 0, 43, 41), "too few did"
    assert counts.rejected(Tally(), [], 5) == Tally()


def test_a_bound_on_money_that_moves_with_the_name_is_said():
    old, new = Ceilings(0.2, 5_000_000, 0, "m"), Ceilings(0.0, 0, 90_000_000, "m2")
    assert ceilings("m2", old, new) == (
        "ceilings for third parties become those of m2: 90.00 USD a day"
        " (now 20% of its tokens, 5.00 USD an hour)"
    )
    assert ceilings("m2", old, None).endswith("those of m2: none (now 20% of its tokens, 5.00 USD"
                                              " an hour)")  # fmt: skip
    assert ceilings("m2", old, old) == ceilings("m2", None, None) == ""
    assert ceilings("m2", Ceilings(), None) == "", "no bound is no bound"


def test_chance_is_the_tail_of_the_binomial_distribution():
    def exact(count: int, calls: int, share: float) -> float:
        return sum(
            math.comb(calls, n) * share**n * (1 - share) ** (calls - n)
            for n in range(count, calls + 1)
        )

    for count, calls, share in ((1, 1, 0.01), (3, 20, 0.05), (12, 100, 0.01), (60, 400, 0.02)):
        assert by_chance(count, calls, share) == pytest.approx(exact(count, calls, share))
    assert by_chance(0, 0, 0.0) == 1.0
    assert by_chance(1, 9, 0.0) == 0.0
    assert by_chance(1_000_000, 1_000_000, 0.5) == 0.0


def view_of(make, *rollouts, **more):
    """A gateway with both models; `chat` means `a`."""
    routes = {"a": Route(model="a"), "b": Route(model="b"), "chat": Route(model="a")}
    found = weights.over({**routes, **more}, rollouts)
    view = make.view([make.replica(model="a")], (), routes=found)
    other = make.replica("r2", model="b")
    return msgspec.structs.replace(view, replicas={"a": (make.replica(model="a"),), "b": (other,)})


def placed(make, view, session):
    call = make.call(model="a", alias="chat", session=session)
    return assign(call, make.caller(), view, {}, 0.0)


def test_a_session_that_moved_stays_as_the_weight_grows(make):
    names = [f"s{number}" for number in range(2000)]
    moved: set[str] = set()
    for step, percent in enumerate(CANARY):
        view = view_of(make, row(step=step))
        now = {name for name in names if placed(make, view, name).model == "b"}
        assert moved <= now
        assert len(now) / 20 == pytest.approx(percent, abs=2.5)
        moved = now
    assert placed(make, view, "s1").route == "split:chat~new"


SOON = Estimate(Quantiles(0.1, 0.1), Quantiles(0.2, 0.2))


def turned(make, view, *, tried=(), placement=None, caller=None, **more):
    """What becomes of a call of the new side."""
    given = {"model": "b", "alias": "chat", "route": "split:chat~new"} | more
    call = make.call(**given)
    placement = placement or Run(make.replica("r2", model="b"), "local", SOON)
    return instead(call, caller or make.caller(), view, 0.0, Found(placement, frozenset(tried)))


LACKING = Refuse("no_capacity", "no_target", "none", 1.0)


@pytest.mark.parametrize("more", [
    {"tried": {"r2"}}, {"placement": LACKING}, {"tried": {"r2"}, "placement": LACKING},
], ids=["failed", "no engine", "failed and no other engine"])  # fmt: skip
def test_what_the_new_model_cannot_answer_the_old_one_does_and_its_side_stays(make, more):
    found = turned(make, view_of(make, row()), **more)
    assert (found.model, found.route) == ("a", "split:chat~new/old_side")
    assert turned(make, view_of(make, row()), **more, model="a", route=found.route) is None


def test_only_the_new_side_s_trouble_moves_a_call(make):
    view, tried = view_of(make, row()), {"r2"}
    assert turned(make, view) is None, "nothing has failed"
    for code in ("stopped", "budget_exceeded", "residency_refused"):
        assert turned(make, view, placement=Refuse(code, "x", "x")) is None
    for route in ("", "split:chat~old", "split:blue", "rule:long"):
        assert turned(make, view, tried=tried, route=route) is None
    in_place = row(is_in_place=True, steps=(100,), step=0)
    assert turned(make, view_of(make, in_place), tried=tried) is None, "its engine makes room"
    small = view_of(make, row(), a=Route(model="a", context_tokens=1))
    assert turned(make, small, tried=tried) is None
    caller = make.caller(models=frozenset({"b"}))
    assert turned(make, view, tried=tried, caller=caller) is None
    assert turned(make, view, tried={"r2", "r1"}) is None, "the old one failed it too"


def test_a_call_under_way_as_its_rollout_goes_back_finds_what_the_name_means(make):
    assert turned(make, view_of(make, row(state="rolled_back")), tried={"r2"}).model == "a"
    ahead = view_of(make, chat=Route(model="b"))
    assert turned(make, ahead, tried={"r2"}) is None
    gone = msgspec.structs.replace(ahead, routes={})
    assert turned(make, gone, tried={"r2"}) is None


@pytest.mark.parametrize("state", ["rolled_back", "aborted"])
def test_what_was_taken_back_gets_nothing(make, state):
    view = view_of(make, row(step=3, state=state))
    assert {placed(make, view, f"s{n}").model for n in range(50)} == {"a"}
    assert view.routes["chat"].arms == ()


def test_what_was_taken_back_stays_so_under_settings_that_are_ahead(make):
    view = view_of(make, row(step=3, state="aborted"), chat=Route(model="b"))
    assert placed(make, view, "s").model == "a"


def test_a_model_that_is_not_known_here_moves_nothing(make):
    view = view_of(make, row(new="c", step=4))
    assert view.routes["chat"].arms == ()


def test_a_split_of_the_settings_gives_way_while_the_rollout_is_there(make):
    own = Route(model="a", arms=(Arm("x", 100, model="b"),))
    assert view_of(make, row(step=0), chat=own).routes["chat"].arms[0].name == "chat~new"
    gone = view_of(make, row(step=0, state="aborted"), chat=own)
    assert gone.routes["chat"].arms == own.arms


WRONG = {
    "the same": ({"new": "a"}, "both 'a'"),
    "no hundred": ({"steps": [5, 50]}, "end with 100"),
    "falling": ({"steps": [50, 5, 100]}, "must rise"),
    "in place by steps": ({"is_in_place": True}, "one step"),
    "unknown check": ({"checks": {"calls": 5}}, "calls"),
}


@pytest.mark.parametrize(("changes", "word"), WRONG.values(), ids=WRONG)
def test_a_wrong_rollout_is_refused_with_what_is_wrong(changes, word):
    given = {"id": "chat", "old": "a", "new": "b"} | changes
    with pytest.raises(CallerError) as caught:
        commands.start(Directory(), given, BY)
    assert word in caught.value.message


def holding(*rows: Rollout) -> Directory:
    return Directory(1, rollouts={one.id: one for one in rows})


def refused(call, *args) -> str:
    with pytest.raises(CallerError) as caught:
        call(*args)
    return caught.value.message


def test_operators_pause_resume_abort_and_close():
    one = row(step=2)
    paused = build(1, commands.pause(holding(one), "chat", BY).documents).rollouts["chat"]
    assert (paused.state, paused.percent, paused.reason) == ("paused", 25, "paused by ops: because")
    later = By("ops", T0 + 99)
    again = build(1, commands.resume(holding(paused), "chat", later).documents).rollouts["chat"]
    assert (again.state, again.since_ms, again.reason) == ("running", T0 + 99, "resumed by ops")
    gone = build(1, commands.abort(holding(again), "chat", BY).documents).rollouts["chat"]
    assert (gone.state, gone.percent) == ("aborted", 0)
    closed = commands.close(holding(gone), "chat", BY, "a")
    assert build(1, closed.documents).rollouts == {}
    assert closed.event.action == "close"


def test_verbs_that_do_not_fit_say_why():
    assert "there is no rollout" in refused(commands.pause, Directory(), "chat", BY)
    assert "is paused" in refused(commands.pause, holding(row(state="paused")), "chat", BY)
    assert "is running" in refused(commands.resume, holding(row()), "chat", BY)
    assert "aborted already" in refused(commands.abort, holding(row(state="aborted")), "chat", BY)
    assert "abort it first" in refused(commands.close, holding(row()), "chat", BY, "a")
    done = holding(row(state="done", step=4))
    assert "still give 'chat' to 'a'" in refused(commands.close, done, "chat", BY, "a")
    given = {"id": "chat", "old": "a", "new": "b"}
    assert "on its way" in refused(commands.start, holding(row()), given, BY)
    assert "means 'b'" in refused(commands.start, done, given, BY)
    assert commands.start(done, {"id": "chat", "old": "b", "new": "c"}, BY).event.action == "start"


def test_a_key_that_may_not_call_the_new_model_stays():
    keys = [
        KeySettings(id="one", tenant="t", hmac="a" * 64, models=("a",)),
        KeySettings(id="both", tenant="t", hmac="b" * 64, models=("a", "b")),
        KeySettings(id="all", tenant="t", hmac="c" * 64),
    ]
    assert staying(keys, "a", "b") == ["one"]


def test_a_gap_says_what_leaves_what_it_costs_and_who_waits(make):
    loads = [
        Load("acme", "k1", LatencyClass.INTERACTIVE, 2400, 2_400_000, 480_000),
        Load("home", "k2", LatencyClass.PATIENT, 240, 240_000, 48_000),
        Load("home", "k3", LatencyClass.LIVE, 240, 240_000, 48_000),
    ]
    offering = make.offering()
    where = {
        "k1": Burst(offering, "overflow:no_replica"),
        "k2": Wait(60.0, "loading"),
        "k3": Refuse("no_capacity", "none", "stays on the premises"),
    }
    found = gap(loads, lambda load: where[load.key_id], 360.0, 86_400.0)
    assert (found.calls, found.waiting, found.refused) == pytest.approx((12.0, 1.0, 1.0))
    assert found.external_share == pytest.approx(10 / 12)
    assert found.targets == {offering.id: pytest.approx(10.0)}
    price = offering.price
    day_usd = (2.4 * price.input_micro_per_mtok + 0.48 * price.output_micro_per_mtok) / 1e6
    assert found.usd_per_hour == pytest.approx(day_usd * offering.exchange / 24)
    assert found.usd == pytest.approx(found.usd_per_hour / 10)
    assert [(one.key, one.what, one.why) for one in found.kept] == [
        ("k2", "wait", "loading"), ("k3", "refuse", "stays on the premises")
    ]  # fmt: skip


def test_a_price_without_a_rate_is_said_and_a_quiet_model_has_no_gap(make):
    odd = msgspec.structs.replace(make.offering(), exchange=0.0)
    loads = [Load("acme", "k1", LatencyClass.INTERACTIVE, 10, 10, 10)]
    found = gap(loads, lambda _: Burst(odd, "x"), 10.0, 100.0)
    assert found.unpriced == (odd.id,)
    assert found.usd == 0.0
    assert gap([], lambda _: Wait(0.0, ""), 10.0, 100.0).external_share == 0.0


def test_the_question_names_its_side_and_the_classes_deadlines():
    first_s = dict.fromkeys(LatencyClass, 5.0) | {LatencyClass.BATCH: float(1 << 60)}
    found = counts.asked(row(), "new", 7, first_s)
    assert (found["side"], found["aside"]) == ("split:chat~new", "split:chat~new/old_side")
    assert (found["live"], found["batch"]) == (5000, counts.NEVER_MS)
    assert found["gone"] == "split:chat~new/overflow:no_replica"
    assert counts.asked(row(needs_engine=False), "new", 7, first_s)["gone"] == ""
    assert counts.tally([]) == Tally()


WRONG_SETTINGS = {
    "two gates": ({"gate": {"argv": ["x"], "url": "https://x/"}}, "argv or url"),
    "an open gate": ({"gate": {"url": "http://x/"}}, "https"),
    "an open hook": ({"hook": {"url": "http://x/", "secret_file": "/s"}}, "https"),
    "unsigned": ({"hook": {"url": "https://x/"}}, "secret_file"),
    "backwards": (
        {"endings": {"m": {"deprecated": "2027-02-01", "sunset": "2027-01-01"}}}, "before"),
}  # fmt: skip


@pytest.mark.parametrize(("given", "word"), WRONG_SETTINGS.values(), ids=WRONG_SETTINGS)
def test_settings_that_contradict_themselves_are_refused(given, word):
    with pytest.raises(ValueError, match=word):
        RolloutSettings.model_validate(given)


def test_a_name_that_nobody_serves_cannot_end():
    ending = Ending(deprecated=date(2027, 1, 1))
    assert header_lines(ending) == "deprecation: @1798761600\r\n"
    assert told("m", ending)["warning"] == "m is deprecated from 2027-01-01"
    with pytest.raises(SettingsError, match="no model, alias or adapter 'x'"):
        Catalogue((), FleetView, 0, {"x": ending})


def entry(number, subject, details):
    return {"number": number, "at_ms": number * 10, "actor": "x", "why": "w", "subject": subject,
            "details": details}  # fmt: skip


def test_the_history_tells_which_model_a_name_meant_when():
    def settings(number, **models):
        rows = {model: {"aliases": names, "adapters": {}} for model, names in models.items()}
        return entry(number, "settings:policy", {"policy": {"models": rows}})

    def moved(number, percent):
        return entry(number, "rollout:chat", {"old": "a", "new": "b", "percent": percent})

    told = spans(
        [
            settings(1, a=["other"]), settings(2, a=["chat"], b=[]), moved(3, 0), moved(4, 25),
            moved(5, 100), settings(6, a=[], b=["chat"]), entry(7, "rollout:chat", {}),
            entry(8, "rollout:more", {"old": "a", "new": "b", "percent": 50}),
            entry(9, "settings:policy", {"policy": {"models": {"count": 9, "sha256": "ab"}}}),
            settings(10, b=[]),
        ],
        "chat",
    )  # fmt: skip
    assert [(s.meaning, s.from_ms, s.until_ms) for s in told] == [
        ("a", 20, 40), ("75 % a, 25 % b", 40, 50), ("b", 50, 100), ("", 100, None)
    ]  # fmt: skip
    assert spans([settings(1, a=[])], "chat") == []
