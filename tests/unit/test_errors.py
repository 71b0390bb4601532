"""The error tree and its one table: closed, OpenAI-shaped, and safe to show."""

from __future__ import annotations

import json
from http import HTTPStatus

import pytest

from serving import errors
from serving.errors import TABLE, BallastError, CallerError, Kind, OwnError, UpstreamError


def test_the_root_of_the_tree_is_never_raised():
    with pytest.raises(TypeError):
        BallastError("not_found", "x")


def test_a_code_outside_the_table_is_our_own_bug():
    with pytest.raises(AssertionError):
        CallerError("no_such_code", "x")


@pytest.mark.parametrize("code", TABLE)
def test_every_code_has_a_known_status_and_an_openai_body(code):
    row = TABLE[code]
    assert HTTPStatus(row.status) >= 400
    assert json.loads(errors.body(code, "why", "field")) == {
        "error": {
            "message": "why",
            "type": row.type,
            "param": "field",
            "code": errors.TOLD.get(code, code),
        }
    }


@pytest.mark.parametrize("code", [c for c, row in TABLE.items() if row.status == 503])
def test_our_own_refusals_are_busy_and_not_the_caller_s_limit(code):
    assert TABLE[code].type == "service_unavailable_error"


def test_only_a_caller_s_own_limit_is_a_429():
    assert [c for c, row in TABLE.items() if row.status == 429] == [
        "rate_limit_exceeded",
        "budget_exceeded",
    ]


@pytest.mark.parametrize("kind", Kind)
def test_every_kind_has_a_code_and_one_fate(kind):
    error = UpstreamError(kind, "x")
    assert error.code in TABLE
    fates = [kind in errors.FINAL, kind in errors.COUNTS, kind in errors.OPENS, kind is Kind.FULL]
    assert sum(fates) == 1, "final, counted, opening, or full"


@pytest.mark.parametrize("kind", sorted(errors.FINAL))
def test_final_kinds_are_the_caller_s_to_mend(kind):
    row = TABLE[UpstreamError(kind, "x").code]
    assert (row.status, row.retryable) == (400, False)


def test_errors_keep_the_facts_of_their_failure():
    error = UpstreamError(Kind.TIMEOUT, "x", retry_after_s=3.0, sent=False, body=b"{}", status=504)
    assert (error.retry_after_s, error.sent, error.body, error.status) == (3.0, False, b"{}", 504)
    own = OwnError("queue_full", "full", retry_after_s=5.0)
    assert (own.code, str(own), own.retry_after_s) == ("queue_full", "full", 5.0)
    assert CallerError("invalid_value", "x", param="n").param == "n"


def test_a_message_cannot_break_out_of_its_json():
    message = 'a"}\r\nx: y\x00\u2028'
    body = errors.body("not_found", message)
    assert json.loads(body)["error"]["message"] == message
    assert b"\r" not in body
    assert b"\n" not in body
