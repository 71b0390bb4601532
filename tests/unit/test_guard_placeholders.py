"""Placeholders: unguessable, restored exactly, never in part, whatever the cut."""

from __future__ import annotations

import re
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.guard.placeholders import (
    HOLD_CHARS_MAX,
    LETTERS,
    NONCE_LETTERS,
    VALUES_MAX,
    Piece,
    Restorer,
    Vault,
    nonce,
)
from serving.guard.values import Kind, Personal

SECRET = b"s" * 32
NONCE = nonce(SECRET, "request")


def vault(*values: tuple[Kind, str]) -> Vault:
    made = Vault(NONCE)
    for kind, value in values:
        made.placeholder(kind, value)
    return made


FULL = vault((Kind.PHONE, "13800138000"), (Kind.NAME, "张三"), (Kind.EMAIL, "a@b.cn"))
KNOWN = list(FULL.values)


def restored(pieces: Iterable[str], made: Vault = FULL) -> tuple[str, int, int]:
    """(text, restored, mangled)."""
    flow = Restorer(made)
    out = [found for part in pieces for found in flow.feed(part)]
    out += flow.feed("", is_last=True)
    kinds = [kind for _, kind in out]
    text = "".join(piece for piece, _ in out)
    return text, kinds.count(Piece.VALUE), kinds.count(Piece.MANGLED)


def test_one_request_has_one_nonce_and_another_another() -> None:
    assert nonce(SECRET, "request") == NONCE
    others = {nonce(SECRET, "r2"), nonce(b"t" * 32, "request"), nonce(SECRET, "request", 1)}
    assert len(others | {NONCE}) == 4
    assert re.fullmatch(f"[{LETTERS}]{{{NONCE_LETTERS}}}", NONCE)


def test_a_value_has_one_placeholder_and_says_its_kind() -> None:
    made = vault()
    first = made.placeholder(Kind.PHONE, "138")
    assert first == f"MASKED_PHONE_1_{NONCE}"
    assert made.placeholder(Kind.NAME, "138") != first
    assert made.placeholder(Kind.PHONE, "138") == first


def test_masking_again_gives_the_same_placeholders() -> None:
    text, found = "call 138 or 139", [Personal(Kind.PHONE, 5, 8), Personal(Kind.PHONE, 12, 15)]
    once, twice = vault(), vault()
    assert once.mask(text, found) == twice.mask(text, found)
    assert once.mask(text, found) == twice.mask(text, found)


def test_a_vault_does_not_show_what_it_holds() -> None:
    assert "138" not in repr(FULL)
    assert "张三" not in str(FULL)


def test_too_many_values_get_no_placeholder() -> None:
    made = vault(*((Kind.PHONE, str(n)) for n in range(VALUES_MAX)))
    assert made.placeholder(Kind.PHONE, "one more") is None
    assert made.mask("one more", [Personal(Kind.PHONE, 0, 8)]) == "one more"
    last = f"MASKED_PHONE_{VALUES_MAX}_{NONCE}"
    assert restored([last], made)[0] == str(VALUES_MAX - 1)


def test_an_exact_placeholder_is_restored_wherever_it_stands() -> None:
    text = f"他的电话是{KNOWN[0]}。x{KNOWN[1]}s"
    assert restored([text]) == ("他的电话是13800138000。x张三s", 2, 0)


MANGLED = {
    "lower case": KNOWN[0].lower(),
    "spaces": KNOWN[0].replace("_", " "),
    "escaped": KNOWN[0].replace("_", "\\_"),
    "dashes": KNOWN[0].replace("_", "-"),
    "cut in the nonce": KNOWN[0][:-3],
    "cut before the nonce": "MASKED_PHONE_1",
    "another number": KNOWN[0].replace("_1_", "_7_"),
    "another kind": KNOWN[0].replace("PHONE", "NAME"),
    "another nonce": "MASKED_PHONE_1_" + "b" * NONCE_LETTERS,
}


@pytest.mark.parametrize("text", MANGLED.values(), ids=list(MANGLED))
def test_a_mangled_placeholder_stays_masked_and_is_counted(text: str) -> None:
    for pieces in ([text], list(text), [f"before {text}", " after"]):
        out, back, mangled = restored(pieces)
        assert text in out
        assert "13800138000" not in out
        assert (back, mangled) == (0, 1)


def test_what_is_known_is_masked_wherever_it_stands_later() -> None:
    assert FULL.again("张三说：打13800138000，别打138001380001") == (
        f"{KNOWN[1]}说：打{KNOWN[0]}，别打138001380001"
    )
    assert FULL.again(KNOWN[0]) == KNOWN[0]
    everyday = vault((Kind.NAME, "Will"), (Kind.NAME, "Will Smith"))
    assert everyday.again("Will Will Smith come?") == f"Will MASKED_NAME_2_{NONCE} come?"


FRAGMENTS = [*KNOWN, *(known[:size] for known in KNOWN for size in range(3, 28, 4)), "MASKED",
             "masked_phone_1_", " ", "_", "-", "1", "M", "MA", "x", "PHONE", "b", "12345", "一",
             *MANGLED.values()]  # fmt: skip
texts = st.lists(st.sampled_from(FRAGMENTS), max_size=8).map("".join) | st.text(max_size=40)
cuts = st.lists(st.integers(1, 9), max_size=60)


def cut(text: str, sizes: Iterable[int]) -> list[str]:
    out, at = [], 0
    for size in sizes:
        out.append(text[at : at + size])
        at += size
    return [*out, text[at:]]


@given(text=texts, sizes=cuts)
def test_no_cutting_changes_what_is_restored(text: str, sizes: list[int]) -> None:
    whole = restored([text])
    assert restored(cut(text, sizes)) == whole
    assert restored(text) == whole


@given(text=texts, sizes=cuts)
def test_no_part_of_a_placeholder_leaves_before_the_rest(text: str, sizes: list[int]) -> None:
    inside = [
        range(found.start() + 1, found.end())
        for known in KNOWN
        for found in re.finditer(known, text)
    ]
    lengths = {value: len(known) for known, value in FULL.values.items()}
    flow, read = Restorer(FULL), 0
    for piece in cut(text, sizes):
        for part, kind in flow.feed(piece):
            read += lengths[part] if kind is Piece.VALUE else len(part)
        assert flow.held <= HOLD_CHARS_MAX
        assert not any(read in places for places in inside)


values = st.text(st.sampled_from("张三李四1380 ab@."), min_size=1, max_size=8)


@given(words=st.lists(st.tuples(st.text(st.sampled_from("我的是，. M_"), max_size=5), values),
                      max_size=6), sizes=cuts)  # fmt: skip
def test_masking_then_restoring_is_no_change(
    words: list[tuple[str, str]], sizes: list[int]
) -> None:
    text, found = "", []
    for before, value in words:
        text += before
        found.append(Personal(Kind.NAME, len(text), len(text) + len(value)))
        text += value
    made = vault()
    masked = made.mask(text, found)
    assert restored(cut(masked, sizes), made) == (text, len(words), 0)
