"""Wishes about thinking: every caller's spelling becomes the target's, or keeps the call away."""

from __future__ import annotations

import json

import pytest

from models.provider import FOLDER, load
from models.thinking import BUDGET, EFFORT, OFF, ON, Wish, nearest, wish
from serving.codecs import coverage, wording

ROWS = load(FOLDER)
SPELLINGS = [
    ({"chat_template_kwargs": {"enable_thinking": False}}, Wish(is_on=False)),
    ({"chat_template_kwargs": {"thinking": True}}, Wish(is_on=True)),
    ({"enable_thinking": True, "thinking_budget": 500}, Wish(is_on=True, budget=500)),
    ({"thinking": {"type": "disabled"}}, Wish(is_on=False)),
    ({"thinking": {"type": "enabled", "budget_tokens": 9}}, Wish(is_on=True, budget=9)),
    ({"reasoning_effort": "none"}, Wish(is_on=False)),
    ({"reasoning_effort": "high"}, Wish(effort="high")),
    ({"reasoning_effort": "none", "enable_thinking": True}, Wish(is_on=True)),
    ({"reasoning_effort": None, "thinking": None}, Wish()),
    ({}, Wish()),
]  # fmt: skip
MORE = [
    ({"chat_template_kwargs": {"enable_thinking": False, "tone": 1}}, "chat_template_kwargs"),
    ({"thinking": {"type": "enabled", "clear_thinking": False}}, "thinking"),
    ({"thinking": "yes"}, "thinking"),
    ({"enable_thinking": "yes"}, "enable_thinking"),
    ({"thinking_budget": 1.5}, "thinking_budget"),
    ({"reasoning_effort": "somewhat"}, "reasoning_effort"),
]  # fmt: skip


@pytest.mark.parametrize(("members", "meant"), SPELLINGS, ids=lambda v: str(v)[:60])
def test_every_spelling_is_understood(members, meant):
    assert wish(members) == meant


@pytest.mark.parametrize(("members", "name"), MORE, ids=lambda v: str(v)[:60])
def test_what_is_more_than_a_wish_stays_a_need_of_its_own(members, name):
    assert name in wish(members).needs


def needs(make, **fields):
    return coverage.needs(make.chat(**fields).fields, frozenset())


def speaks(provider, model):
    row = ROWS[provider]
    return coverage.spoken(row, next(sold for sold in row.models if sold.id == model))


def test_thinking_off_is_a_need_though_false_is_nothing_elsewhere(make):
    assert needs(make, enable_thinking=False) >= {OFF}
    assert needs(make, chat_template_kwargs={"enable_thinking": False}) >= {OFF}
    assert OFF not in needs(make, logprobs=False)


def test_a_model_that_cannot_stop_thinking_is_no_candidate_for_a_call_that_wants_it_to(make):
    wanted = needs(make, enable_thinking=False)
    assert not wanted <= speaks("zhipu-cn", "glm-5.3")
    assert wanted <= speaks("zhipu-cn", "glm-5.2")
    assert needs(make, enable_thinking=True) <= speaks("zhipu-cn", "glm-5.3")
    assert not wanted <= speaks("anthropic", "claude-opus-5-5")
    assert not wanted <= speaks("huawei-cn", "glm-5.2")


def test_a_budget_goes_only_where_there_is_one(make):
    wanted = needs(make, thinking={"type": "enabled", "budget_tokens": 99})
    assert wanted >= {ON, BUDGET}
    assert wanted <= speaks("alibaba-cn", "qwen3.8-max")
    assert not wanted <= speaks("deepseek", "deepseek-flash")


OFF_WISH = {"chat_template_kwargs": {"enable_thinking": False}}
WORDED = [
    ("alibaba-cn", OFF_WISH, {"enable_thinking": False}),
    ("alibaba-cn", {"thinking": {"type": "enabled", "budget_tokens": 9}},
     {"enable_thinking": True, "thinking_budget": 9}),
    ("zhipu-cn", OFF_WISH, {"thinking": {"type": "disabled"}}),
    ("volcengine-cn", {"enable_thinking": True}, {"thinking": {"type": "enabled"}}),
    ("moonshot-intl", {"reasoning_effort": "none"}, {"thinking": {"type": "disabled"}}),
    ("deepseek", {"reasoning_effort": "low"}, {"reasoning_effort": "high"}),
    ("openai", OFF_WISH, {"reasoning_effort": "none"}),
    ("openrouter", {"reasoning_effort": "low"}, {"reasoning": {"effort": "low"}}),
    ("siliconflow-cn", {"thinking": {"type": "disabled"}}, {"enable_thinking": False}),
]  # fmt: skip


@pytest.mark.parametrize(("provider", "asked", "said"), WORDED, ids=lambda v: str(v)[:50])
def test_a_wish_is_sent_in_the_provider_s_words_alone(make, provider, asked, said):
    row = ROWS[provider]
    offering = make.offering(speaks=coverage.spoken(row, row.models[0]) | {OFF, ON, EFFORT})
    body = json.loads(wording.openai_body(make.chat(**asked), offering, row, 0))
    spellings = {"chat_template_kwargs", "enable_thinking", "thinking", "thinking_budget",
                 "reasoning_effort", "reasoning"}  # fmt: skip
    assert {name: body[name] for name in spellings & body.keys()} == said


def test_a_call_without_wishes_is_not_touched(make):
    fields = make.chat(temperature=0.1).fields
    assert wording.translated(fields, ROWS["zhipu-cn"]) is fields


@pytest.mark.parametrize(
    ("asked", "known", "sent"),
    [("low", ("high", "max"), "high"), ("max", ("low", "high"), "high"),
     ("medium", ("low", "medium"), "medium"), ("minimal", (), "minimal")],
)  # fmt: skip
def test_an_effort_nobody_knows_there_becomes_the_next_above(asked, known, sent):
    assert nearest(asked, known) == sent
