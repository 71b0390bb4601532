"""Personal data by rule: checksums, cues, edges, and the corpus."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.guard import corpus
from serving.guard import personal
from serving.guard.folding import Folding
from serving.guard.personal import checks
from serving.guard.values import Kind

IDENTITY = "11010519491231002X"


def found(folding: Folding, text: str) -> list[tuple[str, str]]:
    return [(kind.name, text[a:b]) for kind, a, b in personal.find(text, folding)]


IDENTITIES = {
    "a good one": (IDENTITY, True),
    "small x": (IDENTITY.lower(), True),
    "wrong check digit": ("110105194912310021", False),
    "no such province": ("990105194912310028", False),
    "no such day": ("110105194902310026", False),
    "born in 1849": ("110105184912310020", False),
    "too short": (IDENTITY[:-1], False),
}


@pytest.mark.parametrize(("text", "is_one"), IDENTITIES.values(), ids=list(IDENTITIES))
def test_an_identity_number_has_province_date_and_check(text: str, is_one: bool) -> None:
    assert checks.is_identity(text) is is_one


@given(st.integers(0, 9999), st.integers(1, 9))
def test_one_wrong_digit_is_never_an_identity_number(order: int, shift: int) -> None:
    good = next(
        body + check
        for check in "0123456789X"
        if checks.is_identity((body := f"110105199{order % 10}0101{order // 10:03d}") + check)
    )
    assert not checks.is_identity(good[:16] + str((int(good[16]) + shift) % 10) + good[17])


def test_old_identity_numbers_are_dates_in_provinces() -> None:
    assert checks.is_old_identity("110105491231002")
    assert not checks.is_old_identity("110105491331002")
    assert not checks.is_old_identity("990105491231002")


@pytest.mark.parametrize("number", ["4111111111111111", "5555555555554444", "378282246310005",
                                    "3530111333300000", "6011111111111117", "30569309025904",
                                    "6222021234567890128"])  # fmt: skip
def test_a_card_has_an_issuer_a_length_and_a_check(number: str) -> None:
    assert checks.is_card(number)
    assert not checks.is_card(number[:-1] + str((int(number[-1]) + 1) % 10))
    assert not checks.is_card("1" + number[1:])


def test_ibans_social_security_and_phones_are_checked() -> None:
    assert checks.is_iban("DE89370400440532013000")
    assert not checks.is_iban("DE89370400440532013001")
    assert not checks.is_iban("XX89370400440532013000")
    assert checks.is_ssn("123456789")
    for void in ("000456789", "666456789", "900456789", "123006789", "123450000", "078051120"):
        assert not checks.is_ssn(void)
    assert checks.is_mobile("13800138000")
    assert not checks.is_mobile("12800138000")
    assert checks.is_american("4155552671")
    assert not checks.is_american("1155552671")


CASES: dict[str, tuple[str, list[tuple[str, str]]]] = {
    "identity": (f"身份证{IDENTITY}。", [("IDENTITY", IDENTITY)]),
    "identity in groups": ("110105 19491231 002X", [("IDENTITY", "110105 19491231 002X")]),
    "identity within letters": (f"A{IDENTITY}", []),
    "old identity": ("旧证号110105491231002", [("OLD_IDENTITY", "110105491231002")]),
    "two numbers side by side": (
        "13800138000 13900139000", [("PHONE", "13800138000"), ("PHONE", "13900139000")]),
    "number with country": ("+86 138-0013-8000", [("PHONE", "+86 138-0013-8000")]),
    "0086": ("008613800138000", [("PHONE", "008613800138000")]),
    "full width": ("电话１３８００１３８０００", [("PHONE", "１３８００１３８０００")]),
    "invisible between": ("138\u200b0013\u200b8000", [("PHONE", "138\u200b0013\u200b8000")]),
    "an amount": ("收入13800138000元", []),
    "an order": ("订单号13800138000", []),
    "a decimal": ("0.13800138000", []),
    "a longer number": ("1380013800013800", []),
    "landline": ("电话010-62785001", [("PHONE", "010-62785001")]),
    "hotline": ("热线400-820-8820", []),
    "toll free": ("800-555-0199", []),
    "toll free with a word": ("call 800-555-0199", [("PHONE", "800-555-0199")]),
    "card in groups": ("4111 1111 1111 1111", [("BANK_CARD", "4111 1111 1111 1111")]),
    "an order like a card": ("order 4111111111111111", []),
    "part of a group of five": ("4111 1111 1111 1112 1111", []),
    "social security": ("123-45-6789", [("SSN", "123-45-6789")]),
    "nine digits": ("123456789", []),
    "nine digits with a word": ("SSN 123456789", [("SSN", "123456789")]),
    "international": ("+44 20 7946 0958", [("PHONE", "+44 20 7946 0958")]),
    "no country": ("+999999999999999999", []),
    "passport digits": ("passport 530123456", [("PASSPORT", "530123456")]),
    "passport far away": ("passport " + "x" * 40 + " E12345678", []),
    "mail": ("写信到a.b@mail.example.cn。", [("EMAIL", "a.b@mail.example.cn")]),
    "picture": ("logo@2x.png", []),
    "at nobody": ("@foo.com and x@", []),
    "key": ("AKIAIOSFODNN7EXAMPLE", [("CREDENTIAL", "AKIAIOSFODNN7EXAMPLE")]),
    "password": ("密码：Ab9!xyz，", [("CREDENTIAL", "Ab9!xyz")]),
    "a word for a password": ("password: required", []),
    "private key": (
        "-----BEGIN PRIVATE KEY-----\nMIIB\n-----END PRIVATE KEY-----",
        [("CREDENTIAL", "-----BEGIN PRIVATE KEY-----\nMIIB\n-----END PRIVATE KEY-----")]),
    "name": ("联系人王芳电话", [("NAME", "王芳")]),
    "compound surname": ("姓名：欧阳锋，", [("NAME", "欧阳锋")]),
    "name of two before more": ("我叫张三今年", [("NAME", "张三")]),
    "minority name": ("申请人：古丽·买买提，", [("NAME", "古丽·买买提")]),
    "title": ("联系人王先生", []),
    "verb like a surname": ("我叫车去机场", []),
    "english name": ("my name is John O'Neil.", [("NAME", "John O'Neil")]),
    "not a name": ("Dear Customer,", []),
    "one word is too few": ("I am Groot", []),
    "address": ("住在北京市海淀区中关村大街27号，", [("ADDRESS", "北京市海淀区中关村大街27号")]),
    "a street is no address": ("人民路100号", []),
    "address without number": (
        "地址：河南省信阳市光山县文殊乡陈棚村三组",
        [("ADDRESS", "河南省信阳市光山县文殊乡陈棚村三组")]),
    "english address": ("at 742 Evergreen Terrace.", [("ADDRESS", "742 Evergreen Terrace")]),
    "post box": ("P.O. Box 1234", [("ADDRESS", "P.O. Box 1234")]),
    "traditional": ("聯繫人：陳志明", [("NAME", "陳志明")]),
    "json": ('{"姓名": "张三", "name": "John Smith"}', [("NAME", "张三"), ("NAME", "John Smith")]),
}  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), CASES.values(), ids=list(CASES))
def test_personal_data_is_found_and_the_rest_is_left(
    folding: Folding, text: str, expected: list[tuple[str, str]]
) -> None:
    assert found(folding, text) == expected


def test_overlapping_findings_become_one(folding: Folding) -> None:
    text = f"住址：北京市海淀区中关村大街27号13800138000，身份证{IDENTITY}"
    spans = personal.find(text, folding)
    assert all(a.end <= b.start for a, b in pairwise(spans))
    assert spans[-1].kind is Kind.IDENTITY


def test_long_texts_are_read_to_the_end(folding: Folding) -> None:
    filler = "这里什么也没有，" * 9000
    text = f"13800138000，{filler}联系人王芳，{filler}{IDENTITY}"
    assert [value for _, value in found(folding, text)] == ["13800138000", "王芳", IDENTITY]


@pytest.mark.parametrize("shift", range(0, 40, 3))
def test_the_edge_of_a_step_hides_nothing(folding: Folding, shift: int) -> None:
    text = "，" * (32_768 - shift) + f"电话{IDENTITY}，" + "。" * 400
    assert found(folding, text) == [("IDENTITY", IDENTITY)]


@given(text=st.text(st.characters(), max_size=60)
       | st.text(st.sampled_from("0123456789 -.+()@Xx号路市区姓名张三"), max_size=60))  # fmt: skip
def test_no_text_makes_the_rules_fail(folding: Folding, text: str) -> None:
    spans = personal.find(text, folding)
    assert all(0 <= s.start < s.end <= len(text) for s in spans)


NUMBERS = ("IDCARD", "BANKCARD", "EMAIL", "SSN", "IBAN", "PASSPORT", "PHONE")


def test_the_corpus_holds_what_the_page_says(folding: Folding) -> None:
    """Numbers with a check are all found; names, by rule, are not."""
    for name in ("personal.zh", "personal.en"):
        result = corpus.measure(name, corpus.read(name), corpus.personal_finder(folding))
        for score in result.scores:
            if score.kind in NUMBERS:
                assert score.found == score.expected, score
        names = next(score for score in result.scores if score.kind == "NAME")
        assert names.found >= 0.85 * names.expected
        assert result.clean_alarmed <= 0.05 * result.clean


def test_the_corpus_of_terms_holds_what_the_page_says(folding: Folding) -> None:
    for name in ("terms.zh", "terms.en"):
        result = corpus.measure(name, corpus.read(name), corpus.term_finder(folding))
        (score,) = result.scores
        assert score.found >= 0.98 * score.expected
        assert result.clean_alarmed <= 0.13 * result.clean


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("我老公赵伟最近总是失眠", "赵伟"), ("我表哥于洋借了钱不还", "于洋"),
        ("女朋友叫欧阳娜娜，怎么办", "欧阳娜"), ("My daughter Chloe is afraid", "Chloe"),
        ("My boss, Trevor Hughes, keeps texting", "Trevor Hughes"),
        ("Our neighbour Edith Crane sings", "Edith Crane"),
    ],
)  # fmt: skip
def test_a_name_behind_a_relative_is_found_in_talk(folding: Folding, text: str, name: str) -> None:
    assert ("NAME", name) in [(kind, told[: len(name)]) for kind, told in found(folding, text)]


@pytest.mark.parametrize(
    "text",
    ["我男朋友从来不做饭", "邻居马上就要搬走了", "我儿子成绩不好", "我老婆高兴得很",
     "My boss is late", "My husband never listens", "My colleague excels", "My best friend and I"],
)  # fmt: skip
def test_what_stands_behind_a_relative_and_is_no_name_is_left(folding: Folding, text: str) -> None:
    assert found(folding, text) == []
