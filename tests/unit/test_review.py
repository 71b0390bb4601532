"""What is sampled, who may judge what, and that a sealed text opens only where it belongs."""

from __future__ import annotations

import os
from itertools import count
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.codecs.reading import spoken
from serving.errors import CallerError
from serving.review import sampling
from serving.review.sampling import Rates
from serving.review.seal import Seal, SealFault, read_keys
from serving.review.settings import ReviewSettings
from serving.review.values import NOTES_MAX, Case, Kind, State, Text, appealed, judged
from serving.settings import SettingsError

SHARE = st.floats(0, 1)
IDS = st.integers(0, 2**128 - 1).map(lambda n: f"{n:032x}")
CASE = Case("a" * 32, Kind.SAMPLE, 1, "acme")
TEXT = Text(b'[{"role":"user"}]', b"data: {}", is_cut=True)


@given(SHARE, SHARE, IDS)
def test_nothing_is_kept_that_was_not_recorded_and_flags_only_add(
    any_: float, flagged: float, request_id: str
) -> None:
    rates = Rates(any_, max(any_, flagged))
    plain = sampling.why(rates, request_id, is_flagged=False)
    marked = sampling.why(rates, request_id, is_flagged=True)
    assert bool(plain or marked) <= sampling.may_keep(rates, request_id)
    assert bool(plain) <= bool(marked)
    assert bool(marked) == sampling.may_keep(rates, request_id)


def test_a_rate_keeps_about_its_share_and_one_keeps_all() -> None:
    ids = [f"{n * 0x9E3779B97F4A7C15 % 2**64:032x}" for n in range(10_000)]
    kept = sum(sampling.may_keep(Rates(0.05, 0.05), i) for i in ids)
    assert 400 < kept < 600
    assert all(sampling.may_keep(Rates(1.0, 1.0), i) for i in ids)
    assert not any(sampling.may_keep(Rates(), i) for i in ids)


def test_a_customer_has_its_forwarders_rates_unless_it_is_named() -> None:
    settings = ReviewSettings.model_validate(
        {"tenants": {"hub": {"rate": 0.5}, "hub/shy": {"rate": 0}}}
    )
    assert settings.rates("hub/any") == Rates(0.5, 0.5)
    assert settings.rates("hub/shy") == settings.rates("other") == Rates()
    assert settings.keeps
    assert not ReviewSettings().keeps


def test_an_appeal_is_judged_by_another_pair_of_eyes() -> None:
    case = judged(CASE, State.VIOLATION, "ann", 2, "names a person")
    case = appealed(case, "desk", 3, "it is a public figure")
    with pytest.raises(CallerError, match="somebody who has not judged"):
        judged(case, State.FINE, "ann", 4)
    case = judged(case, State.FINE, "bob", 5)
    assert [n.state for n in case.notes] == [State.VIOLATION, State.APPEALED, State.FINE]
    assert (case.state, case.revision) == (State.FINE, 3)


def test_only_what_was_judged_can_be_contested() -> None:
    with pytest.raises(CallerError, match="only what was judged"):
        appealed(CASE, "desk", 3, "no")


@pytest.mark.parametrize("state", [State.OPEN, State.APPEALED])
def test_no_state_of_ours_passes_for_a_verdict(state: State) -> None:
    with pytest.raises(CallerError, match="verdict"):
        judged(CASE, state, "ann", 2)


def test_a_complaint_is_no_false_alarm() -> None:
    with pytest.raises(CallerError, match="without ground"):
        judged(Case("c", Kind.COMPLAINT, 1, "acme"), State.FALSE_ALARM, "ann", 2)


def test_a_case_takes_a_bounded_number_of_steps() -> None:
    case = CASE
    for number in range(NOTES_MAX):
        case = judged(case, State.FINE, f"r{number}", number)
    with pytest.raises(CallerError, match="at most"):
        judged(case, State.FINE, "one more", 1)


def seal(*keys: bytes) -> Seal:
    nonces = count()
    return Seal(list(keys), lambda size: next(nonces).to_bytes(size, "big"))


def test_a_sealed_text_opens_for_its_case_and_no_other() -> None:
    one = seal(b"k" * 32)
    sealed = one.close("case-1", TEXT)
    assert b"role" not in sealed
    assert one.open("case-1", sealed) == TEXT
    with pytest.raises(SealFault, match="altered"):
        one.open("case-2", sealed)


@given(st.integers(min_value=0), st.integers(1, 255))
def test_an_altered_text_does_not_open(position: int, change: int) -> None:
    one = seal(b"k" * 32)
    sealed = bytearray(one.close("case", TEXT))
    sealed[position % len(sealed)] ^= change
    with pytest.raises(SealFault):
        one.open("case", bytes(sealed))


def test_a_new_key_seals_and_the_old_one_still_opens() -> None:
    old = seal(b"a" * 32).close("case", TEXT)
    both = seal(b"b" * 32, b"a" * 32)
    assert both.open("case", old) == TEXT
    with pytest.raises(SealFault, match="no key"):
        seal(b"a" * 32).open("case", both.close("case", TEXT))


@pytest.mark.parametrize("text", ["", "xyz", "ab" * 31, "ab" * 32 + "\nshort", "é" * 64])
def test_a_key_file_that_holds_no_keys_is_refused_without_its_text(
    tmp_path: Path, text: str
) -> None:
    path = tmp_path / "key"
    path.write_text(text, "utf-8")
    with pytest.raises(SettingsError, match="64 hexadecimal digits") as fault:
        read_keys(path)
    assert not text or text.split()[0] not in str(fault.value)


def test_a_key_file_holds_the_newest_key_first(tmp_path: Path) -> None:
    keys = [os.urandom(32), os.urandom(32)]
    (tmp_path / "key").write_text("\n".join(k.hex() for k in keys))
    assert read_keys(tmp_path / "key") == keys
    with pytest.raises(SettingsError, match="cannot read"):
        read_keys(tmp_path / "none")


STREAM = (
    b'data: {"choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}\n\n'
    b'data: {"choices":[{"index":0,"delta":{"reasoning_content":"hm"}}]}\n\n'
    b'data: {"choices":[{"index":0,"delta":{"content":"\xe4\xbd\xa0"}},'
    b'{"index":1,"delta":{"content":"B"}}]}\n\n'
    b'data: {"choices":[{"index":0,"delta":{"content":"\xe5\xa5\xbd","tool_calls":'
    b'[{"index":0,"function":{"name":"f","arguments":"{\\"a\\""}}]}}]}\n\n'
    b'data: {"choices":[{"index":0,"delta":{"tool_calls":'
    b'[{"index":0,"function":{"arguments":":1}"}}]},"finish_reason":"tool_calls"}]}\n\n'
    b"data: [DONE]\n\n"
)


def test_a_stream_is_read_as_what_it_said() -> None:
    first, second = spoken(STREAM)
    assert first == {
        "content": "你好", "reasoning": "hm", "finish": "tool_calls",
        "calls": [{"name": "f", "arguments": '{"a":1}'}],
    }  # fmt: skip
    assert second["content"] == "B"


@given(st.integers(0, len(STREAM)))
def test_a_stream_cut_anywhere_is_read_as_far_as_it_goes(cut: int) -> None:
    for choice in spoken(STREAM[:cut]):
        assert "你好B".find(choice["content"]) >= 0 or choice["content"] == ""


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"choices":[{"index":0,"message":{"content":"hi"},"finish_reason":"stop"}]}', "hi"),
        (b'{"choices":[{"index":0,"text":"hi"}]}', "hi"),
        (b'{"choices":[{"index":"x","delta":7},3,{"message":{"content":"hi"}}]}', "hi"),
    ],
)
def test_a_plain_answer_is_read_whatever_else_it_holds(body: bytes, said: str) -> None:
    assert spoken(body)[0]["content"] == said


def test_an_error_is_read_as_one() -> None:
    assert spoken(b'{"error":{"code":"x"}}') == [{"error": {"code": "x"}}]
    assert spoken(b"data: nonsense\n\n") == spoken(b"") == []


@given(st.binary(max_size=300))
def test_any_bytes_are_read_without_a_fault(data: bytes) -> None:
    spoken(data)
    spoken(b"data: " + data)
