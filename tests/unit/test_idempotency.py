"""A retry is neither served nor billed twice, and remembering it stays within its bounds."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from serving.idempotency import Answer, Idempotency, InFlight, Mismatch, Served
from serving.records import Usage

USAGE = Usage(3, 4)


def answer(size: int = 10, head: bytes = b"") -> Answer:
    return Answer(200, head, b"x" * size, is_stream=False, usage=USAGE)


def test_the_first_try_runs_and_the_second_is_told_to_wait():
    store = Idempotency(600.0, 1000)
    assert store.begin("k", "body", 0.0) is None
    assert store.begin("k", "body", 1.0) == InFlight()


def test_an_ended_try_is_replayed():
    store = Idempotency(600.0, 1000)
    store.begin("k", "body", 0.0)
    store.finish("k", answer(), 1.0)
    assert store.begin("k", "body", 2.0) == answer()


def test_another_body_under_the_same_key_is_a_mismatch_at_any_stage():
    store = Idempotency(600.0, 1000)
    store.begin("k", "body", 0.0)
    assert store.begin("k", "other", 0.0) == Mismatch()
    store.finish("k", answer(), 1.0)
    assert store.begin("k", "other", 2.0) == Mismatch()


def test_an_abandoned_try_leaves_the_key_free_and_twice_is_as_once():
    store = Idempotency(600.0, 1000)
    store.begin("k", "body", 0.0)
    store.abandon("k")
    store.abandon("k")
    assert store.begin("k", "body", 1.0) is None


def test_what_an_earlier_life_served_is_known_by_its_usage():
    store = Idempotency(600.0, 1000)
    store.remember("k", "body", Usage(3, 4), 0.0)
    assert store.begin("k", "body", 1.0) == Served(Usage(3, 4))
    assert store.begin("k", "other", 1.0) == Mismatch()
    assert store.begin("k", "body", 601.0) is None


def test_an_answer_is_forgotten_after_its_time_and_its_bytes_with_it():
    store = Idempotency(600.0, 1000)
    store.begin("k", "body", 0.0)
    store.finish("k", answer(), 10.0)
    assert store.begin("k", "body", 610.0) == answer()
    assert store.begin("k", "body", 610.1) is None
    assert store.bytes == 0


def test_an_old_answer_is_not_replayed_though_running_calls_stand_before_it():
    store = Idempotency(600.0, 1000)
    for n in range(50):
        store.begin(f"slow {n}", "body", 0.0)
    store.begin("k", "body", 0.0)
    store.finish("k", answer(), 1.0)
    assert store.begin("k", "body", 700.0) is None


def test_running_calls_do_not_keep_old_answers_alive():
    store = Idempotency(600.0, 100_000)
    for n in range(8):
        store.begin(f"slow {n}", "body", 0.0)
    for n in range(100):
        store.begin(f"k{n}", "body", 0.0)
        store.finish(f"k{n}", answer(), 0.0)
    for n in range(40):
        store.begin(f"new {n}", "body", 700.0)
    assert store.bytes == 0
    assert all(store.begin(f"slow {n}", "body", 700.0) == InFlight() for n in range(8))


def test_a_running_call_is_never_forgotten():
    store = Idempotency(600.0, 1000)
    store.begin("k", "body", 0.0)
    assert store.begin("k", "body", 1e9) == InFlight()


def test_the_oldest_answers_go_when_space_runs_out_but_not_that_they_were_served():
    store = Idempotency(600.0, 100)
    for n in range(6):
        store.begin(f"k{n}", "body", 0.0)
        store.finish(f"k{n}", answer(20, head=b"h" * 5), float(n))
    assert store.bytes == 100
    assert store.begin("k0", "body", 9.0) == Served(USAGE)
    assert store.begin("k1", "body", 9.0) == Served(USAGE)
    assert isinstance(store.begin("k2", "body", 9.0), Answer)


def test_of_an_answer_larger_than_a_quarter_of_the_space_only_the_usage_is_kept():
    store = Idempotency(600.0, 100)
    store.begin("k", "body", 0.0)
    store.finish("k", answer(26), 0.0)
    assert (store.bytes, store.begin("k", "body", 1.0)) == (0, Served(USAGE))


def test_a_try_that_was_served_without_an_answer_to_keep_is_known_as_served():
    store = Idempotency(600.0, 100)
    store.begin("k", "body", 0.0)
    store.finish("k", Served(USAGE), 0.0)
    assert store.begin("k", "body", 1.0) == Served(USAGE)


def test_an_evicted_answer_s_key_is_free_again_after_its_time():
    store = Idempotency(600.0, 30)
    for n in range(9):
        store.begin(f"k{n}", "body", 0.0)
        store.finish(f"k{n}", answer(7), 0.0)
    assert all(store.begin(f"k{n}", "body", 601.0) is None for n in range(9))
    assert (store.bytes, len(store._whole)) == (0, 0)


def test_no_space_keeps_nothing():
    store = Idempotency(600.0, 0)
    store.begin("k", "body", 0.0)
    store.finish("k", answer(1), 0.0)
    assert store.bytes == 0


@settings(max_examples=100)
@given(
    st.lists(
        st.tuples(st.integers(0, 9), st.sampled_from("ab"), st.integers(0, 60), st.booleans()),
        max_size=80,
    )
)
def test_its_bytes_are_those_of_the_answers_it_holds_and_bounded(steps):
    store, now_s, running = Idempotency(30.0, 200), 0.0, set()
    for name, body, size, ends in steps:
        now_s += 1.0
        key = str(name)
        found = store.begin(key, body, now_s)
        assert (found is None) <= (key not in running)
        if found is None:
            running.add(key)
        if key in running and ends:
            running.discard(key)
            if size % 7:
                store.finish(key, answer(size), now_s)
            else:
                store.abandon(key)
        held = [e[2] for e in store._entries.values() if isinstance(e[2], Answer)]
        assert store.bytes == sum(len(a.body) + len(a.head) for a in held) <= 200
        assert running <= set(store._entries)
        assert len(store._whole) == len(held)


def test_beyond_its_bound_the_oldest_that_ended_is_forgotten_and_none_that_runs():
    store = Idempotency(600.0, 1000, entries_max=3)
    store.begin("runs", "body", 0.0)
    for name in ("a", "b", "c"):
        store.begin(name, "body", 0.0)
        store.finish(name, answer(), 0.0)
    assert store.begin("runs", "body", 1.0) == InFlight()
    assert store.begin("a", "body", 1.0) is None
    assert store.begin("c", "body", 1.0) == answer()
    assert store.bytes == 10
