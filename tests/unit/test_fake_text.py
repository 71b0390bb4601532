"""The fakes' deterministic text and its stop words."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from serving.fakes.text import (
    VOCABULARY,
    VOCABULARY_JSON,
    StopScanner,
    answer_text,
    choice_seed,
    count_tokens,
    natural_tokens,
    seed_of,
    tokenize,
)

seeds = st.integers(0, 2**64 - 1)


@given(st.text())
def test_counting_agrees_with_tokenizing(text):
    assert count_tokens(text) == len(tokenize(text))


@given(seeds, st.integers(1, 40))
def test_a_longer_answer_begins_with_the_shorter_one(seed, tokens):
    assert answer_text(seed, tokens + 1).startswith(answer_text(seed, tokens))


def test_prompt_and_seed_both_change_the_answer():
    texts = {answer_text(seed_of(*given), 8) for given in (("a",), ("b",), ("a", 1), ("a", 2))}
    assert len(texts) == 4
    assert answer_text(seed_of("a"), 8) == answer_text(seed_of("a"), 8)


def test_choices_of_one_answer_differ_and_the_first_keeps_the_seed():
    assert choice_seed(7, 0) == 7
    assert len({answer_text(choice_seed(7, choice), 8) for choice in range(4)}) == 4


@given(seeds)
def test_answers_end_by_themselves_within_stated_bounds(seed):
    assert 32 <= natural_tokens(seed) <= 256


def test_the_vocabulary_has_multi_byte_words_and_agrees_with_its_json():
    assert [json.loads(data) for data in VOCABULARY_JSON] == list(VOCABULARY)
    assert len(set(VOCABULARY)) == 128
    assert any(not word.isascii() for word in VOCABULARY)


@given(
    st.lists(st.text("abc", min_size=1, max_size=3), min_size=1, max_size=12),
    st.lists(st.text("abc", min_size=1, max_size=4), min_size=1, max_size=2),
)
def test_a_scanner_shows_exactly_what_stands_before_the_first_stop_word(pieces, stops):
    scanner = StopScanner(stops)
    shown, so_far = "", ""
    for number, piece in enumerate(pieces):
        so_far += piece
        part, stopped = scanner.push(piece, is_last=number == len(pieces) - 1)
        shown += part
        hits = [at for stop in stops if (at := so_far.find(stop)) >= 0]
        assert stopped == bool(hits)
        if hits:
            assert shown == so_far[: min(hits)]
            return
    assert shown == so_far
