"""How services that cannot run here read our errors: by status, type, or words in the text.

What each looks for was read in its sources on 2026-11-26 (docs/clients names the files); the
tables below hold what matters of it.
"""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest

from serving import errors

ROOT = Path(errors.__file__).parent
RAGFLOW = (
    ("quota", "quota capacity credit billing balance 欠费"),
    ("rate", "rate@limit 429 tpm@limit too@many@requests requests@per@minute"),
    ("auth", "auth key 401 forbidden permission"),
    ("request", "invalid bad@request 400 format malformed parameter"),
    ("server", "server 503 502 504 500 unavailable"),
)
"""Words in its order, the first that is found decides; `@` is a blank. It tries again after `rate`
and `server`."""
NEW_API = (
    "your credit balance is too low", "this organization has been disabled",
    "you exceeded your current quota", "permission denied", "operation not allowed",
    "your account is not authorized", "insufficient balance", "insufficient_balance",
    "balance is insufficient", "balance not enough", "balance is not enough", "余额不足",
    "the security token included in the request is invalid",
)  # fmt: skip
"""Any of these words, or status 401, switches a channel off."""
ONE_API_TYPES = {"insufficient_quota", "authentication_error", "permission_error", "forbidden"}
"""So does each of these types, status 401, the code `invalid_api_key`, and the words below."""
ONE_API_WORDS = (
    "credit", "balance", "permission denied", "your access was terminated", "已欠费",
    "violation of our policies", "organization has been", "api key not valid", "api key expired",
)  # fmt: skip
MESSAGES = {
    "budget_exceeded": "what is left of budget 'web' (0.50 CNY a month) does not pay for this call",
    "rate_limit_exceeded": "the limit of 60 requests a minute is reached",
}
ROOM = sorted(code for code, row in errors.TABLE.items() if row.status == 503)


def sent(code: str) -> dict[str, str]:
    body = errors.body(code, MESSAGES.get(code, "it cannot be answered now"))
    found: dict[str, str] = json.loads(body)["error"]
    return found


def ragflow(code: str) -> str:
    """As the official client words it: status and body in one text."""
    text = f"Error code: {errors.TABLE[code].status} - {{'error': {sent(code)}}}".lower()
    for found, words in RAGFLOW:
        if any(word.replace("@", " ") in text for word in words.split()):
            return found
    return ""


def one_api_switches_off(code: str) -> bool:
    error = sent(code)
    return (
        errors.TABLE[code].status == 401 or error["type"] in ONE_API_TYPES
        or error["code"] == "invalid_api_key"
        or any(word in error["message"] for word in ONE_API_WORDS)
    )  # fmt: skip


def new_api_switches_off(code: str) -> bool:
    error = sent(code)
    text = f"{error['message']} {error['code']} {error['type']}".lower()
    return errors.TABLE[code].status == 401 or any(word in text for word in NEW_API)


@pytest.mark.parametrize("code", ROOM)
def test_want_of_room_is_tried_again_and_is_no_quota(code: str) -> None:
    assert ragflow(code) == "server"
    assert not one_api_switches_off(code)
    assert not new_api_switches_off(code)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("budget_exceeded", "quota"), ("rate_limit_exceeded", "rate"), ("invalid_api_key", "auth"),
        ("missing_api_key", "auth"), ("context_length_exceeded", "request"),
        ("invalid_value", "request"), ("model_not_found", "request"),
        ("residency_refused", "request"), ("content_filter", "request"),
        ("upstream_unavailable", "server"), ("upstream_timeout", "server"),
        ("internal_error", "server"),
    ],
)  # fmt: skip
def test_ragflow_takes_an_error_for_what_it_is(code: str, kind: str) -> None:
    assert ragflow(code) == kind


def test_what_is_refused_to_one_call_switches_no_channel_off() -> None:
    of_us = set(errors.TABLE) - {"role_required"}  # the admin API's alone
    off = {code for code in of_us if one_api_switches_off(code)}
    assert off == {"missing_api_key", "invalid_api_key", "budget_exceeded"}
    assert {code for code in of_us if new_api_switches_off(code)} == {
        "missing_api_key", "invalid_api_key"
    }  # fmt: skip


@pytest.mark.parametrize("name", ["routing", "placement/words", "holding", "room", "pipeline"])
def test_no_refusal_for_want_of_room_uses_words_of_money_or_of_keys(name: str) -> None:
    tree = ast.parse((ROOT / f"{name}.py").read_text("utf-8"))
    docs = {
        ast.get_docstring(node, clean=False) for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef)
    }  # fmt: skip
    texts = [
        node.value for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        and " " in node.value and node.value not in docs
    ]  # fmt: skip
    wrong = [
        text for text in texts for word in (*RAGFLOW[0][1].split(), "this key", "authori")
        if word in text.lower() and "residency" not in text and "budget" not in text
    ]  # fmt: skip
    assert not wrong


def test_dify_and_the_others_go_by_the_status_alone() -> None:
    families = {
        401: {"authentication_error"}, 429: {"rate_limit_error", "insufficient_quota"},
        503: {"service_unavailable_error"},
    }  # fmt: skip
    for status, types in families.items():
        assert {row.type for row in errors.TABLE.values() if row.status == status} == types


def test_the_word_for_clients_is_not_the_ledgers() -> None:
    assert sent("no_capacity")["code"] == "overloaded"
    assert set(errors.TOLD) <= set(errors.TABLE)
    assert not set(errors.TOLD.values()) & set(errors.TABLE)
