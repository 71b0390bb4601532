"""Which held call goes first where nobody else could take it: as many as can be are in time."""

from __future__ import annotations

import asyncio
import itertools
import random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.capacity import PROFILES
from serving.holding import Line
from serving.records import LatencyClass, TargetState
from serving.scarce import Need, first, is_short, need
from serving.waiting import PICKED_MAX, Held, Queue

needs = st.builds(
    Need, st.integers(0, 12).map(float), st.integers(1, 6).map(float), st.just(1)
)  # fmt: skip
lines = st.lists(needs, max_size=7).map(lambda line: sorted(line, key=lambda one: one.start_by_s))


def served(line, engines, pick):
    """Calls that begin in time in the model: one after the other, all engines on each."""
    waiting, now_s, count = list(line), 0.0, 0
    while waiting:
        place = pick(waiting, engines, now_s)
        if place is None:
            break
        one = waiting.pop(place)
        if one.start_by_s >= now_s:
            count += 1
            now_s += one.work_s / engines
    return count


def by_deadline(waiting, engines, now_s):
    del engines, now_s
    return 0 if waiting else None


@given(lines, st.integers(1, 3))
def test_it_never_loses_more_calls_than_the_order_of_deadlines(line, engines):
    assert served(line, engines, first) >= served(line, engines, by_deadline)


@given(st.lists(needs, max_size=5).map(lambda line: sorted(line, key=lambda one: one.start_by_s)))
def test_no_order_at_all_keeps_more(line):
    best = max(served(order, 1, by_deadline) for order in itertools.permutations(line))
    assert served(line, 1, first) == best


@given(lines, st.integers(1, 3))
def test_where_all_fit_they_go_by_deadline(line, engines):
    if line and served(line, engines, by_deadline) == len(line):
        assert first(line, engines, 0.0) == 0


def test_a_dear_call_is_left_behind_and_goes_when_there_is_room_after_all():
    dear, cheap = Need(1.0, 5.0), Need(2.0, 1.0)
    assert first([dear, cheap, cheap], 1, 0.0) == 1
    assert first([dear], 1, 0.9) == 0
    assert first([dear], 1, 1.1) is None, "too late for anything"
    assert first([dear, cheap, cheap], 9, 0.0) == 0, "engines enough for all"


def test_a_hastier_class_is_never_left_behind_for_another():
    live, batch = Need(0.5, 5.0, 0), Need(2.0, 1.0, 3)
    assert first([live, batch, batch], 1, 0.0) == 0
    assert first([live, batch, batch], 1, 0.6) == 1, "too late for it"


def test_work_is_prompt_and_expected_answer_and_the_last_start_leaves_time_for_the_prompt(make):
    replica = make.replica(profile=PROFILES["qwen3-32b-fp8-h100"])
    view = make.view([replica])
    short, long = (make.call(prompt_tokens=n, max_tokens=50) for n in (100, 10_000))
    assert need(short, view, 1, 99.0).work_s < need(long, view, 1, 99.0).work_s
    assert need(short, view, 1, 99.0).start_by_s > need(long, view, 1, 99.0).start_by_s
    wordy = msgspec.structs.replace(short, max_tokens=150)
    assert need(wordy, view, 1, 99.0).work_s > need(short, view, 1, 99.0).work_s
    assert need(short, view, 1, 0.5).start_by_s == 0.5, "it is held no longer"
    assert need(short, make.view([]), 1, 99.0) is None


def test_it_is_short_only_where_no_third_party_can_be_asked(make):
    offering = make.offering()
    shut = {offering.id: TargetState()}
    shut[offering.id].open_until_s = 9.0
    assert is_short("m", "t", make.view([make.replica()]), 1.0)
    assert not is_short("m", "t", make.view([], [offering]), 1.0)
    assert is_short("m", "t", make.view([], [offering], state=shut), 1.0)
    assert not is_short("m", "t", make.view([], [offering], state=shut), 9.5), "it may be asked"
    own = msgspec.structs.replace(make.view([]), theirs={"t": {"m": (offering,)}})
    assert not is_short("m", "t", own, 1.0)
    assert is_short("m", "u", own, 1.0), "another tenant's account"


class Fleet:
    def __init__(self, view):
        self.view = view


@pytest.mark.parametrize(
    ("is_up", "order"), [(False, ["cheap", "dear"]), (True, ["dear", "cheap"])]
)
def test_the_line_changes_its_order_only_while_no_api_is_up(make, is_up, order):
    async def run() -> list[str]:
        loop, woken = asyncio.get_running_loop(), []
        fleet = Fleet(make.view([make.replica(profile=PROFILES["cpu-embedded"])],
                                [make.offering()] if is_up else []))  # fmt: skip
        line = Line(Queue(9, 999_999), loop, fleet)

        async def held(name: str, tokens: int) -> None:
            now_s = loop.time()
            call = make.call(prompt_tokens=tokens, max_tokens=1, received_s=now_s,
                             first_token_by_s=now_s + 60.0)  # fmt: skip
            await line.hold(call, now_s + 60.0, LatencyClass.INTERACTIVE)
            woken.append(name)

        tasks = [loop.create_task(held("dear", 15_000)), loop.create_task(held("cheap", 10_000))]
        await asyncio.sleep(0)
        for _ in tasks:
            line.wake("m")
            for _ in range(3):
                await asyncio.sleep(0)
        await asyncio.gather(*tasks)
        return woken

    assert asyncio.run(run()) == order


def test_tenants_keep_their_turns_whoever_of_theirs_goes(make):
    queue = Queue(99, 999)
    for tenant, number in itertools.product("ab", range(4)):
        queue.put(Held("m", tenant, 100, 1, lambda: None), float(number), 0.0)
    plain = Queue(99, 999)
    for tenant, number in itertools.product("ab", range(4)):
        plain.put(Held("m", tenant, 100, 1, lambda: None), float(number), 0.0)
    picked = [queue.pop("m", lambda _, standing: standing()[-1]) for _ in range(8)]
    assert [one.tenant for one in picked] == [plain.pop("m").tenant for _ in range(8)]
    assert [one.deadline_s for one in picked if one.tenant == "a"] == [3.0, 2.0, 1.0, 0.0]
    assert queue.pop("m") is None
    assert queue.calls == queue.bytes == 0


def test_a_call_that_fits_to_the_last_bit_of_a_float_is_found_all_the_same():
    assert first([Need(0.1, 0.1), Need(0.1, 0.1)], 1, 0.1) == 0


def test_the_line_is_woken_by_deadline_where_the_last_engine_has_gone(make):
    async def run() -> None:
        loop = asyncio.get_running_loop()
        fleet = Fleet(make.view([make.replica(profile=PROFILES["cpu-embedded"])]))
        line = Line(Queue(9, 999_999), loop, fleet)
        calls = [make.call(prompt_tokens=100, first_token_by_s=loop.time() + 60.0)] * 3
        until_s = loop.time() + 60.0
        tasks = [
            loop.create_task(line.hold(call, until_s, LatencyClass.INTERACTIVE)) for call in calls
        ]
        await asyncio.sleep(0)
        line.wake("m")  # what each of them takes is reckoned
        fleet.view = make.view([])
        line.wake("m")
        line.wake("m")
        assert await asyncio.gather(*tasks) == [True, True, True]

    asyncio.run(run())


def test_a_pick_is_shown_those_whose_time_ends_first():
    queue, chance, stay = Queue(9 * PICKED_MAX, 9 * PICKED_MAX), random.Random(7), []
    for _ in range(4 * PICKED_MAX):
        held = Held("m", "t", 1, 1, lambda: None)
        queue.put(held, chance.random(), 0.0)
        stay.append(held)
    for held in sorted(stay, key=lambda one: one.deadline_s)[1 : 2 * PICKED_MAX]:
        queue.remove(held)  # a gap within the line, behind its first
    stay = sorted((one for one in stay if not one.is_gone), key=lambda one: one.deadline_s)
    for turn in range(3):
        assert queue.pop("m", lambda _, standing: standing()[-1]) is stay[PICKED_MAX - 1], turn
        del stay[PICKED_MAX - 1]


def test_a_line_is_not_looked_through_while_a_third_party_is_up(make):
    async def run() -> None:
        loop = asyncio.get_running_loop()
        view = make.view([make.replica()], [make.offering()])
        pick = Line(Queue(9, 999), loop, Fleet(view))._pick("m")

        def standing() -> list[Held]:
            raise AssertionError("it was looked through")

        assert pick(Held("m", "t", 1, 1, lambda: None), standing) is None

    asyncio.run(run())
