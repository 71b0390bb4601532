"""Term lists: what is found, what is not, and that cutting a text changes nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.guard import termfile
from serving.guard.filtering import TermFilter
from serving.guard.folding import Folding
from serving.guard.spans import GAP_MAX
from serving.guard.terms import HOLD_CHARS_MAX, TERM_CHARS_MAX, Terms
from serving.guard.values import Action, Term
from serving.records import Sensitivity

LISTS = frozenset({"list"})


def term(text: str, action: Action = Action.MASK, name: str = "list") -> Term:
    return Term(text, name, "category", action)


def passed(terms: Terms, pieces: Iterable[str]) -> tuple[str, bool, list[str]]:
    """(what left, whether it was blocked, the terms reported)."""
    reported: list[str] = []
    flow = TermFilter(terms, LISTS, "*", lambda match: reported.append(match.term.text))
    out = [flow.feed(piece) for piece in pieces]
    out.append(flow.feed("", is_last=True))
    return "".join(out), flow.is_blocked, sorted(reported)


FOUND = {
    "plain": ("敏感词", "说敏感词吗", "说***吗"),
    "spaced": ("敏感词", "敏 感 词", "*****"),
    "zero width": ("敏感词", "敏\u200b感\u200d词", "*****"),
    "punctuated in every gap": ("敏感词", "敏。感，词", "*****"),
    "struck through": ("敏感词", "敏\u0336感\u0336词", "*****"),
    "traditional": ("敏感词", "敏感詞", "***"),
    "listed in traditional": ("敏感詞", "敏感词", "***"),
    "mixed with Latin": ("T恤批发", "ｔ恤 批發", "*****"),
    "a word": ("ass", "you ass!", "you ***!"),
    "a word at the end": ("ass", "you ass", "you ***"),
    "any case": ("ass", "ASS", "***"),
    "full width": ("ass", "ａｓｓ", "***"),
    "look-alike letters": ("ass", "аѕѕ", "***"),
    "accents": ("ass", "ásś", "***"),
    "beside Chinese": ("ass", "这ass啊", "这***啊"),
    "two words over a line end": ("kill yourself", "kill\n yourself", "**************"),
    "open end": ("scam*", "scammers", "****mers"),
    "digits": ("8964", "in 8964.", "in ****."),
    "another script": ("наркотик", "НАРКОТИК", "********"),
}


@pytest.mark.parametrize(("listed", "text", "expected"), FOUND.values(), ids=list(FOUND))
def test_finds_a_term_however_it_is_spelt(
    folding: Folding, listed: str, text: str, expected: str
) -> None:
    assert passed(Terms([term(listed)], folding), [text])[0] == expected


LEFT = {
    "part of a word": ("ass", "class assess Scunthorpe bass"),
    "part of a number": ("8964", "189640"),
    "spaced letters of words": ("ass", "a s s"),
    "over the end of a clause": ("敏感词", "很敏感。词语"),
    "over the end of a line": ("敏感词", "很敏感\n词语"),
    "letters between": ("敏感词", "敏a感a词"),
    "Latin end inside a word": ("T恤", "hat恤"),
    "Latin end that goes on": ("做ai", "做aircraft"),
    "closed end": ("scam", "scammer"),
    "a gap too wide": ("敏感词", "敏" + " " * (GAP_MAX + 1) + "感词"),
    "words apart": ("kill yourself", "kill" + " " * (GAP_MAX + 1) + "yourself"),
}


@pytest.mark.parametrize(("listed", "text"), LEFT.values(), ids=list(LEFT))
def test_leaves_what_only_looks_like_a_term(folding: Folding, listed: str, text: str) -> None:
    assert passed(Terms([term(listed)], folding), [text]) == (text, False, [])


def test_a_flag_is_reported_and_changes_nothing(folding: Folding) -> None:
    terms = Terms([term("敏感词", Action.FLAG)], folding)
    assert passed(terms, ["一个敏感词"]) == ("一个敏感词", False, ["敏感词"])


def test_a_block_lets_only_the_text_before_it_leave(folding: Folding) -> None:
    terms = Terms([term("敏感词", Action.BLOCK), term("ass", Action.BLOCK)], folding)
    assert passed(terms, ["前文敏", "感词后文"]) == ("前文", True, ["敏感词"])
    assert passed(terms, ["he is an ass", " and more"]) == ("he is an ", True, ["ass"])


def test_lists_that_a_tenant_does_not_have_change_nothing(folding: Folding) -> None:
    terms = Terms([term("敏感词", Action.BLOCK, "other")], folding)
    assert passed(terms, ["敏感词"]) == ("敏感词", False, [])


def test_one_term_of_two_lists_counts_for_both(folding: Folding) -> None:
    terms = Terms([term("敏感词"), term("敏感詞", Action.FLAG)], folding)
    assert passed(terms, ["敏感词"]) == ("***", False, ["敏感詞", "敏感词"])


def test_holds_back_only_what_may_become_a_term(folding: Folding) -> None:
    terms = Terms([term("敏感词"), term("kill yourself")], folding)
    flow = TermFilter(terms, LISTS, "*", lambda _: None)
    assert [flow.feed(p) for p in ("你好", "敏", "捷", " ki", "ng kill", " your", " cat")] == [
        "你好", "", "敏捷", " ", "king ", "", "kill your cat",
    ]  # fmt: skip


@pytest.mark.parametrize("text", ["", "  ", "。", "*", "\u200b", "x" * (TERM_CHARS_MAX + 1),
                                  "㍿" * 40])  # fmt: skip
def test_refuses_a_term_that_no_text_can_hold(folding: Folding, text: str) -> None:
    with pytest.raises(ValueError, match="list"):
        Terms([term(text)], folding)


PARTS = ["敏", "感", "词", "六", "四", "t", "恤", "ass", "kill", "yourself", " ", "k", ".", "。",
         "\u200b", " " * (GAP_MAX + 1), "\u200b" * (GAP_MAX + 1), "s", "av", "女优", "\n", "а", "ﬁ",
         "㍿", "　", "*"]  # fmt: skip
texts = st.lists(st.sampled_from(PARTS), max_size=14).map("".join) | st.text(max_size=30)
cuts = st.lists(st.integers(1, 6), max_size=30)


@pytest.fixture(scope="module")
def tangle(folding: Folding) -> Terms:
    """Terms that begin, end and lie within each other."""
    blocked = ["四t恤六", "ass k*", "s ass", "词感词感"]
    masked = ["敏感词", "ass", "kill yourself", "av女优", "t恤", "词敏感", "词词", "fi", "株式"]
    flagged = ["感", "kill"]
    return Terms(
        [term(t, Action.BLOCK) for t in blocked] + [term(t) for t in masked]
        + [term(t, Action.FLAG) for t in flagged],
        folding,
    )  # fmt: skip


def cut(text: str, sizes: Sequence[int]) -> list[str]:
    out, at = [], 0
    for size in sizes:
        out.append(text[at : at + size])
        at += size
    return [*out, text[at:]]


@given(text=texts, sizes=cuts)
@settings(max_examples=600)
def test_no_cutting_changes_what_leaves(tangle: Terms, text: str, sizes: list[int]) -> None:
    whole = passed(tangle, [text])
    assert passed(tangle, cut(text, sizes)) == whole
    assert passed(tangle, text) == whole


@given(text=texts, is_inside=st.booleans(), is_last=st.booleans())
@settings(max_examples=600)
def test_the_quick_look_agrees_with_the_careful_one(
    tangle: Terms, text: str, is_inside: bool, is_last: bool
) -> None:
    quick = tangle.quick(text, is_inside, is_last)
    careful = tangle.careful(text, is_inside, is_last)
    if quick >= 0:
        assert (careful.matches, careful.hold) == ((), quick)


@given(text=st.text(st.sampled_from("敏感词四t恤 \u200b。kil"), max_size=200))
def test_what_is_held_back_is_bounded(tangle: Terms, text: str) -> None:
    flow = TermFilter(tangle, LISTS, "*", lambda _: None)
    for char in text:
        flow.feed(char)
        assert flow.held <= HOLD_CHARS_MAX


@given(text=st.text(st.characters(), max_size=60))
def test_no_text_makes_a_search_fail(tangle: Terms, text: str) -> None:
    out, is_blocked, _ = passed(tangle, text)
    assert is_blocked or len(out) == len(text)


@given(text=st.text(st.characters(), max_size=40))
def test_folds_work_character_by_character(folding: Folding, text: str) -> None:
    for table in (folding.words, folding.compact, folding.flat):
        assert text.translate(table) == "".join(char.translate(table) for char in text)
    assert len(text.translate(folding.flat)) == len(text)


def test_a_list_says_what_holds_for_its_terms() -> None:
    text = (
        "# comment\n#! category: gambling\n#! action: block\n#! sensitivity: secret\n\n赌博网站\n"
        "casino bonus\tflag\n代号\tmask\tnames\n"
    )
    secret = Sensitivity.SECRET
    assert termfile.read("list", text) == [
        Term("赌博网站", "list", "gambling", Action.BLOCK, secret),
        Term("casino bonus", "list", "gambling", Action.FLAG, secret),
        Term("代号", "list", "names", Action.MASK, secret),
    ]


FAULTS: dict[str, tuple[str, str]] = {
    "no action": ("term", "line 1: say '#! action"),
    "unknown action": ("#! action: delete", "line 1: one of flag, mask, block"),
    "unknown level": ("#! sensitivity: high", "line 1: one of public"),
    "unknown key": ("#! colour: red", "line 1: '#!' is followed by"),
    "unknown action of a term": ("#! action: flag\nx\tburn", "line 2: one of flag"),
    "too many columns": ("#! action: flag\na\tflag\tb\tc", "line 2: more than"),
    "empty category": ("#! category:", "line 1"),
}


@pytest.mark.parametrize(("text", "said"), FAULTS.values(), ids=list(FAULTS))
def test_a_faulty_list_is_refused_with_its_line(text: str, said: str) -> None:
    with pytest.raises(termfile.ListFault) as caught:
        termfile.read("list", text)
    assert said in str(caught.value)


def test_a_list_beyond_the_bound_is_refused() -> None:
    text = "#! action: flag\n" + "x\n" * (termfile.TERMS_MAX + 1)
    with pytest.raises(termfile.ListFault, match="more than 200000"):
        termfile.read("list", text)
