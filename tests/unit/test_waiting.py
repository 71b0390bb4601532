"""The queue: bounded, by deadline within a tenant, fair between tenants, and without leaks."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from serving.waiting import QUANTUM_TOKENS, Held, Queue


def held(tenant: str = "a", tokens: int = 100, size: int = 10, model: str = "m") -> Held:
    return Held(model, tenant, tokens, size, lambda: None)


def everything(queue: Queue, model: str = "m") -> list[Held]:
    return list(iter(lambda: queue.pop(model), None))


def test_it_takes_no_more_calls_than_its_bound():
    queue = Queue(2, 1000)
    assert [queue.put(held(), 1.0, 0.0) for _ in range(3)] == [True, True, False]
    queue.pop("m")
    assert queue.put(held(), 1.0, 0.0)


def test_it_takes_no_more_bytes_than_its_bound():
    queue = Queue(100, 25)
    assert [queue.put(held(size=10), 1.0, 0.0) for _ in range(3)] == [True, True, False]
    assert queue.put(held(size=5), 1.0, 0.0)
    assert queue.bytes == 25


def test_a_bound_of_nothing_takes_nothing():
    assert not Queue(0, 1000).put(held(), 1.0, 0.0)


def test_a_call_stands_in_line_once():
    queue, one = Queue(9, 99), held()
    queue.put(one, 1.0, 0.0)
    queue.remove(one)
    with pytest.raises(AssertionError):
        queue.put(one, 1.0, 0.0)


@given(st.lists(st.integers(0, 5), max_size=30))
def test_a_tenant_s_calls_leave_by_deadline_and_by_arrival_where_equal(deadlines):
    queue = Queue(100, 10_000)
    calls = [held(tokens=i) for i in range(len(deadlines))]
    for call, deadline in zip(calls, deadlines, strict=True):
        queue.put(call, float(deadline), 0.0)
    order = [(call.deadline_s, call.tokens) for call in everything(queue)]
    assert order == sorted(order)
    assert len(order) == len(deadlines)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.lists(st.integers(1, 3 * QUANTUM_TOKENS), min_size=30, max_size=60),
        min_size=2, max_size=4,
    ),
    st.integers(1, 60),
)  # fmt: skip
def test_tenants_that_always_wait_get_equal_tokens_within_a_bound(tenants, taken):
    queue = Queue(1000, 100_000)
    for name, sizes in enumerate(tenants):
        for tokens in sizes:
            queue.put(held(str(name), tokens), 1.0, 0.0)
    served = dict.fromkeys(map(str, range(len(tenants))), 0)
    left = {str(name): len(sizes) for name, sizes in enumerate(tenants)}
    for _ in range(taken):
        call = queue.pop("m")
        served[call.tenant] += call.tokens
        left[call.tenant] -= 1
        if not all(left.values()):
            break
    # Deficit round robin: never more than a round and a call of the largest size apart.
    largest = 3 * QUANTUM_TOKENS
    assert max(served.values()) - min(served.values()) <= QUANTUM_TOKENS + 2 * largest


def test_one_tenant_s_crowd_does_not_delay_another_s_single_call():
    queue = Queue(1000, 100_000)
    for _ in range(500):
        queue.put(held("crowd", QUANTUM_TOKENS), 1.0, 0.0)
    queue.put(held("single", QUANTUM_TOKENS), 99.0, 0.0)
    order = [call.tenant for call in everything(queue)]
    assert order.index("single") <= 2
    assert len(order) == 501


def test_short_calls_go_several_at_a_time():
    queue = Queue(100, 100_000)
    for tenant in ("a", "b"):
        for _ in range(20):
            queue.put(held(tenant, QUANTUM_TOKENS // 4), 1.0, 0.0)
    runs = [len(list(group)) for _, group in itertools.groupby(
        call.tenant for call in everything(queue))]  # fmt: skip
    assert set(runs) == {4}


def test_unused_credit_ends_with_the_lane():
    queue = Queue(100, 100_000)
    for _ in range(10):
        queue.put(held("a", 1), 1.0, 0.0)
        queue.put(held("b", 1), 1.0, 0.0)
    everything(queue)
    for tenant in ("a", "b"):
        for _ in range(2):
            queue.put(held(tenant, QUANTUM_TOKENS), 1.0, 0.0)
    assert [call.tenant for call in everything(queue)] in (["a", "b"] * 2, ["b", "a"] * 2)


def test_a_removed_call_is_never_popped_and_twice_is_as_once():
    queue, one, other = Queue(9, 99), held(), held()
    queue.put(one, 1.0, 0.0)
    queue.put(other, 2.0, 0.0)
    queue.remove(one)
    queue.remove(one)
    assert (queue.calls, queue.bytes) == (1, 10)
    assert everything(queue) == [other]


def test_a_lane_whose_calls_all_left_is_skipped():
    queue, gone = Queue(9, 99), held("gone")
    queue.put(gone, 1.0, 0.0)
    queue.put(held("here"), 1.0, 0.0)
    queue.remove(gone)
    assert [call.tenant for call in everything(queue)] == ["here"]


def test_models_wait_in_lines_of_their_own():
    queue = Queue(9, 99)
    queue.put(held(model="x"), 1.0, 0.0)
    queue.put(held(model="y"), 1.0, 0.0)
    assert sorted(queue.models()) == ["x", "y"]
    assert queue.pop("x").model == "x"
    assert queue.pop("x") is None
    assert (queue.waiting("x"), queue.waiting("y")) == (0, 1)


def test_cancelled_calls_leave_nothing_behind_however_many():
    queue = Queue(10, 1000)
    queue.put(held("patient"), 1e9, 0.0)
    for _ in range(500):
        call = held("hasty")
        assert queue.put(call, 1.0, 0.0)
        queue.remove(call)
    hasty = queue._lanes["m"]["hasty"]
    assert len(hasty.heap) <= 2 * 10 + 1
    everything(queue)
    assert (queue.calls, queue.bytes) == (0, 0)
    assert (queue._lanes, queue._rings, queue._held) == ({}, {}, {})


def test_the_snapshot_counts_calls_tokens_and_the_oldest():
    queue, gone = Queue(9, 99), held(tokens=1000)
    queue.put(gone, 1.0, 0.0)
    queue.put(held(tokens=5), 9.0, 3.0)
    queue.put(held("b", tokens=6), 9.0, 4.0)
    queue.remove(gone)
    assert queue.snapshot(10.0) == {"m": (2, 11, 7.0)}
    assert Queue(9, 99).snapshot(10.0) == {}


class QueueMachine(RuleBasedStateMachine):
    """Any interleaving of put, remove and pop against a plain list."""

    def __init__(self) -> None:
        super().__init__()
        self.queue = Queue(8, 200)
        self.inside: list[Held] = []

    @rule(
        tenant=st.sampled_from("abc"), model=st.sampled_from("xy"), deadline=st.integers(0, 9),
        tokens=st.integers(0, 9000), size=st.integers(1, 60),
    )  # fmt: skip
    def put(self, tenant, model, deadline, tokens, size):
        call = held(tenant, tokens, size, model)
        has_room = len(self.inside) < 8 and sum(c.size for c in self.inside) + size <= 200
        assert self.queue.put(call, float(deadline), 0.0) == has_room
        if has_room:
            self.inside.append(call)

    @precondition(lambda self: self.inside)
    @rule(data=st.data())
    def remove(self, data):
        call = data.draw(st.sampled_from(self.inside))
        self.queue.remove(call)
        self.inside.remove(call)

    @rule(model=st.sampled_from("xyz"))
    def pop(self, model):
        call = self.queue.pop(model)
        waiting = [c for c in self.inside if c.model == model]
        assert (call is None) == (not waiting)
        if call is not None:
            same = [c.deadline_s for c in waiting if c.tenant == call.tenant]
            assert call.deadline_s == min(same)
            self.inside.remove(call)

    @invariant()
    def counts_agree(self):
        assert self.queue.calls == len(self.inside)
        assert self.queue.bytes == sum(c.size for c in self.inside)
        assert set(self.queue.models()) == {c.model for c in self.inside}
        for model in "xy":
            assert self.queue.waiting(model) == sum(c.model == model for c in self.inside)


QueueMachine.TestCase.settings = settings(max_examples=30, stateful_step_count=40, deadline=None)
TestEveryInterleaving = QueueMachine.TestCase


def test_who_gives_way_ranks_highest_and_came_last_and_nobody_of_the_same_rank():
    queue = Queue(4, 999)
    ranks = {"live": 0, "patient": 1, "batch old": 2, "batch new": 2}
    calls = {}
    for at_s, (name, rank) in enumerate(ranks.items()):
        calls[name] = held(tenant=name)
        calls[name].rank = rank
        queue.put(calls[name], 100.0, float(at_s))
    assert queue.victims(0, 10) == [calls["batch new"]]
    assert queue.victims(1, 10) == [calls["batch new"]]
    assert queue.victims(2, 10) == []
    assert queue.calls == 4, "only looked at"


def test_a_large_call_takes_several_places_or_none():
    queue = Queue(9, 100)
    small = [held(size=25, tenant=str(n)) for n in range(4)]
    for at_s, one in enumerate(small):
        one.rank = 1
        queue.put(one, 100.0, float(at_s))
    assert queue.victims(0, 60) == [small[3], small[2], small[1]]
    assert queue.victims(0, 100) == small[::-1]
    assert queue.victims(0, 101) == [], "it would not fit even then: nobody gives way for nothing"
