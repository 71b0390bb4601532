"""Tokens from bytes: an upper bound that follows what engines count and ignores nonsense."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.tokens import SAMPLE_BYTES, UPPER, TokenRatio

ENGLISH, CHINESE = b"hello " * 50, "你好".encode() * 50


def test_the_first_guess_bounds_english_and_chinese_from_above():
    ratio = TokenRatio()
    assert ratio.upper(b"a" * 4000, 4000) >= 1000
    assert ratio.upper("字".encode() * 1000, 3000) >= 667
    assert ratio.upper(b"", 0) == 8


def test_the_bound_is_an_integer_for_prompts_of_any_size():
    assert type(TokenRatio().upper(b"x", 10**12)) is int


def test_each_script_learns_for_itself():
    ratio = TokenRatio()
    for _ in range(300):
        ratio.learn(ENGLISH, 1000, 500)
    assert ratio.ascii == pytest.approx(0.5, abs=0.01)
    assert ratio.other == 0.30
    for _ in range(300):
        ratio.learn(CHINESE, 1000, 100)
    assert ratio.other == pytest.approx(0.1, abs=0.01)
    assert ratio.upper(ENGLISH, 1000) == pytest.approx(500 * UPPER + 8, abs=15)


@pytest.mark.parametrize(
    ("size", "tokens"),
    [(63, 20), (0, 0), (0, 5), (1000, 0), (1000, 19), (1000, 1501), (1000, -5), (1000, 10**9)],
)
def test_counts_that_cannot_be_right_teach_nothing(size, tokens):
    ratio = TokenRatio()
    ratio.learn(ENGLISH, size, tokens)
    assert (ratio.ascii, ratio.other) == (0.25, 0.30)


def test_only_the_beginning_of_the_prompt_decides_its_script():
    late = b"a" * SAMPLE_BYTES + CHINESE
    ratio = TokenRatio()
    assert ratio.upper(late, 1000) == ratio.upper(b"a", 1000)
    assert ratio.upper(b"a" * (SAMPLE_BYTES - 1) + CHINESE, 1000) == ratio.upper(CHINESE, 1000)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 10**6), st.integers(-10, 10**7))))
def test_no_history_takes_the_ratios_out_of_their_bounds(history):
    ratio = TokenRatio()
    for is_ascii, size, tokens in history:
        ratio.learn(ENGLISH if is_ascii else CHINESE, size, tokens)
    assert 0.02 <= ratio.ascii <= 1.5
    assert 0.02 <= ratio.other <= 1.5


@given(st.integers(0, 10**8), st.integers(0, 10**8))
def test_a_longer_prompt_never_has_a_lower_bound(one, other):
    ratio = TokenRatio()
    assert ratio.upper(b"x", min(one, other)) <= ratio.upper(b"x", max(one, other))
