"""The guard's shortcuts find what the plain way finds: every fold and every rule beside its slow
twin, on mixed text full of what the rules look for."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.guard.samples import CHINESE, ENGLISH
from serving.guard import personal
from serving.guard.folding import SPACE, Folding, Table
from serving.guard.personal import chinese, digits, english, marks
from serving.guard.personal.cues import Announced, Cues, Signs
from serving.guard.spans import BREAK, GAP_MAX, INSIDE, as_bytes, fold_compact, fold_words
from serving.guard.terms import Terms
from serving.guard.values import Action, Term

CUES = marks.CUES | english.CUES
PARTS = [
    "my name is ", "My Name Is ", "mr ", "Mr. ", "name: ", '"name": "', "Dear\n", "my boss, ",
    "Trevor Hughes", "John", " Smith", "passport ", "护照", "密码：", "password: ", "s3cret!pw",
    "E12345678", "DE89370400440532013000", "GB29 NWBK 6016 1331 9268 19", "XX12 3456 7890 1234",
    "12 Main Street", ", Springfield", "P.O. Box 12", "a@b.com", "@", "AKIA0123456789ABCDEF",
    "task-", "sk-abcdefghijklmnopqrstuv", "PRIVATE KEY", "-----BEGIN PRIVATE KEY-----", "eyJ",
    "联系人：", "客户 : ", "患者姓名", "被告人", "名字是", "本人张伟，", "老公", "王小明",
    "欧阳锋", "的", "最近", "北京市朝阳区", "建国路", "88号", "十二号", "12-3号", "住在",
    "3单元", "110105", "19491231", "002X", "13800138000", "010-", "(415) ", "555-2671",
    "4111111111111111", "order ", "电话", " ", ". ", "，", "。", "\n", "\t", "\u200b", "\x7f",
    "\x00", "\u0301", "\u0130", "\u212a", "é", "ﬁ", "½", "１２３", "ＭＲ", "電話", "護照", "乾",
    "于", "—", "？", "😀", "\ud800", "٣", "ا", "ก", "가", CHINESE, ENGLISH,
    "，" * (GAP_MAX + 2), " " * GAP_MAX, " " * (GAP_MAX + 1), "敏感词", "敏 感。词", "t恤",
    "kill ", "kills",
]  # fmt: skip
texts = st.lists(st.sampled_from(PARTS), max_size=16).map("".join) | st.text(max_size=80)


def plain_flat(text: str, folding: Folding) -> tuple[str, list[int] | None]:
    flat = text.translate(folding.flat)
    origin = [at for at, char in enumerate(flat) if folding.words[ord(char)]]
    if len(origin) == len(flat):
        return flat, None
    return "".join(flat[at] for at in origin), origin


def plain_words(
    text: str, folding: Folding, is_inside: bool, is_last: bool
) -> tuple[str, list[int]]:
    """Character by character."""
    key, origin = [INSIDE if is_inside else SPACE], [-1]
    gap, has_separator = 0, not is_inside
    for at, char in enumerate(text):
        folded = folding.words[ord(char)]
        if folded.strip():
            gap, has_separator = 0, False
        else:
            gap += 1
            has_separator = has_separator or folded == SPACE
            if gap == GAP_MAX + 1:
                folded = BREAK + (SPACE if has_separator else "")
        for piece in folded:
            if piece != SPACE or key[-1] != SPACE:
                key += as_bytes(piece)
                origin += [at] * len(as_bytes(piece))
    if is_last and key[-1] != SPACE:
        return "".join(key) + SPACE, [*origin, len(text)]
    return "".join(key), origin


SPELLINGS = [
    (spelling, what)
    for cue, what in CUES.items()
    for spelling in sorted(
        {cue} if cue[0].isupper() else {cue, cue.upper(), cue.title(), cue[0].upper() + cue[1:]}
    )
]


def plain_cues(text: str) -> list[tuple[int, Announced]]:
    """Every spelling looked for at every place."""
    found = []
    for spelling, what in SPELLINGS:
        at = text.find(spelling)
        while at >= 0:
            before = text[at - 1 : at]
            if not (before.isascii() and before.isalpha()):
                found.append((at + len(spelling), at, what))
            at = text.find(spelling, at + 1)
    return [(end, what) for end, _, what in sorted(found, key=lambda one: one[:2])]


@given(text=texts)
@settings(max_examples=200)
def test_a_table_folds_long_texts_as_it_folds_characters(folding: Folding, text: str) -> None:
    table: Table
    for table in (folding.words, folding.compact, folding.flat):
        for long in (text, text * 3 + CHINESE):
            assert table.of(long) == "".join(table[ord(char)] for char in long)
    assert folding.flatten(text) == plain_flat(text, folding)


def test_a_table_leaves_alone_what_it_says_it_leaves_alone(folding: Folding) -> None:
    for table in (folding.words, folding.compact, folding.flat):
        kept = {chr(code) for code in range(0x10000)} - set(table.others("".join(
            map(chr, range(0x10000)))))  # fmt: skip
        assert all(table[ord(char)] == char for char in kept)
        assert set("az09") <= kept


@given(text=texts, is_inside=st.booleans(), is_last=st.booleans())
@settings(max_examples=200)
def test_a_text_folded_in_runs_is_the_one_folded_by_character(
    folding: Folding, text: str, is_inside: bool, is_last: bool
) -> None:
    found = fold_words(text, folding, is_inside, is_last)
    assert tuple(found) == plain_words(text, folding, is_inside, is_last)
    pieces = [(at, as_bytes(folding.compact[ord(char)])) for at, char in enumerate(text)]
    key = "".join(piece for _, piece in pieces)
    assert tuple(fold_compact(text, folding)) == (key, [at for at, p in pieces for _ in p])


@given(text=texts)
@settings(max_examples=200)
def test_words_that_announce_are_found_as_if_looked_for_one_by_one(text: str) -> None:
    assert Cues(CUES).find(text) == plain_cues(text)


@given(text=texts)
@settings(max_examples=200)
def test_the_signs_miss_no_place_where_a_rule_matches(folding: Folding, text: str) -> None:
    flat, _ = folding.flatten(text)
    # One sign of a credential more, so that credentials are looked for without any.
    everywhere = Signs(range(len(flat)), [*plain_cues(flat), (len(flat), marks.CUES["sk-"])])
    signs = Cues(CUES).signs(flat)
    for rules in (digits, marks, english):
        assert list(rules.find(flat, signs)) == list(rules.find(flat, everywhere))


@given(text=texts)
@settings(max_examples=200)
def test_a_cue_of_a_chinese_name_reads_the_same_with_its_alternatives_apart(text: str) -> None:
    strong, weak = chinese.NAME_CUES, chinese.WEAK_CUES
    plain = re.compile(
        rf"(?:(?:{strong})(?:[ \t]*[:：是为叫\\\"'“「『(（|]|[ \t]){{0,6}}"
        rf"|(?:{weak})[ \t]*[:：][ \t]*)"
    )
    apart = re.compile(chinese.NAME_CUE)
    assert [m.span() for m in apart.finditer(text)] == [m.span() for m in plain.finditer(text)]


@pytest.fixture(scope="module")
def terms(folding: Folding) -> Terms:
    listed = ["敏感词", "t恤", "kill", "john smith", "street*", "项目", "main"]
    return Terms([Term(text, "list", "c", Action.FLAG) for text in listed], folding)


@given(text=texts, is_inside=st.booleans(), is_last=st.booleans())
@settings(max_examples=200)
def test_a_search_tells_what_both_automata_tell_when_both_look_closely(
    terms: Terms, text: str, is_inside: bool, is_last: bool
) -> None:
    assert terms.search(text, is_inside, is_last) == terms.careful(text, is_inside, is_last)


@pytest.mark.parametrize("text", ["", "no data here", "1", "号", CHINESE, ENGLISH])
def test_a_text_that_gives_nothing_away_holds_nothing(folding: Folding, text: str) -> None:
    assert personal.find(text, folding) == []
