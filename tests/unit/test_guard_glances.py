"""What the guard clears at a glance holds nothing for its rules: generated text full of evasions,
read both ways."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.guard.samples import CHINESE, ENGLISH
from serving.guard.clearing import Clearing
from serving.guard.folding import MARKS, SPACE, Folding
from serving.guard.glance import glance, is_encodable
from serving.guard.spans import GAP_MAX
from serving.guard.terms import Terms
from serving.guard.values import Action, Term

LISTED = ["敏感词", "刷单", "t恤", "kill", "john smith", "gambl*", "обман", "枪支弹药", "卡拉ok",
          "no one but me", "so it goes on and on*"]  # fmt: skip
WIDE = {code: code + 0xFEE0 for code in range(0x21, 0x7F)}
DRAWN = str.maketrans("aeopcyxijhk", "аеорсухіјһк")
TRADITIONAL = str.maketrans("单词枪弹药", "單詞槍彈藥")
GAPS = ["", " ", "\u200b", "\u00ad", "*", "·", "—", "，", "。", "😀", "\u0301", "\n", "?", "\x00",
        " " * GAP_MAX, "\u2060" * (GAP_MAX + 1)]  # fmt: skip
FILL = [CHINESE, ENGLISH, CHINESE[:40], ENGLISH[:70], "é", "😀", "電話", " 1949-10-01 ",
        "a b c", "\u200b", "\ud800", "ﬁ", "Ｋ", "x" * 300, "一" * 300, "\x7f", "№", "ก", "가",
        "д"]  # fmt: skip


@st.composite
def spelled(draw: st.DrawFn) -> str:
    """A term as somebody writes it who would not have it found."""
    text = draw(st.sampled_from(LISTED)).removesuffix("*")
    for way in draw(st.lists(st.sampled_from("wdtu"), max_size=2)):
        text = {"w": text.translate(WIDE), "d": text.translate(DRAWN), "u": text.upper(),
                "t": text.translate(TRADITIONAL)}[way]  # fmt: skip
    gaps = draw(st.lists(st.sampled_from(GAPS), min_size=len(text), max_size=len(text)))
    if draw(st.booleans()):
        gaps = [draw(st.sampled_from(GAPS))] * len(text)
    inner = "".join(char + gap for char, gap in zip(text, gaps, strict=True))
    return inner if draw(st.booleans()) else text


texts = st.lists(st.sampled_from(FILL) | spelled() | st.text(max_size=6), max_size=8).map("".join)


@pytest.fixture(scope="module")
def terms(folding: Folding) -> Terms:
    return Terms([Term(text, "list", "c", Action.FLAG) for text in LISTED], folding)


@pytest.fixture(scope="module")
def chinese_only(folding: Folding) -> Terms:
    """No term holds a letter of ASCII, so that those are dropped from the key."""
    return Terms([Term(text, "l", "c", Action.FLAG) for text in ("敏感词", "刷单")], folding)


@given(text=texts)
@settings(max_examples=200)
def test_what_is_cleared_of_terms_holds_none(terms: Terms, chinese_only: Terms, text: str) -> None:
    for known in (terms, chinese_only):
        if known.clears(text):
            assert not known.careful(text, False, True).matches


@given(text=texts)
@settings(max_examples=200)
def test_the_keys_are_those_of_the_folds(folding: Folding, text: str) -> None:
    clearing = Clearing([" kill "], ["t恤"], folding)
    if not is_encodable(text):
        assert not clearing.clears(text)
        return
    pieces = clearing.pieces(text)
    assert clearing.compact_key(pieces) == text.translate(folding.compact)
    assert clearing.words_key(pieces).split() == text.translate(folding.words).split()


@pytest.mark.parametrize("text", [CHINESE, ENGLISH, f"{CHINESE} {ENGLISH}", f"{ENGLISH} 😀 é"])
def test_everyday_texts_are_cleared(terms: Terms, text: str) -> None:
    assert terms.clears(text)


@given(text=texts)
@settings(max_examples=200)
def test_what_is_known_to_be_plain_is_cleared_of_the_same(terms: Terms, text: str) -> None:
    if glance(f"^[{terms.folding.plain}]*$")(text):
        assert terms.clears(text, is_plain=True) == terms.clears(text)


@given(
    words=st.lists(st.sampled_from(["a", "b", "an", "be"]), min_size=1, max_size=8),
    gaps=st.lists(st.integers(1, 4), min_size=8, max_size=8),
    said=st.lists(st.sampled_from(["a ", "b ", "an  ", "be, ", "a, b; "]), max_size=30),
    is_open=st.booleans(),
)
@settings(max_examples=200)
def test_words_are_not_cleared_however_wide_their_gaps(
    folding: Folding, words: list[str], gaps: list[int], said: list[str], is_open: bool
) -> None:
    term = Term(" ".join(words) + "*" * is_open, "l", "c", Action.FLAG)
    known = Terms([term], folding)
    phrase = "".join(word + SPACE * gap for word, gap in zip(words, gaps, strict=False))
    assert not known.clears(f"{ENGLISH}; {phrase}")
    assert not known.clears(f"{phrase}; {CHINESE}")
    text = "".join(said) + " x" * 40
    if known.clears(text):
        assert not known.careful(text, False, True).matches


def test_a_term_of_many_words_is_looked_for_by_the_first_of_them(folding: Folding) -> None:
    known = Terms([Term("we look at what is late and change", "l", "c", Action.FLAG)], folding)
    assert not known.clears(ENGLISH)
    assert known.clears(ENGLISH.replace("look at", "look  into"))


@pytest.mark.parametrize(
    "text",
    [
        "刷单",
        "kill",
        "john  smith",
        "no one, but  me",
        "so it goes -- on and on?",
        "t恤",
        "卡拉OK",
        "gambling",
        "обман",
    ],
)
def test_a_term_is_not_cleared_wherever_it_stands(terms: Terms, text: str) -> None:
    for before, after in ((ENGLISH + " ", ""), ("", " " + ENGLISH), (CHINESE, CHINESE)):
        assert not terms.clears(f"{before}{text}{after}")


def test_every_plain_character_is_one_that_folds_as_the_keys_take_it(folding: Folding) -> None:
    is_plain = glance(f"^[{folding.plain}]$")
    plain = [chr(code) for code in range(0x10000) if not 0xD800 <= code < 0xE000]
    plain = [char for char in plain if is_plain(char)]
    assert set("".join(MARKS)) <= set(plain)
    assert len(plain) > 10_000
    for char in plain:
        code = ord(char)
        if char.isascii():
            assert folding.words[code] == (char.lower() if char.isalnum() else SPACE)
            assert folding.compact[code] == (char.lower() if char.isalnum() else "")
        else:
            assert folding.words[code] == SPACE
            assert folding.compact[code] == ("" if char in "".join(MARKS) else char)


def test_a_text_that_is_no_utf8_is_never_cleared(terms: Terms) -> None:
    assert not terms.clears(CHINESE + "\ud800" + "敏\ud800感词")
    assert not is_encodable("\ud800")
    assert is_encodable("敏")
