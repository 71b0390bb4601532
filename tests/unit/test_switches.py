"""Thinking switched by other dialects' words reaches an engine of ours in its own."""

from __future__ import annotations

import json

import pytest

from serving.codecs import openai
from serving.records import Surface
from serving.rescue import may_go_on

OFF, ON = {"enable_thinking": False}, {"enable_thinking": True}


def told(make, **more):
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": True} | more
    parsed = openai.parse(Surface.CHAT, json.dumps(body).encode())
    call = make.call(fields=parsed.fields, stream=parsed.stream, prompt=parsed.prompt)
    return call, json.loads(openai.engine_body(call, "i", "s")).get("chat_template_kwargs")


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"enable_thinking": False}, OFF),
        ({"enable_thinking": True}, ON),
        ({"thinking": {"type": "disabled"}}, OFF),
        ({"thinking": {"type": "enabled", "budget_tokens": 9}}, ON),
        ({"enable_thinking": None, "thinking": None}, None),
        ({"enable_thinking": "no"}, None),
        ({"enable_thinking": False, "chat_template_kwargs": None}, OFF),
        ({"enable_thinking": False, "chat_template_kwargs": {"tone": 1}}, OFF | {"tone": 1}),
        ({"enable_thinking": True, "chat_template_kwargs": OFF}, OFF),
        ({"enable_thinking": True, "chat_template_kwargs": "wrong"}, "wrong"),
        ({"thinking": {"type": "disabled"}, "enable_thinking": False,
          "chat_template_kwargs": {"enable_thinking": False, "thinking": False}},
         {"enable_thinking": False, "thinking": False}),
        ({}, None),
    ],
    ids=str,
)  # fmt: skip
def test_an_engine_is_told_in_its_own_words_and_the_callers_own_words_stand(make, said, expected):
    assert told(make, **said)[1] == expected


def test_what_cannot_be_read_is_left_to_the_engine(make):
    body = b'{"model":"m","messages":[{"role":"user","content":"hi"}],"enable_thinking":false,'
    parsed = openai.parse(Surface.CHAT, body + b'"chat_template_kwargs":{"a":1e999}}')
    call = make.call(fields=parsed.fields, prompt=parsed.prompt)
    assert b'"chat_template_kwargs":{"a":1e999}' in openai.engine_body(call, "i", "s")


def test_a_call_that_switches_thinking_off_may_still_go_on_elsewhere(make):
    assert may_go_on(told(make, enable_thinking=False)[0])
    assert may_go_on(told(make, thinking={"type": "disabled"})[0])
    assert not may_go_on(told(make, thinking_budget=5)[0])
