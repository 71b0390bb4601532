"""What is kept under which key, how long, and how answers are cut and joined."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from serving.cache import inputs, keys
from serving.cache.settings import CacheSettings
from serving.cache.shelf import OVERHEAD_BYTES, Shelf
from serving.codecs import openai
from serving.records import (
    Call,
    Caller,
    LatencyClass,
    Overflow,
    Policy,
    Residency,
    ResidencyLevel,
    Surface,
)
from serving.settings import Model

CALLER = Caller("k", "acme", "p", Policy(residency=Residency(ResidencyLevel.ANYWHERE)))


def call(surface: Surface = Surface.CHAT, changes: dict[str, Any] | None = None, **body: Any):
    if surface is Surface.CHAT:
        body = {"messages": [{"role": "user", "content": "hi"}]} | body
    parsed = openai.parse(surface, json.dumps({"model": "m"} | body).encode())
    made = Call(
        "a" * 32, surface, "acme", "m", "m", parsed.fields, 0.0, 0, 1.0, 2.0,
        LatencyClass.INTERACTIVE, parsed.prompt, 9, 100, parsed.max_tokens, parsed.stream,
        parsed.wants_usage, 0, n=parsed.n,
    )  # fmt: skip
    return msgspec.structs.replace(made, **(changes or {}))


def key(one: Call, caller: Caller = CALLER, weights: bytes = b"w") -> bytes:
    return keys.base(one, caller, weights, ("model",)).digest()


def test_the_least_used_goes_first_and_the_old_go_at_all() -> None:
    shelf = Shelf(8 * (OVERHEAD_BYTES + 10), 60.0)
    for n in range(8):
        shelf.put(b"%d" % n, b"x" * 10, 0.0)
    assert shelf.get(b"0", 1.0) == b"x" * 10
    shelf.put(b"8", b"x" * 10, 1.0)
    assert shelf.get(b"1", 1.0) is None
    assert shelf.get(b"0", 1.0) is not None
    assert shelf.get(b"0", 60.1) is None
    assert len(shelf) == 7
    assert shelf.bytes == 7 * (OVERHEAD_BYTES + 10)


def test_what_would_take_a_quarter_is_not_kept_and_nothing_is_with_no_room() -> None:
    shelf = Shelf(4000, 60.0)
    shelf.put(b"large", b"x" * 1000, 0.0)
    assert len(shelf) == 0
    shelf.put(b"a", b"one", 0.0)
    shelf.put(b"a", b"two", 0.0)
    assert (shelf.get(b"a", 0.0), len(shelf), shelf.bytes) == (b"two", 1, OVERHEAD_BYTES + 3)
    none = Shelf(0, 60.0)
    none.put(b"a", b"", 0.0)
    assert len(none) == 0


def test_a_key_differs_in_all_that_could_change_an_answer_and_in_nothing_else() -> None:
    plain = key(call(seed=1))
    assert key(call(seed=1, user="me", metadata={"a": "b"})) == plain
    assert key(call(seed=1, changes={"request_id": "b" * 32, "session": "s"})) == plain
    tight = Residency(ResidencyLevel.MAINLAND)
    others = [
        key(call(seed=2)), key(call(seed=1, max_tokens=5)), key(call(seed=1, unknown=1)),
        key(call(seed=1, changes={"tenant": "acme/shop"})),
        key(call(seed=1, changes={"adapter": "tuned"})),
        key(call(seed=1, changes={"residency": tight})), key(call(seed=1), weights=b"other"),
    ]  # fmt: skip
    assert len({plain, *others}) == len(others) + 1


@pytest.mark.parametrize("surface", [Surface.CHAT, Surface.EMBEDDINGS])
def test_what_a_third_party_may_have_said_is_not_found_by_a_key_that_stays_home(surface) -> None:
    one = call(surface, seed=1) if surface is Surface.CHAT else call(surface, input="a")
    allowed = Policy(overflow=Overflow.ALLOWED, residency=CALLER.policy.residency)
    leaving = msgspec.structs.replace(CALLER, policy=allowed)
    assert key(one, leaving) != key(one, CALLER)


def test_two_members_do_not_run_together_into_one() -> None:
    one = call(changes={"fields": {"a": msgspec.Raw(b"1"), "b1": msgspec.Raw(b"2")}})
    two = call(changes={"fields": {"a": msgspec.Raw(b"1b"), "1": msgspec.Raw(b"2")}})
    assert key(one) != key(two)


def test_other_weights_or_another_engine_have_another_identity() -> None:
    models = [
        Model(name="m"), Model(name="m", weights="Qwen/E"),
        Model.model_validate({"name": "m", "engine": {"source": "embedded"}}),
        Model.model_validate({"name": "m", "engine": {"spec": {"revision": "abc"}}}),
    ]  # fmt: skip
    assert len({keys.identity(model) for model in models}) == 4


GIVEN = CacheSettings.model_validate({"answers": [{"tenant": "acme", "models": ["m"]}]})


@pytest.mark.parametrize(
    ("body", "changes", "may"),
    [
        ({"temperature": 0}, {}, True),
        ({"temperature": 0.0}, {}, True),
        ({"seed": -4}, {}, True),
        ({"temperature": 0, "tools": []}, {}, True),
        ({"temperature": 0, "tool_choice": "none"}, {}, True),
        ({}, {}, False),
        ({"temperature": 0.1}, {}, False),
        ({"seed": None}, {}, False),
        ({"seed": 1, "stream": True}, {}, False),
        ({"seed": 1, "n": 2}, {}, False),
        ({"seed": 1, "logprobs": True}, {}, False),
        ({"seed": 1, "tools": [{"type": "function"}]}, {}, False),
        ({"seed": 1}, {"tenant": "acme/shop"}, True),
        ({"seed": 1}, {"tenant": "beta"}, False),
        ({"seed": 1}, {"alias": "x", "model": "y"}, False),
        ({"seed": 1}, {"pin": "own"}, False),
    ],
)
def test_an_answer_is_kept_only_where_asked_for_and_if_it_comes_out_the_same(
    body, changes, may
) -> None:
    assert keys.may_keep(call(changes=changes, **body), GIVEN) is may


@pytest.mark.parametrize(
    ("given", "count"),
    [("text", 1), (["a", "b"], 2), ([[1, 2], [3]], 2), ([1, 2], None), ([["a"], "b"], None)],
    ids=["a text", "texts", "prompts in tokens", "one prompt in tokens", "a mixture"],
)
def test_inputs_are_told_apart_where_they_stand_apart(given, count) -> None:
    found = inputs.read(call(Surface.EMBEDDINGS, input=given))
    assert (None if found is None else len(found.each)) == count


def test_a_reduced_call_asks_for_what_is_unknown_and_for_all_of_it() -> None:
    whole = call(Surface.RERANK, query="q", documents=["a", "bb", "c"], top_n=1, model="m")
    asked = inputs.read(whole)
    assert asked is not None
    assert asked.top_n == 1
    less = inputs.reduced(whole, asked, (0, 2))
    assert json.loads(bytes(less.fields["documents"])) == ["a", "c"]
    assert "top_n" not in less.fields
    assert less.prompt_tokens == 60


@pytest.mark.parametrize(
    "rows",
    [
        [{"index": 0}], [{"index": 0}, {"index": 0}], [{"index": 0}, {"index": 2}],
        [{"index": 0}, {"index": "1"}], [{"index": 0}, {}], "none",
    ],
    ids=["too few", "twice", "beyond", "no number", "no index", "no rows"],
)  # fmt: skip
def test_an_answer_that_does_not_answer_each_input_once_teaches_nothing(rows) -> None:
    asked = call(Surface.EMBEDDINGS, input=["a", "b"])
    assert inputs.rows(asked, json.dumps({"data": rows}).encode(), 2) is None
    assert inputs.rows(asked, b"{}", 2) is None
