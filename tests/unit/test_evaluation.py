"""Question sets, their checks, what two arms' answers come to, votes, and the gate."""

from __future__ import annotations

import json
import random
from typing import Any

import msgspec
import pytest

from ballast import poc_keys
from ballast.evaluate_words import silence
from ballast.messages import tell
from ballast.messages.chosen import speaking
from ballast.problem import ProblemError
from ballast.web import in_words
from models.worded import Worded
from serving import errors
from serving.evaluation import questions, verdict, votes
from serving.evaluation.intervals import paired
from serving.evaluation.questions import Question, SetError, Wanted, answered, parse
from serving.evaluation.schema import breach, unknown
from serving.evaluation.values import Answer, Arm, Asked, Evaluation, Vote
from serving.evaluation.verdict import Thresholds

PERSON = {
    "type": "object", "required": ["name"], "additionalProperties": False,
    "properties": {
        "name": {"type": "string"}, "age": {"type": "integer"},
        "tags": {"type": "array", "items": {"enum": ["a", "b"]}},
    },
}  # fmt: skip


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ({"name": "x", "age": 3, "tags": ["a"]}, ""),
        ({"name": "x", "age": 3.0}, ""),
        ({"age": 3}, "answer has no name"),
        ({"name": 3}, "answer.name is no string"),
        ({"name": "x", "age": True}, "answer.age is no integer"),
        ({"name": "x", "age": 3.5}, "answer.age is no integer"),
        ({"name": "x", "tags": ["a", "c"]}, "answer.tags[1] is none of ['a', 'b']"),
        ({"name": "x", "more": 1}, "answer has more too"),
        ([], "answer is no object"),
    ],
)
def test_a_schema_finds_the_first_breach(value: Any, says: str) -> None:
    assert breach(PERSON, value) == says


@pytest.mark.parametrize(
    "schema",
    [
        {"pattern": "x"}, {"type": ["string", "null"]}, {"type": "date"}, {"required": "name"},
        {"properties": []}, {"additionalProperties": {}}, {"enum": 3}, {"items": {"minItems": 1}},
        {"properties": {"a": {"$ref": "#"}}}, 3,
    ],
)  # fmt: skip
def test_what_a_schema_says_and_is_not_checked_is_refused(schema: Any) -> None:
    assert unknown(schema)
    assert unknown(PERSON) == ""


def said(text: str, *calls: tuple[str, str], finish: str = "stop") -> bytes:
    tools = [{"function": {"name": name, "arguments": given}} for name, given in calls]
    message = {"role": "assistant", "content": text, "tool_calls": tools}
    choice = {"index": 0, "message": message, "finish_reason": finish}
    return json.dumps({"choices": [choice], "usage": {"completion_tokens": 7}}).encode()


@pytest.mark.parametrize(
    ("wanted", "answer", "faults"),
    [
        (Wanted(), said("hello"), {}),
        (Wanted(json=True), said('{"a": 1}'), {"json": ""}),
        (Wanted(json=True), said("```json"), {"json": "not JSON"}),
        (Wanted(schema=PERSON), said("{}"), {"json": "", "schema": "answer has no name"}),
        (Wanted(schema=PERSON), said("no"), {"json": "not JSON", "schema": "not JSON"}),
        (Wanted(tool="f"), said("", ("f", "{}")), {"tool": ""}),
        (Wanted(tool="f"), said("", ("g", "{}")), {"tool": "it did not call f"}),
        (Wanted(tool="f", schema=PERSON), said("", ("f", '{"name": "x"}')),
         {"tool": "", "json": "", "schema": ""}),
        (Wanted(contains=("Paris", "巴黎")), said("是巴黎"), {"contains": ""}),
        (Wanted(contains=("Paris",)), said("Rome"), {"contains": "none of Paris stands in it"}),
        (Wanted(chars_max=3), said("four"), {"length": "4 characters"}),
        (Wanted(chars_min=2), said("four"), {"length": ""}),
        (Wanted(refuses=True), said("I cannot help with that."), {"refusal": ""}),
        (Wanted(refuses=True), said("Sure."), {"refusal": "it did not decline"}),
        (Wanted(), said("I cannot help with that."), {"refusal": "it declined"}),
    ],
)  # fmt: skip
def test_only_what_is_wanted_is_checked(wanted: Wanted, answer: bytes, faults: Any) -> None:
    found = answered(Question("q", "?", expect=wanted), answer)
    assert (found.is_answered, found.faults, found.tokens) == (True, faults, 7)
    assert found.is_passed == (not any(faults.values()))


def test_an_error_is_no_answer_and_passes_nothing() -> None:
    found = answered(Question("q", "?"), b'{"error": {"message": "no"}}')
    assert (found.is_answered, found.is_passed) == (False, False)


def test_sets_are_yaml_or_json_lines_and_the_same_set_has_the_same_name() -> None:
    plain = parse(b"- {id: a, prompt: Hi, expect: {contains: [x]}}", is_lines=False)
    lines = parse(b'{"id":"a","prompt":"Hi","expect":{"contains":["x"]}}\n\n', is_lines=True)
    assert plain == lines
    assert questions.digest(plain) == questions.digest(lines)
    assert plain[0].body("m")["temperature"] == 0
    told = Question("b", messages=[{"role": "system", "content": "Be brief"}])
    assert told.shown() == Asked("b", "system: Be brief")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[]", "0 questions"),
        ("- {id: a}", "question 'a': give an id, and either prompt or messages"),
        ("- {id: a, prompt: x, messages: [{}]}", "either prompt or messages"),
        ("- {id: a, prompt: x}\n- {id: a, prompt: y}", "two questions have the id 'a'"),
        ("- {id: a, prompt: x, more: {model: z}}", "more: model is not set here"),
        ("- {id: a, prompt: x, expect: {schema: {pattern: z}}}", "'pattern' is not checked here"),
        ("- {id: a, prompt: x, expect: {jsonn: true}}", "unknown field `jsonn`"),
        ("{", "it cannot be read: while parsing"),
        ("a: 1", "it is no list"),
        ("- {id: a, prompt: x, max_tokens: many}", "Expected `int`"),
    ],
)
def test_a_set_that_cannot_be_used_says_which_question_and_why(text: str, says: str) -> None:
    with pytest.raises(SetError, match=says.replace("[", r"\[")):
        parse(text.encode(), is_lines=False)


@pytest.mark.parametrize(
    ("why", "told"),
    [
        ("503 overloaded: no target", "503 没有目标能接它（no target）"),
        ("400 invalid_value: n: two", "400 请求里有一个值不对（n: two）"),
        ("TimeoutError", "没有按时回答"),
        ("no answer", "回答里没有内容"),
        ("502 newer: of tomorrow", "502 newer: of tomorrow"),
        ("500 kept before codes were", "500 kept before codes were"),
    ],
)  # fmt: skip
def test_why_an_answer_did_not_come_is_told_by_its_code(why: str, told: str) -> None:
    with speaking("zh"):
        assert silence(why) == told
    assert silence("503 overloaded: no target") == "503 overloaded: no target"


def test_a_refusal_is_told_by_its_code_and_whole_where_its_values_came_with_it() -> None:
    plain = errors.body("no_capacity", "no target can take it")
    worded = errors.told("invalid_value", Worded("explain.tenant", "no tenant {name}", name="x"))
    assert in_words(plain) == "no target can take it"
    with speaking("zh"):
        assert tell(in_words(plain), "zh") == "没有目标能接它（no target can take it）"
        assert tell(in_words(worded), "zh") == "没有租户 x"
        assert in_words(b"not json") == "not json"


def evaluation(base: str, candidate: str, repeats: int = 1, **more: Any) -> Evaluation:
    """`+` passed, `-` has a fault, `x` did not come; one sign an answer."""
    ids = [f"q{n // repeats}" for n in range(len(base))]
    made = []
    for arm, signs in enumerate((base, candidate)):
        for name, sign in zip(ids, signs, strict=True):
            faults = {"json": "" if sign == "+" else "not JSON"}
            made.append(
                Answer(name, sign != "x", faults if sign != "x" else {}, arm=arm, tokens=10,
                       whole_ms=100 * (arm + 1), text=f"{name} {sign} {arm}", **more)
            )  # fmt: skip
    asked = tuple(Asked(name, f"say {name}") for name in dict.fromkeys(ids))
    arms = (Arm("own", "m", "own"), Arm("alpha/big", "m", "alpha/big"))
    return Evaluation("e1", "set", "d", 0, arms, asked, tuple(made), repeats)


def test_figures_are_shares_with_intervals_and_pairs_are_compared_as_pairs() -> None:
    found = verdict.results(evaluation("++++-x", "++--++"))
    base, candidate = found.arms
    assert base.answered is not None
    assert base.answered.value == pytest.approx(5 / 6)
    assert candidate.passed is not None
    assert candidate.passed.value == pytest.approx(4 / 6)
    assert base.checks["json"].value == pytest.approx(4 / 5)
    assert (found.gained, found.lost) == (("q4", "q5"), ("q2", "q3"))
    assert found.gain is not None
    assert found.gain.value == 0
    assert found.gain.low < -0.2
    assert (base.whole_ms, candidate.whole_ms, base.tokens) == (100, 200, 10)
    assert found.agreement is not None
    assert 0.5 < found.agreement.value < 1


def test_a_gateway_s_figures_compare_no_texts() -> None:
    found = evaluation("++", "++")
    assert verdict.results(found, is_compared=False) == msgspec.structs.replace(
        verdict.results(found), agreement=None
    )


def test_a_question_passes_only_if_every_repetition_does() -> None:
    found = verdict.results(evaluation("++++", "++-+", repeats=2))
    assert (found.questions, found.lost) == (2, ("q1",))


def test_paired_differences_cover_the_truth_as_often_as_they_say() -> None:
    """Questions of different hardness, 60 a set; the candidate truly passes 0.1 less."""
    rng, hits, sets = random.Random(5), 0, 400
    for _ in range(sets):
        counts = [0, 0, 0, 0]
        for _ in range(60):
            hard = rng.uniform(0.2, 0.9)
            one, other = rng.random() < hard - 0.1, rng.random() < hard
            counts[0 if one and other else 1 if one else 2 if other else 3] += 1
        found = paired(*counts)
        assert found is not None
        hits += found.low <= -0.1 <= found.high
    assert 0.91 <= hits / sets <= 0.99
    assert paired(0, 0, 0, 0) is None


def test_twins_without_a_difference_still_leave_doubt() -> None:
    found = paired(10, 0, 0, 0)
    assert found is not None
    assert found.value == 0
    assert found.low < -0.1


def test_the_gate_names_each_threshold_and_lets_a_good_candidate_pass() -> None:
    good = verdict.results(evaluation("+" * 60, "+" * 60))
    told = verdict.verdict(good, Thresholds())
    assert told.is_pass
    assert told.reasons[0] == "keeps questions: 60, asked at least 20"
    worse = verdict.results(evaluation("+" * 60, "+" * 50 + "-" * 10))
    told = verdict.verdict(worse, Thresholds())
    assert not told.is_pass
    assert [line.split()[0] for line in told.reasons] == ["keeps", "keeps", "FAILS", "FAILS"]


@pytest.mark.parametrize(
    ("wanted", "says"),
    [
        (Thresholds(questions_min=61), "FAILS questions: 60"),
        (Thresholds(answered_min=1.0, passed_min=None, drop_max=None), "FAILS answered: 0.9833"),
        (Thresholds(agreement_min=0.999), "FAILS agreement"),
        (Thresholds(slower_max=1.5), "FAILS times the base's time: 2, asked at most 1.5"),
    ],
)
def test_each_threshold_can_stop_it_alone(wanted: Thresholds, says: str) -> None:
    found = verdict.results(evaluation("+" * 60, "+" * 59 + "x"))
    told = verdict.verdict(found, wanted)
    assert not told.is_pass
    assert any(says in line for line in told.reasons)


def test_what_is_not_known_does_not_pass() -> None:
    nothing = verdict.results(evaluation("x" * 30, "x" * 30))
    told = verdict.verdict(nothing, Thresholds(agreement_min=0.1, slower_max=2))
    assert "FAILS agreement: not known, asked at least 0.1" in told.reasons
    assert "FAILS times the base's time: not known, asked at most 2" in told.reasons


def test_sides_are_mixed_over_people_and_stay_for_one() -> None:
    people = [f"p{n}" for n in range(400)]
    swapped = [votes.is_swapped("e1", "q1", one) for one in people]
    assert 160 < sum(swapped) < 240
    assert swapped == [votes.is_swapped("e1", "q1", one) for one in people]


def test_a_vote_counts_for_the_arm_that_stood_there() -> None:
    found = evaluation("++", "++")
    for person in ("ann", "bob", "eve", "joe"):
        pair = votes.next_pair(found, person, ())
        assert pair is not None
        assert "own" not in f"{pair.text}{pair.left}{pair.right}"
        side: votes.Said = "left" if pair.left.endswith("1") else "right"
        assert votes.choice("e1", pair.question, person, side) == "1"
        assert votes.choice("e1", pair.question, person, "tie") == "tie"


def test_a_person_sees_each_pair_once_and_twins_never() -> None:
    found = evaluation("+++x", "++++")
    same = [a if a.question != "q2" else Answer("q2", True, text="same", arm=a.arm)
            for a in found.answers]  # fmt: skip
    found = Evaluation("e1", "s", "d", 0, found.arms, found.questions, tuple(same))
    seen: list[str] = []
    while (pair := votes.next_pair(found, "ann", seen)) is not None:
        assert (pair.done, pair.pairs) == (len(seen), 2)
        seen.append(pair.question)
    assert sorted(seen) == ["q0", "q1"]


def test_votes_on_one_question_count_as_a_group() -> None:
    cast = [Vote(f"q{n}", person, "1" if n % 3 else "0") for n in range(12) for person in "abcd"]
    cast += [Vote("q99", "a", "tie"), Vote("q98", "a", "neither")]
    found = votes.tally(cast)
    assert (found.wins, found.ties, found.neither, found.voters) == ((16, 32), 1, 1, 4)
    assert found.candidate is not None
    assert found.candidate.high - found.candidate.low > 0.4, "as twelve votes, not as 48"
    assert not found.is_few
    assert votes.tally([]).candidate is None


class Desk:
    """The admin API as `poc_keys.canary` sees it."""

    def __init__(self, *tenants: str) -> None:
        self.sent: list[tuple[str, Any]] = []
        self._tenants = [{"id": one} for one in tenants]

    def get(self, _path: str) -> Any:
        return {"tenants": self._tenants}

    def post(self, path: str, body: Any, **_: Any) -> Any:
        self.sent.append((path, body))
        return {"key": "bl-x"}


def test_an_evaluation_without_a_key_is_lent_one_that_is_taken_back() -> None:
    desk = Desk("demo")
    with poc_keys.canary(desk, "", 60.0, print) as key:  # type: ignore[arg-type]
        assert key == "bl-x"
        (made,) = desk.sent
        assert made[0] == "/keys"
        assert (made[1]["tenant"], made[1]["is_canary"]) == ("demo", True)
    assert desk.sent[-1][0] == f"/keys/{made[1]['id']}/revoke"


def test_a_lent_key_needs_to_know_whose_calls_they_are() -> None:
    for tenants in ((), ("a", "b")):
        desk = Desk(*tenants)
        with (
            pytest.raises(ProblemError, match="whose calls") as problem,
            poc_keys.canary(desk, "", 60.0, print),  # type: ignore[arg-type]
        ):
            pass
        assert "--tenant" in problem.value.remedy
        assert not desk.sent
    desk = Desk("a", "b")
    with poc_keys.canary(desk, "b", 60.0, print):  # type: ignore[arg-type]
        pass
    assert desk.sent[0][1]["tenant"] == "b"


def test_an_empty_set_is_said_to_be_empty() -> None:
    with pytest.raises(SetError, match="0 questions; between 1 and"):
        parse(b"", is_lines=False)
