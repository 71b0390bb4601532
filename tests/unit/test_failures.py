"""What a third party's error means: its own rules first, its HTTP status last, never a crash."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.provider import ErrorRule
from serving.codecs.failures import GENERIC, classify
from serving.errors import OPENS_S_MAX, Kind


def kind_of(status, body=b"", rules=(), headers=None):
    return classify(rules, status, body, headers or {}).kind


def error(**parts):
    return json.dumps({"error": parts}).encode()


@pytest.mark.parametrize(("status", "kind"), GENERIC.items())
def test_a_status_alone_has_its_meaning(status, kind):
    assert kind_of(status) is kind


@pytest.mark.parametrize(
    ("status", "kind"),
    [(418, Kind.PROTOCOL), (431, Kind.PROTOCOL), (599, Kind.SERVER_ERROR), (302, Kind.SERVER_ERROR),
     (200, Kind.SERVER_ERROR)],
)  # fmt: skip
def test_an_unknown_status_falls_into_its_family(status, kind):
    assert kind_of(status) is kind


@pytest.mark.parametrize(
    ("parts", "kind"),
    [
        ({"code": "insufficient_quota"}, Kind.ACCOUNT_DEAD),
        ({"type": "insufficient_quota"}, Kind.ACCOUNT_DEAD),
        ({"code": None, "type": "overloaded_error"}, Kind.OVERLOADED),
        ({"code": "context_length_exceeded"}, Kind.CONTEXT_TOO_LONG),
        ({"code": "content_filter"}, Kind.CONTENT_FILTER),
        ({"code": "invalid_api_key"}, Kind.KEY_DEAD),
        ({"code": 429}, Kind.RATE_LIMIT), ({"code": "529"}, Kind.OVERLOADED),
        ({"code": "401"}, Kind.KEY_DEAD), ({"code": 0}, Kind.SERVER_ERROR),
        ({"code": "9999"}, Kind.SERVER_ERROR), ({"code": "²²²"}, Kind.SERVER_ERROR),
        ({"code": ["x"], "message": {"a": 1}}, Kind.SERVER_ERROR),
    ],
    ids=str,
)  # fmt: skip
def test_an_error_under_a_good_status_tells_by_its_code(parts, kind):
    assert kind_of(200, error(**parts)) is kind


RULES = (
    ErrorRule(kind="account_dead", http=429, code="1113"),
    ErrorRule(kind="content_filter", http=400, code="1301"),
    ErrorRule(kind="context_too_long", http=400, message="range of INPUT"),
    ErrorRule(kind="overloaded", http=402),
)


@pytest.mark.parametrize(
    ("status", "parts", "kind"),
    [
        (429, {"code": "1113"}, Kind.ACCOUNT_DEAD), (429, {"code": 1113}, Kind.ACCOUNT_DEAD),
        (429, {"type": "1113"}, Kind.ACCOUNT_DEAD), (429, {"code": "11130"}, Kind.RATE_LIMIT),
        (500, {"code": "1113"}, Kind.SERVER_ERROR), (200, {"code": "1113"}, Kind.ACCOUNT_DEAD),
        (200, {"code": "1301"}, Kind.CONTENT_FILTER),
        (400, {"message": "Range of input length"}, Kind.CONTEXT_TOO_LONG),
        (400, {"message": "x" * 3000 + "range of input"}, Kind.BAD_REQUEST),
        (200, {"message": "range of input"}, Kind.CONTEXT_TOO_LONG),
        (200, {"code": "402"}, Kind.OVERLOADED), (200, {"code": "77"}, Kind.SERVER_ERROR),
        (402, {}, Kind.OVERLOADED),
    ],
    ids=str,
)  # fmt: skip
def test_the_provider_s_own_rules_come_first(status, parts, kind):
    assert kind_of(status, error(**parts), RULES) is kind


@pytest.mark.parametrize(
    "body",
    [b'{"code":"1113","message":"flat"}', b'{"error":{"code":1113}}', b'{"code":1113}'],
)
def test_flat_and_nested_bodies_are_read(body):
    assert kind_of(429, body, RULES) is Kind.ACCOUNT_DEAD


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>502</html>", b"\xff\xfe", b'{"error":{"message":"\xff"}}', b"[]", b"null", b"5",
     b'{"error":null}', b'{"error":[]}', b'{"error":"range of input"}', b"[" * 5000,
     b'{"error":{"code":{}}}'],
)  # fmt: skip
def test_a_body_that_is_no_error_falls_back_on_the_status(body):
    kind = kind_of(400, body, RULES)
    assert kind is (Kind.CONTEXT_TOO_LONG if b"range of" in body else Kind.BAD_REQUEST)


@given(st.integers(100, 599), st.binary(max_size=60), st.text(max_size=8))
def test_no_answer_whatever_raises_anything(status, body, code):
    for raw in (body, error(code=code, message=code)):
        assert classify(RULES, status, raw, {"Retry-After": code}).kind in Kind


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("7", 7.0), ("0.5", 0.5), ("0", 0.0), ("-3", 0.0), ("", None), ("soon", None),
     ("inf", None), ("nan", None), ("1e999", None), ("1e9", OPENS_S_MAX),
     ("Wed, 21 Oct 2026 07:28:00 GMT", None)],
)  # fmt: skip
def test_retry_after_is_believed_within_reason(text, seconds):
    found = classify((), 429, b"", {"Retry-After": text}).retry_after_s
    assert found == seconds
    assert found is None or math.isfinite(found)


def test_the_error_keeps_body_and_status_and_echoes_nothing():
    found = classify((), 400, error(message="your secret prompt"), {})
    assert (found.status, found.body) == (400, error(message="your secret prompt"))
    assert "secret" not in found.message
