"""What a caller may say of its own call: tighter, never looser, and never for somebody else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.api.hints import MS_MAX, SESSION_BYTES_MAX, Hints, read
from serving.errors import TABLE, CallerError
from serving.records import LatencyClass, Residency, ResidencyLevel
from serving.settings import Gateway

CLASSES = Gateway().classes
LIVE, INTERACTIVE, PATIENT, BATCH = (
    LatencyClass.LIVE, LatencyClass.INTERACTIVE, LatencyClass.PATIENT, LatencyClass.BATCH,
)  # fmt: skip


def hinted(make, own=INTERACTIVE, **headers):
    """The hints of a call with these `x-ballast-*` headers."""
    named = {f"x-ballast-{k.replace('_', '-')}".encode(): v for k, v in headers.items()}
    return read(named, make.caller(latency_class=own), CLASSES)


def refused(make, **headers):
    with pytest.raises(CallerError) as caught:
        hinted(make, **headers)
    return caught.value


def terms(latency_class):
    return CLASSES[latency_class].first_token_s, CLASSES[latency_class].complete_s


@pytest.mark.parametrize("own", LatencyClass)
def test_a_call_that_says_nothing_has_its_key_s_terms(make, own):
    plain = {b"content-type": b"application/json", b"x-request-id": b"1", b"x-ballastic": b"?"}
    for headers in ({}, plain):
        assert read(headers, make.caller(latency_class=own), CLASSES) == Hints(own, *terms(own))


def test_a_header_that_is_no_hint_changes_nothing(make):
    assert hinted(make, hop=b"a,b", unheard_of=b"1") == Hints(INTERACTIVE, *terms(INTERACTIVE))


# -- class

ASKED = [
    (INTERACTIVE, b"live", LIVE), (PATIENT, b"live", LIVE), (PATIENT, b"interactive", INTERACTIVE),
    (BATCH, b"patient", PATIENT), (INTERACTIVE, b"Live", LIVE),
    (LIVE, b"interactive", LIVE), (LIVE, b"batch", LIVE), (INTERACTIVE, b"patient", INTERACTIVE),
    (INTERACTIVE, b"batch", INTERACTIVE), (PATIENT, b"patient", PATIENT),
]  # fmt: skip


@pytest.mark.parametrize(("own", "asked", "expected"), ASKED)
def test_a_class_may_be_tightened_and_never_loosened(make, own, asked, expected):
    assert hinted(make, own, **{"class": asked}) == Hints(expected, *terms(expected))


@pytest.mark.parametrize("value", [b"", b"fast", b"live,batch", b" live", b"\xff", b"LatencyClass"])
def test_an_unknown_class_is_refused_and_the_known_ones_are_named(make, value):
    error = refused(make, **{"class": value})
    assert error.code == "invalid_value"
    assert all(name in error.message for name in LatencyClass)


# -- deadlines


@pytest.mark.parametrize(
    ("headers", "first_s", "complete_s"),
    [
        ({"ttft_ms": b"200"}, 0.2, 120.0),
        ({"timeout_ms": b"1500"}, 5.0, 1.5),
        ({"ttft_ms": b"1", "timeout_ms": b"1"}, 0.001, 0.001),
        ({"ttft_ms": b"5001"}, 5.0, 120.0),
        ({"timeout_ms": b"86400000"}, 5.0, 120.0),
        ({"class": b"live", "ttft_ms": b"5000", "timeout_ms": b"6000"}, 1.5, 5.0),
        ({"class": b"batch", "ttft_ms": b"4000"}, 4.0, 120.0),
        ({"ttft_ms": b"007"}, 0.007, 120.0),
    ],
)
def test_deadlines_shorten_and_never_lengthen(make, headers, first_s, complete_s):
    hints = hinted(make, **headers)
    assert (hints.first_token_s, hints.complete_s) == (first_s, complete_s)


MILLISECONDS = [
    b"", b"0", b"000", b"-1", b"+1", b"1.5", b"1e3", b"1_000", b" 5", b"5 ", b"abc", b"0x10",
    b"5,6", b"\xb2", b"%d" % (MS_MAX + 1), b"9" * 12, b"9" * 13, b"9" * 5000, b"inf", b"nan",
]  # fmt: skip


@pytest.mark.parametrize("value", MILLISECONDS, ids=lambda v: repr(v[:20]))
@pytest.mark.parametrize("name", ["ttft_ms", "timeout_ms"])
def test_what_are_no_milliseconds_is_refused_by_name(make, name, value):
    error = refused(make, **{name: value})
    assert error.code == "invalid_value"
    assert f"x-ballast-{name.replace('_', '-')}" in error.message


# -- residency

PREMISES, MAINLAND, ANYWHERE = (
    Residency(level)
    for level in (ResidencyLevel.PREMISES, ResidencyLevel.MAINLAND, ResidencyLevel.ANYWHERE)
)
RULES = {
    b"premises": PREMISES, b"Premises": PREMISES, b"mainland": MAINLAND, b"anywhere": ANYWHERE,
    b"cn": Residency(ResidencyLevel.NAMED, frozenset({"cn"})),
    b"CN, sg": Residency(ResidencyLevel.NAMED, frozenset({"cn", "sg"})),
    b"us,us": Residency(ResidencyLevel.NAMED, frozenset({"us"})),
}  # fmt: skip


@pytest.mark.parametrize(("value", "rule"), RULES.items())
def test_a_residency_is_a_level_or_countries(make, value, rule):
    assert hinted(make, residency=value).residency == rule


@pytest.mark.parametrize(
    "value",
    [b"", b",", b"cn,", b"china", b"c1", b"premises,cn", b"moon", b"\xe9\xe9", b"cn;sg", b"cn sg",
     b"premises "],
)  # fmt: skip
def test_a_residency_that_is_neither_is_refused(make, value):
    error = refused(make, residency=value)
    assert error.code == "invalid_value"
    assert "x-ballast-residency" in error.message


def test_without_the_header_the_key_s_rule_stays(make):
    assert hinted(make, session=b"s").residency is None


# -- session


@pytest.mark.parametrize(
    ("value", "session"),
    [(b"", ""), (b"abc", "abc"), (b"\xff\x00", "\xff\x00"),
     (b"x" * (SESSION_BYTES_MAX + 9), "x" * SESSION_BYTES_MAX)],
    ids=["empty", "plain", "any bytes", "too long"],
)  # fmt: skip
def test_a_session_is_any_short_text(make, value, session):
    assert hinted(make, session=value).session == session


# -- forwarders


@pytest.mark.parametrize("name", ["tenant", "project", "feature", "user"])
@pytest.mark.parametrize("value", [b"", b"acme"])
def test_nobody_speaks_for_somebody_else(make, name, value):
    error = refused(make, **{name: value, "class": b"nonsense"})
    assert error.code == "header_not_allowed"
    assert f"x-ballast-{name}" in error.message
    assert TABLE[error.code].status == 403


values = st.binary(max_size=12) | st.sampled_from(
    [b"live", b"batch", b"1", b"999999999999", b"premises", b"anywhere", b"us"]
)
names = st.sampled_from(["class", "ttft_ms", "timeout_ms", "session", "residency"])


@given(st.sampled_from(LatencyClass), st.dictionaries(names, values))
def test_no_hint_ever_loosens_a_term_or_raises_anything_else(make, own, headers):
    try:
        hints = hinted(make, own, **headers)
    except CallerError as error:
        assert error.code == "invalid_value"  # noqa: PT017 - either outcome is right
        return
    first_s, complete_s = terms(own)
    assert 0 < hints.first_token_s <= first_s
    assert 0 < hints.complete_s <= complete_s
    assert CLASSES[hints.latency_class].complete_s <= complete_s
