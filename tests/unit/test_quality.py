"""Canaries: what a valid answer is, and when a change is more than chance."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscale.canaries import baselined
from serving.quality.base import Found
from serving.quality.drift import BASELINE_RUNS, alike, drifts, risen
from serving.quality.reading import run_of
from serving.quality.store import prompts
from serving.quality.values import Drift, Expect, Prompt, Run, Sign
from serving.quality.watch import VALID_MS, drifting
from serving.settings import SettingsError

AT = (5, "m", "own")


def body(content: str = "", calls: Any = (), **more: Any) -> bytes:
    message = {"role": "assistant", "content": content, "tool_calls": list(calls)}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return json.dumps({"choices": [choice], "usage": {"completion_tokens": 9}} | more).encode()


def call(name: str, arguments: str) -> dict[str, Any]:
    return {"id": "1", "type": "function", "function": {"name": name, "arguments": arguments}}


def run(expect: Expect, answer: bytes) -> Run:
    return run_of(Prompt("p", [], expect), AT, answer)


@pytest.mark.parametrize(
    ("expect", "answer", "why"),
    [
        (Expect(contains=("Paris",)), body("it is PARIS."), ""),
        (Expect(contains=("Paris",)), body("Rome"), "none of Paris stands in it"),
        (Expect(keys={"a": "integer"}), body('{"a": 3}'), ""),
        (Expect(keys={"a": "integer"}), body('{"a": true}'), "a is no integer"),
        (Expect(keys={"a": "integer"}), body('{"a": "3"}'), "a is no integer"),
        (Expect(keys={"a": "integer"}), body("```json\n{}```"), "not JSON"),
        (Expect(keys={"a": "integer"}), body("[3]"), "not a JSON object"),
        (Expect(tool="f", keys={"x": "string"}), body("", [call("f", '{"x": "y"}')]), ""),
        (Expect(tool="f"), body("I would call f"), "it did not call f"),
        (Expect(tool="f", keys={"x": "string"}), body("", [call("f", '{"x')]), "not JSON"),
        (Expect(refuses=True), body("I'm sorry, but I can't help with that."), ""),
        (Expect(refuses=True), body("Sure! First,"), "it did not decline"),
    ],
)
def test_an_answer_is_valid_or_says_why_not(expect: Expect, answer: bytes, why: str) -> None:
    found = run(expect, answer)
    assert (found.is_answered, found.is_valid, found.why) == (True, not why, why)
    assert found.tokens == 9


@pytest.mark.parametrize("text", ["抱歉，我无法提供", "I can't assist with that", "作为AI，我"])
def test_refusals_are_seen_in_both_languages(text: str) -> None:
    assert run(Expect(), body(text)).is_refused
    assert not run(Expect(), body("可以，建议如下：1.")).is_refused


@pytest.mark.parametrize("answer", [b"", b'{"error":{"code":"x"}}', b"<html>", b"[]"])
def test_what_is_no_answer_counts_as_none(answer: bytes) -> None:
    assert not run(Expect(), answer).is_answered


@given(st.integers(0, 12), st.integers(1, 12), st.integers(0, 12), st.integers(1, 12))
def test_chance_is_a_probability_and_falls_as_more_go_wrong(
    was: int, of_was: int, now: int, of_now: int
) -> None:
    was, now = min(was, of_was), min(now, of_now)
    chance = risen(was, of_was, now, of_now)
    assert 0 < chance <= 1 + 1e-12
    if now == 0:
        assert chance == pytest.approx(1)
    if now < of_now:
        assert risen(was, of_was, now + 1, of_now) <= chance + 1e-12


def test_chance_agrees_with_the_tea_tasting() -> None:
    # Fisher's own example: 3 of 4 cups right, p = 17/70.
    assert risen(1, 4, 3, 4) == pytest.approx(17 / 70)


def history(before: Any, now: Any) -> list[Run]:
    """Three prompts, five baseline runs and five later ones of each; each side makes a run's
    fields of a number."""
    runs = []
    for side, make in enumerate((before, now)):
        for number in range(15):
            fields = {"is_valid": True, "tokens": 20, "text": "the same words", **make(number)}
            runs.append(
                Run(side * 100 + number, "m", "x/y", f"p{number % 3}", True,
                    is_baseline=not side, **fields)
            )  # fmt: skip
    return runs


def same(_: int) -> dict[str, Any]:
    return {}


def signs(runs: list[Run]) -> list[Sign]:
    return [one.sign for one in drifts(runs)]


def test_a_target_that_answers_as_before_does_not_drift() -> None:
    assert drifts(history(same, same)) == []


def test_one_bad_answer_is_chance_and_half_bad_ones_are_not() -> None:
    assert drifts(history(same, lambda n: {"is_valid": n != 0})) == []
    (found,) = drifts(history(same, lambda n: {"is_valid": n % 2 == 0}))
    assert found.sign is Sign.VALIDITY
    assert (found.before, round(found.now, 2)) == (1.0, 0.53)
    assert found.chance < 0.01


def test_getting_better_is_no_drift_of_validity() -> None:
    assert Sign.VALIDITY not in signs(history(lambda n: {"is_valid": n % 2 == 0}, same))


def test_refusals_lengths_and_words_are_told_apart() -> None:
    assert signs(history(same, lambda n: {"is_refused": n < 8})) == [Sign.REFUSALS]
    assert signs(history(same, lambda n: {"tokens": 40})) == [Sign.LENGTH]
    assert signs(history(same, lambda n: {"text": "quite something else"})) == [Sign.AGREEMENT]


def test_a_target_that_never_agrees_with_itself_is_not_held_to_it() -> None:
    def chatty(n: int) -> dict[str, Any]:
        return {"text": f"{n * 7919 % 10007:d}" * 5}

    assert Sign.AGREEMENT not in signs(history(chatty, chatty))


def test_too_few_answers_say_nothing_and_silence_is_not_drift() -> None:
    runs = history(same, lambda n: {"is_valid": False})
    assert drifts([r for r in runs if r.is_baseline or r.at_ms < 105]) == []
    away = [r if r.is_baseline else Run(r.at_ms, "m", "x/y", r.prompt, False) for r in runs]
    assert drifts(away) == []


def test_the_first_answers_of_each_prompt_are_the_baseline() -> None:
    earlier: list[Run] = []
    for number in range(BASELINE_RUNS + 3):
        for prompt in ("a", "b"):
            earlier.append(baselined(Run(number, "m", "own", prompt, number != 1), earlier))
    kept = [r.at_ms for r in earlier if r.is_baseline and r.prompt == "a"]
    assert kept == [0, 2, 3, 4, 5]


@given(st.text(max_size=50), st.text(max_size=50))
def test_likeness_is_a_share_and_one_for_the_same(one: str, other: str) -> None:
    assert 0 <= alike(one, other) <= 1
    assert alike(one, one) == 1


def test_what_was_found_long_ago_demotes_nobody() -> None:
    drift = [Drift("m", "x/y", Sign.VALIDITY, 1, 0, 0)]
    found = [Found("m", "x/y", 0, drift), Found("m", "z/y", VALID_MS, [])]
    assert drifting(found, VALID_MS) == {"x/y"}
    assert drifting(found, VALID_MS + 1) == frozenset()


def test_the_packaged_prompts_can_be_read_and_ones_own_replace_them(tmp_path) -> None:
    packaged = prompts(None)
    assert len(packaged) >= 5
    own = tmp_path / "own.yaml"
    own.write_text("- {id: sum, messages: [], expect: {contains: ['1']}}\n")
    found = {p.id: p for p in prompts(own)}
    assert len(found) == len(packaged)
    assert found["sum"].messages == []
    own.write_text("- {id: sum, messages: [], expect: {what: 1}}\n")
    with pytest.raises(SettingsError, match="what"):
        prompts(own)
