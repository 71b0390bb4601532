"""What the glances clear of personal data holds nothing for its rules: cases of the corpora and
generated text, read both ways."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.guard import corpus
from benchmarks.guard.samples import CHINESE, ENGLISH
from serving.guard import personal
from serving.guard.folding import Folding

RARE = ["é", "😀", "電話", "\u200b", "\ud800", "Ｋ", "１３８"]
SAID = [
    "my name is ", "Dear ", "my boss, ", "Mr. ", "name: ", "this is ", "user@", "passport ",
    "密码：", "password is ", "护照", "联系人：", "我叫", "客户：", "老公", "被告", "名字是",
    "本人", "住在", "家在", "住", "地址：", "电话：", "call ", "call me ", "P.O. Box ",
    "my ex—wife, ", "her sister's name is ", '"name": "', "regards，\n", "病人（", "房东“",
]  # fmt: skip
MEANT = [
    "Trevor Hughes", "O'Neil", "van Gogh", "Anne—Marie Lund", "张伟", "欧阳锋", "欧阳女士",
    "王小明", "阿卜杜拉·买买提", "北京市朝阳区建国路88号", "上海市", "浙江省", "78号", "3-2号",
    "杭州市西湖区文三路十二号", "12 Main St", "7B North 5th Ave", "a@b.com", "example.com",
    "13800138000", "138—0013—8000", "(415) 555-2671", "（010）62345678", "4111 1111 1111 1111",
    "110105194912310021", "11010519491231002X", "GB29 NWBK 6016 1331 9268 19", "E12345678",
    "s3cret！pw", "hunter2（x）", "123 Springfield", "AKIA0123456789ABCDEF",
    "sk—abcdefghijklmnopqrstuv", "eyJhbGciOiJI.eyJzdWIiOiIx.abcdefgh",
    "-----BEGIN PRIVATE KEY-----",
]  # fmt: skip
BEHIND = ["", "，", "。", "最近", "的", "先生", " ", ", ", "x", "1", "号楼", "老师", "\n", "："]
said = st.tuples(st.sampled_from(SAID), st.sampled_from(MEANT), st.sampled_from(BEHIND)).map(
    "".join
)
facts = st.lists(
    said | said | st.sampled_from([*SAID, *MEANT, *BEHIND, CHINESE, " 1949-10-01 "]), max_size=5
).map("".join)
whole = facts | st.tuples(facts, st.sampled_from(RARE) | st.text(max_size=4), facts).map("".join)


@given(text=whole)
@settings(max_examples=400)
def test_what_is_cleared_of_personal_data_holds_none(folding: Folding, text: str) -> None:
    assert personal.find(text, folding) == personal.read(text, folding)


CASES = [case.text for name in corpus.PERSONAL for case in corpus.read(name)]


@pytest.mark.parametrize("before", ["", "x", "，", f"{CHINESE}{ENGLISH}"])
def test_what_the_corpora_hold_is_found_as_without_a_glance(folding: Folding, before: str) -> None:
    for text in CASES:
        whole = f"{before}{text}"
        assert personal.find(whole, folding) == personal.read(whole, folding)


@given(one=st.sampled_from(CASES), other=st.sampled_from(CASES), cut=st.integers(0, 60))
@settings(max_examples=300)
def test_what_halves_of_cases_hold_is_found_as_without_a_glance(
    folding: Folding, one: str, other: str, cut: int
) -> None:
    text = one[:cut] + other[cut:]
    assert personal.find(text, folding) == personal.read(text, folding)


def test_everyday_texts_hold_nothing_of_which_a_rule_would_have_to_read(folding: Folding) -> None:
    for text in (CHINESE, ENGLISH, f"{CHINESE}{ENGLISH}" * 20):
        assert personal.due(text, folding) is None
