"""Members named as ids are no text of anybody's, where they hold what an id holds: whatever else is
put there reaches the model's template, and is read."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from serving.guard.folding import Folding
from serving.guard.placeholders import NONCE_LETTERS
from serving.guard.reading import Rules
from serving.guard.screening import Verdict, screen
from serving.guard.terms import Terms
from serving.guard.values import PERSONAL_ACTIONS, Action, Policy, Term
from serving.records import Sensitivity

PHONE = "13800138000"
POLICY = Policy(lists=frozenset({"list"}), personal=PERSONAL_ACTIONS)


def screened(folding: Folding, **fields: Any) -> Verdict:
    terms = Terms([Term("坏词", "list", "c", Action.BLOCK)], folding)
    raws = {name: msgspec.Raw(json.dumps(value).encode()) for name, value in fields.items()}
    return screen(raws, Rules(POLICY, terms, folding), lambda _: "b" * NONCE_LETTERS)


def called(arguments: Any) -> list[Any]:
    """A message that calls a tool."""
    call = {"name": "find", "arguments": json.dumps(arguments)}
    return [{"role": "assistant", "tool_calls": [
        {"id": "call_1", "type": "function", "function": call}]}]  # fmt: skip


@pytest.mark.parametrize(
    "fields",
    [
        {"messages": [{"role": "坏词", "content": "hi"}]},
        {"messages": [{"role": "user", "content": "hi", "tool_call_id": "坏词"}]},
        {"messages": called({"detail": "坏词"})},
        {"messages": called({"id": ["x", {"type": "坏词"}]})},
        {"tools": [{"type": "function", "function": {"name": "f", "parameters": {
            "properties": {"id": {"type": "string", "description": "坏词"}}}}}]},
    ],
    ids=["role", "id of a call", "arguments", "arguments within", "a schema's property"],
)  # fmt: skip
def test_a_term_that_stands_where_an_id_should_is_found(folding: Folding, fields: Any) -> None:
    assert screened(folding, **fields).is_blocked


@pytest.mark.parametrize("name", ["detail", "format", "type", "id", "name", "url", "file", "image"])
def test_personal_data_in_arguments_is_masked_whatever_its_member_is_called(
    folding: Folding, name: str
) -> None:
    verdict = screened(folding, messages=called({name: f"打{PHONE}"}))
    assert verdict.sensitivity is Sensitivity.PERSONAL
    assert PHONE not in bytes(verdict.egress_fields["messages"]).decode()
    assert PHONE in bytes(verdict.fields["messages"]).decode()


def test_a_phone_number_for_a_role_keeps_the_call_at_home(folding: Folding) -> None:
    verdict = screened(folding, messages=[{"role": f"打{PHONE}", "content": "hi"}])
    assert verdict.sensitivity is Sensitivity.PERSONAL


def test_ids_as_they_are_stay_unread(folding: Folding) -> None:
    roles = ("system", "developer", "user", "assistant", "tool", "function", "observation")
    messages = [
        {"role": role, "tool_call_id": "call_13800138000", "content": [
            {"type": "text", "text": "hi", "cache_control": {"type": "ephemeral"}}]}
        for role in roles
    ]  # fmt: skip
    verdict = screened(folding, messages=messages)
    assert not verdict.findings
    assert verdict.sensitivity is POLICY.label
