"""Answers that were asked for as JSON by a schema: what passes, what fails, and as what."""

from __future__ import annotations

import builtins

import msgspec
import pytest

from benchmarks.load import schemas, values
from benchmarks.load.answers import Answer
from benchmarks.load.schemas import Check, checks
from benchmarks.load.seen import Seen, answered
from benchmarks.load.values import ScenarioError

SCHEMA = {
    "type": "object", "additionalProperties": False, "required": ["score"],
    "properties": {"score": {"type": "integer", "minimum": 1, "maximum": 10}},
}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "finish", "kind", "words"),
    [
        ('{"score": 7}', "stop", "", ""),
        ('{"score": 7}', "", "", ""),
        ('{"score": 70}', "stop", "schema", "$.score: 70 is greater than the maximum of 10"),
        ('{"score": "7"}', "stop", "schema", "$.score: '7' is not of type 'integer'"),
        ("{}", "stop", "schema", "$: 'score' is a required property"),
        ('{"score": 7, "more": 1}', "stop", "schema", "$: Additional properties"),
        ("", "stop", "schema", "not JSON"),
        ('```json\n{"score": 7}\n```', "stop", "schema", "begins '```json"),
        ('{"sco', "length", "schema_cut", "max_tokens"),
        ("[" * 100_000, "stop", "schema", "not JSON"),
        (" " * (schemas.BYTES_MAX + 1), "stop", "schema", "is not read"),
    ],
    ids=["kept", "no reason told", "too high", "type", "missing", "more", "empty", "fenced", "cut",
         "deep", "large"],
)  # fmt: skip
def test_an_answer_fails_as_its_schema_says(text, finish, kind, words):
    found, told = Check(SCHEMA, "k").fault(text, finish)
    assert found == kind
    assert words in told
    assert len(told) <= 160


def test_only_kinds_with_a_schema_are_checked():
    found = checks(values.load("corporate-training"))
    assert [one is not None for one in found] == [False, False, True, False]
    text = '{"questions": [{"stem": "s", "options": ["a", "b"], "answer": 0, "score": 1}]}'
    (assessment,) = checks(values.load("assessment"))
    assert assessment.fault(text, "stop") == ("", "")
    assert assessment.fault('{"questions": []}', "stop")[0] == "schema"


def test_a_schema_that_is_none_is_refused_with_its_key():
    scenario = values.load("assessment")
    kind = msgspec.structs.replace(scenario.kinds[0], json_schema={"type": "objekt"})
    with pytest.raises(ScenarioError, match=r"kinds.assessment.json_schema: no schema: 'objekt'"):
        checks(msgspec.structs.replace(scenario, kinds=[kind]))


def test_without_the_package_a_schema_is_refused_and_not_passed_over(monkeypatch):
    real = builtins.__import__

    def missing(name, *rest):
        if name == "jsonschema":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(ScenarioError, match="`make install` brings it"):
        Check(SCHEMA, "k")


def test_an_answer_is_taken_over_with_times_since_the_start():
    seen = Seen(1, 0, 0, 1.0, 1.0, 5)
    answered(seen, Answer(first_s=12.0, visible_s=12.5, last_s=13.0, events=2), 10.0)
    assert (seen.first_s, seen.visible_s, seen.last_s, seen.events) == (2.0, 2.5, 3.0, 2)
    never = Seen(1, 0, 0, 1.0, 1.0, 5)
    answered(never, Answer(), 10.0)
    assert (never.first_s, never.visible_s) == (-1.0, -1.0)
