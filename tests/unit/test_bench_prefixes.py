"""What a prefix cache is worth (`benchmarks.prefixes`): calls on shared documents, how they end."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from benchmarks import prefixes
from benchmarks.load.values import Goal, Kind, Length, Prefix
from models.capacity import PROFILES, Profile
from serving.fakes.blocks import BLOCK_TOKENS

DOCUMENTS, DOCUMENT = 4, 40 * BLOCK_TOKENS + 5
KIND = Kind(
    name="q", prompt=Length(median=20, spread=0.6, least=8, most=60), output=Length(median=8),
    goal=Goal(first_token_ms=1000.0, token_ms=200.0),
    prefix=Prefix(tokens=DOCUMENT, documents=DOCUMENTS),
)  # fmt: skip
ENGINE = msgspec.structs.replace(
    PROFILES["qwen3-32b-fp8-h100"], kv_tokens=20_000, max_num_seqs=16,
    per_prefill_token_s=1e-3, prefill_tokens_per_s=1000.0,
)  # fmt: skip
"""Slow enough for a document to be worth remembering: two thirds of a second each time."""


def seen(rate: float, *, remembers: bool, profile: Profile = ENGINE) -> prefixes.Seen:
    return prefixes.served(profile, KIND, prefixes.calls(KIND, rate, 1), remembers=remembers)


def test_calls_of_one_seed_are_the_same_calls():
    assert prefixes.calls(KIND, 2.0, 1) == prefixes.calls(KIND, 2.0, 1)
    assert prefixes.calls(KIND, 2.0, 1) != prefixes.calls(KIND, 2.0, 2)


def test_calls_come_at_the_rate_and_each_asks_about_one_of_the_documents():
    asked = prefixes.calls(KIND, 2.0, 1)
    assert len(asked) == prefixes.ANSWERS
    assert len(asked) / asked[-1].at_s == pytest.approx(2.0, rel=0.15)
    chains = {one.chain for one in asked}
    assert len(chains) == DOCUMENTS
    assert {len(chain) for chain in chains} == {DOCUMENT // BLOCK_TOKENS}, "full blocks only"
    firsts = {chain[0] for chain in chains}
    assert len(firsts) == DOCUMENTS, "no document begins as another does"


def test_questions_are_as_long_as_the_scenario_lets_them_be():
    lengths = sorted(one.prompt - DOCUMENT for one in prefixes.calls(KIND, 2.0, 1))
    assert (lengths[0], lengths[-1]) == (8, 60), "cut at both ends"
    assert lengths[len(lengths) // 2] == pytest.approx(20, abs=2)
    assert {one.output for one in prefixes.calls(KIND, 2.0, 1)} == {8}


def test_all_but_each_documents_first_reading_comes_out_of_the_cache():
    asked = prefixes.calls(KIND, 0.25, 1)
    blocks = DOCUMENT // BLOCK_TOKENS * BLOCK_TOKENS
    expected = (len(asked) - DOCUMENTS) * blocks / sum(one.prompt for one in asked)
    assert seen(0.25, remembers=True).cached == pytest.approx(expected, rel=1e-9)


def test_without_its_cache_an_engine_finds_nothing_and_serves_less_in_time():
    without, with_it = (seen(1.2, remembers=remembers) for remembers in (False, True))
    assert (without.cached, without.rate) == (0.0, with_it.rate)
    assert without.in_time < 0.9 < prefixes.SHARE < with_it.in_time


def test_a_cache_that_cannot_keep_a_document_is_worth_nothing():
    tiny = msgspec.structs.replace(ENGINE, kv_tokens=DOCUMENT + 10 * BLOCK_TOKENS)
    assert seen(1.2, remembers=True, profile=tiny).cached < 0.5
    assert seen(1.2, remembers=True).cached > 0.9


def test_the_rate_held_is_the_last_that_was_in_time():
    rate, cached = prefixes.held(ENGINE, KIND, 1, remembers=True)
    assert seen(rate, remembers=True).in_time >= prefixes.SHARE
    assert seen(rate * prefixes.RATES, remembers=True).in_time < prefixes.SHARE
    assert cached == seen(rate, remembers=True).cached
    assert rate > 2 * prefixes.held(ENGINE, KIND, 1, remembers=False)[0]


def test_nothing_is_held_when_no_rate_is_in_time():
    asked = msgspec.structs.replace(KIND, goal=Goal(first_token_ms=0.001))
    assert prefixes.held(ENGINE, asked, 1, remembers=True) == (0.0, 0.0)


def test_a_scenario_without_goals_comes_to_an_end():
    free = msgspec.structs.replace(
        KIND, goal=Goal(), output=Length(median=1), prefix=Prefix(tokens=BLOCK_TOKENS)
    )
    rate, _ = prefixes.held(PROFILES["instant"], free, 1, remembers=True)
    assert prefixes.RATE_MAX / prefixes.RATES < rate <= prefixes.RATE_MAX


def written(folder: Path, prefix: int) -> str:
    path = folder / "small.yaml"
    path.write_text(f"""
title: small
arrivals: {{kind: poisson, rate: 1}}
duration_s: 60
kinds:
  - name: q
    prompt: {{median: 20, most: 60}}
    output: {{median: 8, most: 40}}
    prefix: {{tokens: {prefix}, documents: {DOCUMENTS}}}
    goal: {{first_token_ms: 100, token_ms: 0.001}}
""")
    return str(path)


def test_one_line_is_printed_for_each_profile_and_seed(tmp_path, capsys):
    names = ["qwen3-32b-fp8-h100", "cpu-embedded"]
    assert prefixes.main([*names, "--scenario", written(tmp_path, DOCUMENT), "--seeds", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(",")[0] for line in lines] == [names[0]] * 2 + [names[1]] * 2
    assert "seed 1: 0.00/s without, 0.00/s with its cache, 0% of prompt tokens" in lines[1]


def refused(capsys: pytest.CaptureFixture[str], *given: str) -> str:
    with pytest.raises(SystemExit) as ended:
        prefixes.main(given)
    assert ended.value.code == 2
    return capsys.readouterr().err


def test_what_cannot_be_tried_is_refused_with_its_reason(tmp_path, capsys):
    assert "no such profile" in refused(capsys, "nope")
    assert "no scenario 'nope'" in refused(capsys, "instant", "--scenario", "nope")
    assert "shares no `prefix`" in refused(capsys, "instant", "--scenario", "assessment")
    big = written(tmp_path, 22_900)
    said = "cpu-embedded: 23,000 tokens of one call do not fit in its memory"
    assert said in refused(capsys, "instant", "cpu-embedded", "--scenario", big)
