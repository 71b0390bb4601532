"""Ranking: within the objective, cheapest first, every exclusion with its reason."""

from __future__ import annotations

import msgspec
import pytest

from models import sizing
from models.prices import Price
from models.rank import FIRST_TOKEN_ERROR, Objective, Ranking, rank

KNOWN = sizing.load()
CHAT = Objective(
    first_token_s=2.0, per_token_s=0.05, prompt_tokens=1500, output_tokens=500, concurrency=64,
    context_tokens=32_768,
)  # fmt: skip
YUAN = {"a100-80": 10, "h100-80": 20, "h200-141": 25}


def price_of(gpu: str, _count: int) -> Price | None:
    yuan = YUAN.get(gpu)
    return None if yuan is None else Price(yuan * 1_000_000, "on_demand", 0, "test")


def ranked(card: str, objective: Objective = CHAT, *kinds: str) -> Ranking:
    rows = [KNOWN.gpus.gpu(name) for name in kinds or YUAN]
    return rank(KNOWN, KNOWN.catalog.cards[card], rows, objective, price_of)


def test_the_cheapest_comes_first_and_keeps_the_objective_with_its_error_added():
    found = ranked("qwen3-32b")
    costs = [choice.cny_per_mtok for choice in found.choices]
    assert costs == sorted(costs)
    for choice in found.choices:
        steady, error = choice.sized.steady, choice.sized.model.error
        assert steady.first_token_s * (1 + FIRST_TOKEN_ERROR) <= CHAT.first_token_s
        assert steady.per_token_s * (1 + error) <= CHAT.per_token_s
        assert choice.engines * choice.callers_max >= CHAT.concurrency


def test_the_cost_is_the_rent_over_the_tokens():
    choice = ranked("qwen3-32b").choices[0]
    tokens = choice.sized.steady.output_tokens_per_s * 3600 / 1e6
    rent = YUAN[choice.layout.gpu] * choice.layout.gpus
    assert choice.cny_per_mtok_output == pytest.approx(rent / tokens)
    assert choice.cny_per_mtok == pytest.approx(rent / (tokens * 4))  # 1,500 in for 500 out
    assert choice.cny_per_hour == rent * choice.engines
    assert choice.cny_per_mtok_full <= choice.cny_per_mtok * (1 + 1e-9)


def test_more_callers_take_more_engines_and_never_more_callers_an_engine_than_meet_it():
    many = msgspec.structs.replace(CHAT, concurrency=1000)
    for choice in ranked("qwen3-32b", many, "h100-80").choices:
        assert choice.engines == -(-1000 // choice.callers_max)


def test_a_tighter_objective_leaves_fewer_callers_or_none():
    loose = {c.layout: c.callers_max for c in ranked("qwen3-32b").choices}
    tight = ranked("qwen3-32b", msgspec.structs.replace(CHAT, per_token_s=0.02))
    assert 0 < len(tight.choices) < len(loose)
    assert all(choice.callers_max <= loose[choice.layout] for choice in tight.choices)
    impossible = ranked("qwen3-32b", msgspec.structs.replace(CHAT, per_token_s=0.001))
    assert not impossible.choices
    assert any("too slow even alone" in e.reason for e in impossible.excluded)


def test_every_layout_that_is_not_chosen_says_why():
    found = ranked("glm-5.2", CHAT, "a100-80", "h200-141")
    assert found.choices
    assert all(excluded.reason for excluded in found.excluded)
    assert all(c.layout.gpu == "h200-141" for c in found.choices)


def test_without_a_price_it_is_ranked_last_and_says_so():
    found = ranked("qwen3-8b", CHAT, "h20-96", "h100-80")
    assert found.choices[-1].layout.gpu == "h20-96"
    assert found.choices[-1].cny_per_mtok is None
    assert found.choices[0].cny_per_mtok is not None


def test_experts_are_offered_whole_only_where_it_makes_a_difference():
    layouts = [c.layout for c in ranked("qwen3.6-35b-a3b").choices]
    assert not [x for x in layouts if x.is_expert_parallel and x.data == 1]
    assert [x for x in layouts if x.data > 1]


def test_the_same_question_has_the_same_answer():
    assert ranked("qwen3-14b") == ranked("qwen3-14b")
