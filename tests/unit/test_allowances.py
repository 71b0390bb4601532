"""Allowances: never more than was allowed, nothing taken by a refusal, honest times to return."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.allowances import (
    SUBJECTS_MAX,
    UNKNOWN_ANSWER_TOKENS,
    Allowances,
    Exceeded,
    Lease,
)
from serving.limits.standing import Standing, headers
from serving.records import Allowance, Subject, Usage


def subject(id_: str = "key:k", **limits: int) -> Subject:
    return Subject(id_, Allowance(**limits))


@given(gaps=st.lists(st.floats(0.0, 9.0), min_size=1, max_size=60), limit=st.integers(1, 20))
def test_over_any_stretch_no_more_calls_than_its_minutes_and_one_bucket_hold(make, gaps, limit):
    allowances, now_s, granted = Allowances(), 0.0, []
    for gap_s in gaps:
        now_s += gap_s
        found = allowances.take(make.call(), (subject(requests_per_min=limit),), now_s)
        if isinstance(found, Lease):
            granted.append(now_s)
    for index, start_s in enumerate(granted):
        for count, end_s in enumerate(granted[index:], 1):
            assert count <= limit + (end_s - start_s) * limit / 60.0 + 1e-6


@given(
    tokens=st.integers(1, 500),
    limit=st.integers(1, 300),
    limits=st.sampled_from(["requests_per_min", "tokens_per_min"]),
)
def test_whoever_returns_when_told_is_let_in(make, tokens, limit, limits):
    allowances, now_s = Allowances(), 0.0
    call = make.call(prompt_tokens=tokens, max_tokens=1)
    for _ in range(limit + 1):
        found = allowances.take(call, (subject(**{limits: limit}),), now_s)
        if isinstance(found, Exceeded):
            break
    assert isinstance(found, Exceeded)
    assert found.retry_after_s > 0
    now_s += found.retry_after_s + 1e-6
    assert isinstance(allowances.take(call, (subject(**{limits: limit}),), now_s), Lease)


def test_a_refusal_takes_nothing_from_any_subject(make):
    allowances = Allowances()
    wide, narrow = subject("tenant:t", requests_per_min=2), subject("key:k", requests_per_min=1)
    assert isinstance(allowances.take(make.call(), (wide, narrow), 0.0), Lease)
    for _ in range(5):
        found = allowances.take(make.call(), (wide, narrow), 0.0)
        assert isinstance(found, Exceeded)
        assert (found.subject.id, found.what, found.limit) == ("key:k", "requests per minute", 1)
    assert isinstance(allowances.take(make.call(), (wide,), 0.0), Lease)


def test_tokens_are_reserved_and_settled_to_what_was_used(make):
    allowances, mine = Allowances(), (subject(tokens_per_min=2000),)
    call = make.call(prompt_tokens=300, max_tokens=600)
    leases = [allowances.take(call, mine, 0.0) for _ in range(2)]
    assert isinstance(allowances.take(call, mine, 0.0), Exceeded), "1800 of 2000 are reserved"
    for lease in leases:
        lease.settle(Usage(300, 10))
    small = make.call(prompt_tokens=1, max_tokens=1)
    standing = allowances.take(small, mine, 0.0).standing
    assert (standing.tokens_limit, standing.tokens_left) == (2000, 1378)
    assert standing.tokens_full_s == pytest.approx(622 * 60 / 2000)


def test_an_answer_longer_than_reserved_is_owed(make):
    allowances, mine = Allowances(), (subject(tokens_per_min=600),)
    lease = allowances.take(make.call(prompt_tokens=100, max_tokens=100), mine, 0.0)
    lease.settle(Usage(100, 1100))
    small = make.call(prompt_tokens=1, max_tokens=1)
    refusal = allowances.take(small, mine, 0.0)
    assert isinstance(refusal, Exceeded)
    assert refusal.retry_after_s == pytest.approx(60.2)


def test_an_answer_without_a_limit_reserves_a_usual_one_for_each_choice(make):
    allowances = Allowances()
    call = make.call(prompt_tokens=0, max_tokens=None, n=2)
    limit = 4 * UNKNOWN_ANSWER_TOKENS
    lease = allowances.take(call, (subject(tokens_per_min=limit),), 0.0)
    assert lease.standing.tokens_left == limit // 2


def test_a_call_larger_than_a_minute_s_worth_passes_a_full_bucket_and_is_owed(make):
    allowances, mine = Allowances(), (subject(tokens_per_min=100),)
    large = make.call(prompt_tokens=250, max_tokens=1)
    assert isinstance(allowances.take(large, mine, 0.0), Lease)
    assert isinstance(allowances.take(large, mine, 60.0), Exceeded)
    assert isinstance(allowances.take(large, mine, 151.0), Lease)


@given(st.lists(st.booleans(), max_size=60))
def test_never_more_calls_at_once_than_allowed_and_every_place_comes_back(make, turns):
    allowances, mine, leases = Allowances(), (subject(concurrent=3),), []
    for is_arrival in turns:
        if is_arrival:
            found = allowances.take(make.call(), mine, 0.0)
            assert isinstance(found, Lease) == (len(leases) < 3)
            if isinstance(found, Lease):
                leases.append(found)
        elif leases:
            leases.pop().settle(Usage())
    for lease in leases:
        lease.settle(Usage())
        lease.settle(Usage())  # settling twice gives nothing back twice
    for _ in range(3):
        assert isinstance(allowances.take(make.call(), mine, 0.0), Lease)
    assert isinstance(allowances.take(make.call(), mine, 0.0), Exceeded)


def test_a_changed_allowance_holds_at_once_and_keeps_the_calls_under_way(make):
    allowances = Allowances()
    allowances.take(make.call(), (subject(concurrent=1),), 0.0)
    assert isinstance(allowances.take(make.call(), (subject(concurrent=2),), 0.0), Lease)
    assert isinstance(allowances.take(make.call(), (subject(concurrent=2),), 0.0), Exceeded)


def test_a_changed_allowance_loses_no_place_when_calls_of_the_old_one_end(make):
    allowances = Allowances()
    leases = [allowances.take(make.call(), (subject(concurrent=2),), 0.0) for _ in range(2)]
    leases.append(allowances.take(make.call(), (subject(concurrent=3),), 0.0))
    for lease in leases:
        lease.settle(Usage())
    for _ in range(2):
        assert isinstance(allowances.take(make.call(), (subject(concurrent=2),), 0.0), Lease)


def test_calls_at_once_are_shared_too_and_the_refusal_names_the_whole_limit(make):
    allowances, mine = Allowances(share=4), (subject(concurrent=8),)
    granted = [allowances.take(make.call(), mine, 0.0) for _ in range(3)]
    assert [isinstance(found, Lease) for found in granted] == [True, True, False]
    assert granted[-1].limit == 8


def test_several_processes_count_their_share(make):
    allowances, mine = Allowances(share=4), (subject(requests_per_min=8),)
    granted = [allowances.take(make.call(), mine, 0.0) for _ in range(8)]
    assert sum(isinstance(found, Lease) for found in granted) == 2


def test_subjects_are_bounded(make):
    allowances = Allowances()
    for number in range(SUBJECTS_MAX + 10):
        found = allowances.take(make.call(), (subject(f"t:{number}", requests_per_min=1),), 0.0)
        found.settle(Usage())
    assert len(allowances._counters) == SUBJECTS_MAX


def test_headers_tell_what_is_limited_and_nothing_else():
    assert headers(Standing()) == ""
    told = headers(Standing(requests_limit=10, requests_left=9, requests_full_s=6.0))
    assert told.splitlines() == [
        "x-ratelimit-limit-requests: 10", "x-ratelimit-remaining-requests: 9",
        "x-ratelimit-reset-requests: 6.000s",
    ]  # fmt: skip
