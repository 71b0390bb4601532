"""The OpenAI dialect: what is ours is set, what is theirs passes, what is wrong is named."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.codecs import openai
from serving.codecs.coverage import IGNORED, STANDARD, needs
from serving.codecs.media import MEDIA_BYTES
from serving.codecs.openai import FIELDS_MAX, N_MAX, RESERVED, TOKENS_MAX
from serving.errors import CallerError
from serving.records import Surface

CHAT = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


def parse(fields=None, surface=Surface.CHAT, **more):
    return openai.parse(surface, json.dumps({**(fields or CHAT), **more}).encode())


def refused(body, surface=Surface.CHAT):
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    with pytest.raises(CallerError) as caught:
        openai.parse(surface, body)
    return caught.value


def outcome(surface, body):
    try:
        openai.parse(surface, body)
    except CallerError as error:
        return error.code
    return "ok"


def call_of(make, parsed, surface=Surface.CHAT):
    return make.call(
        surface=surface, fields=parsed.fields, stream=parsed.stream,
        wants_usage=parsed.wants_usage, max_tokens=parsed.max_tokens, prompt=parsed.prompt,
    )  # fmt: skip


def engine(make, parsed, surface=Surface.CHAT):
    return json.loads(openai.engine_body(call_of(make, parsed, surface), "id-1", "salt"))


def provider(make, parsed, field="max_tokens", speaks=STANDARD):
    return json.loads(openai.provider_body(call_of(make, parsed), "upstream", field, speaks))


# -- what is read


def test_a_minimal_chat_is_read():
    parsed = parse()
    assert (parsed.model, parsed.max_tokens, parsed.stream) == ("m", None, False)
    assert (parsed.wants_usage, parsed.cache_key) == (False, "")
    assert json.loads(parsed.prompt) == CHAT["messages"]


def test_completions_and_tokenize_read_their_own_prompt():
    assert parse({"model": "m", "prompt": "p"}, Surface.COMPLETIONS).prompt == b'"p"'
    assert parse({"model": "m", "prompt": "p"}, Surface.TOKENIZE).prompt == b'"p"'
    assert parse(CHAT, Surface.TOKENIZE).prompt.startswith(b"[")


def test_tokenize_reads_nothing_else():
    parsed = parse({"model": "m", "prompt": "p", "stream": True, "n": -1}, Surface.TOKENIZE)
    assert (parsed.stream, parsed.max_tokens) == (False, None)


@pytest.mark.parametrize(
    ("more", "limit"),
    [
        ({"max_tokens": 5}, 5), ({"max_completion_tokens": 6}, 6),
        ({"max_tokens": 5, "max_completion_tokens": 6}, 6),
        ({"max_completion_tokens": 6, "max_tokens": 5}, 6),
        ({"max_tokens": 5, "max_completion_tokens": None}, 5),
        ({"max_tokens": None}, None), ({"max_tokens": TOKENS_MAX}, TOKENS_MAX),
    ],
)  # fmt: skip
def test_the_newer_of_two_limits_counts(more, limit):
    assert parse(**more).max_tokens == limit


def test_session_stream_and_usage_wishes_are_read():
    parsed = parse(stream=True, stream_options={"include_usage": True}, prompt_cache_key="k")
    assert (parsed.stream, parsed.wants_usage, parsed.cache_key) == (True, True, "k")
    nulls = parse(stream=None, stream_options=None, prompt_cache_key=None, n=None)
    assert (nulls.stream, nulls.wants_usage, nulls.cache_key) == (False, False, "")


# -- what is refused

WRONG = {
    "no model": ({"messages": [1]}, "model"),
    "empty model": ({**CHAT, "model": ""}, "model"),
    "null model": ({**CHAT, "model": None}, "model"),
    "model a number": ({**CHAT, "model": 5}, "model"),
    "no messages": ({"model": "m"}, "messages"),
    "null messages": ({**CHAT, "messages": None}, "messages"),
    "empty messages": ({**CHAT, "messages": []}, "messages"),
    "messages a text": ({**CHAT, "messages": "hi"}, "messages"),
    "messages an object": ({**CHAT, "messages": {"0": 1}}, "messages"),
    "stream a text": ({**CHAT, "stream": "true"}, "stream"),
    "stream a number": ({**CHAT, "stream": 1}, "stream"),
    "options a list": ({**CHAT, "stream_options": []}, "stream_options"),
    "usage a text": (
        {**CHAT, "stream_options": {"include_usage": "false"}}, "stream_options.include_usage"),
    "usage a number": (
        {**CHAT, "stream_options": {"include_usage": 1}}, "stream_options.include_usage"),
    "n a text": ({**CHAT, "n": "2"}, "n"),
    "n a truth": ({**CHAT, "n": True}, "n"),
    "n nothing": ({**CHAT, "n": 0}, "n"),
    "n too large": ({**CHAT, "n": N_MAX + 1}, "n"),
    "max_tokens zero": ({**CHAT, "max_tokens": 0}, "max_tokens"),
    "max_tokens negative": ({**CHAT, "max_tokens": -1}, "max_tokens"),
    "max_tokens a fraction": ({**CHAT, "max_tokens": 1.5}, "max_tokens"),
    "max_tokens absurd": ({**CHAT, "max_tokens": TOKENS_MAX + 1}, "max_tokens"),
    "max_tokens of 400 digits": ({**CHAT, "max_tokens": 10**400}, "max_tokens"),
    "limit a text": ({**CHAT, "max_completion_tokens": "9"}, "max_completion_tokens"),
    "cache key a list": ({**CHAT, "prompt_cache_key": []}, "prompt_cache_key"),
}  # fmt: skip


@pytest.mark.parametrize(("body", "param"), WRONG.values(), ids=WRONG)
def test_a_wrong_value_is_refused_and_named(body, param):
    error = refused(body)
    assert (error.code, error.param) == ("invalid_value", param)
    assert param in error.message


@pytest.mark.parametrize("prompt", [5, True, {"text": "x"}, None, ""], ids=str)
def test_a_completion_s_prompt_is_a_text_or_a_list(prompt):
    error = refused({"model": "m", "prompt": prompt}, Surface.COMPLETIONS)
    assert (error.code, error.param) == ("invalid_value", "prompt")


@pytest.mark.parametrize(
    ("prompt", "choices"), [("one", 2), (["a", "b", "c"], 6), ([[1, 2], [3]], 4), ([1, 2, 3], 2)]
)
def test_an_answer_has_n_choices_for_each_prompt(prompt, choices):
    body = {"model": "m", "prompt": prompt, "n": 2}
    assert parse(body, Surface.COMPLETIONS).n == choices


@pytest.mark.parametrize("prompt", [b"[ ]", b"[" + b'"a",' * 128 + b'"a"]'], ids=["0", "129"])
def test_a_list_of_no_prompts_or_too_many_is_refused(prompt):
    error = refused(b'{"model":"m","prompt":' + prompt + b"}", Surface.COMPLETIONS)
    assert (error.code, error.param) == ("invalid_value", "prompt")


def test_numbers_too_long_to_read_are_refused_by_name():
    body = b'{"model":"m","messages":[1],"max_tokens":' + b"9" * 5000 + b"}"
    assert refused(body).param == "max_tokens"


NOT_JSON = {
    "nothing": b"", "half": b'{"model":', "list": b"[]", "text": b'"x"', "null": b"null",
    "byte order mark": b"\xef\xbb\xbf{}", "two values": b"{} {}", "nan": b'{"temperature":NaN}',
    "trailing comma": b'{"a":[1,],"model":"m"}', "lone surrogate": b'{"model":"\\ud800"}',
    "control character": b'{"model":"a\nb"}', "wrong escape": b'{"model":"\\x41"}',
}  # fmt: skip


@pytest.mark.parametrize("body", NOT_JSON.values(), ids=NOT_JSON)
def test_what_is_no_json_object_is_refused(body):
    assert refused(body).code == "invalid_json"


@pytest.mark.parametrize("body", [b"\xff", b'{"model":"\xc3("}', "{}".encode("utf-16")])
def test_what_is_not_utf8_is_refused_with_its_place(body):
    error = refused(body)
    assert error.code == "invalid_encoding"
    assert "byte" in error.message


@pytest.mark.parametrize("where", ["messages", "model", "stream_options", "unknown"])
def test_depth_bombs_of_any_depth_are_answered_and_not_fatal(where):
    for depth in (*range(960, 1004), 200_000):
        bomb = b"[" * depth + b"]" * depth
        fields = {b"model": b'"m"', b"messages": b'[{"role":"user","content":"_url"}]'}
        body = b",".join(b'"%b":%b' % pair for pair in (fields | {where.encode(): bomb}).items())
        assert outcome(Surface.CHAT, b"{" + body + b"}") in ("ok", "invalid_json", "invalid_value")


def test_a_depth_bomb_among_media_is_walked_without_recursion():
    for depth in range(500, 1000, 50):
        bomb = b"[" * depth + b'"http://x/_url"' + b"]" * depth
        body = b'{"model":"m","messages":[{"content":[{"image_url":%b}]}]}' % bomb
        assert refused(body).code in ("remote_media_refused", "invalid_json", "invalid_value")


def test_a_body_of_countless_members_is_refused():
    many = {str(n): 1 for n in range(FIELDS_MAX - 2)}
    assert len(parse(**many).fields) == FIELDS_MAX
    assert refused({**CHAT, **many, "x": 1}).code == "invalid_value"


@settings(max_examples=100)
@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_no_bytes_raise_anything_but_a_caller_s_error(body):
    for surface in Surface:
        assert outcome(surface, body) == "ok" or outcome(surface, body).startswith("invalid")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner,
                                                                max_size=3),
    max_leaves=8,
)  # fmt: skip


@settings(max_examples=100)
@given(st.dictionaries(
    st.sampled_from(["model", "messages", "prompt", "stream", "stream_options", "n", "max_tokens",
                     "prompt_cache_key"]), json_values))  # fmt: skip
def test_no_value_of_any_type_raises_anything_but_a_caller_s_error(make, fields):
    for surface in Surface:
        try:
            parsed = openai.parse(surface, json.dumps(fields).encode())
        except CallerError:
            continue
        call = call_of(make, parsed, surface)
        assert json.loads(openai.engine_body(call, "i", "s"))["model"] == "m"
        assert json.loads(openai.provider_body(call, "u", "max_tokens", STANDARD))


# -- media

URL = "http://169.254.169.254/x.png"
PNG = "data:image/png;base64,AAAA"
REMOTE = {
    "image": {"type": "image_url", "image_url": {"url": URL}},
    "image as text": {"type": "image_url", "image_url": URL},
    "without type": {"image_url": URL},
    "wrong type": {"type": 5, "image_url": {"url": URL}},
    "upper case": {"type": "image_url", "image_url": {"url": "HTTPS://X/"}},
    "file": {"type": "image_url", "image_url": {"url": "file:///etc/passwd"}},
    "relative": {"type": "image_url", "image_url": {"url": "//host/x"}},
    "blank before": {"type": "image_url", "image_url": {"url": " data:x"}},
    "upper case data": {"type": "image_url", "image_url": {"url": "DATA:x"}},
    "empty": {"type": "image_url", "image_url": {"url": ""}},
    "video": {"type": "video_url", "video_url": {"url": URL}},
    "audio": {"type": "audio_url", "audio_url": {"url": URL}},
    "input image": {"type": "input_image", "image_url": URL},
    "frames": {"type": "video", "video": [PNG, URL]},
    "audio address as data": {"type": "input_audio", "input_audio": {"data": URL}},
    "file by address": {"type": "file", "file": {"file_url": URL}},
    "file data by address": {"type": "file", "file": {"file_data": "oss://bucket/x"}},
    "deeper": {"type": "image_url", "image_url": {"url": {"url": URL}}},
    "listed": {"type": "image_url", "image_url": [{"url": URL}]},
    "in a tool result": {"type": "tool_result", "content": [{"image_url": {"url": URL}}]},
    "calls itself text": {"type": "text", "text": "x", "uuid": "1", "image_url": URL},
    "calls itself input text": {"type": "input_text", "text": "x", "image_url": {"url": URL}},
    "other keys": {"type": "image_url", "image_url": {"detail": "low", "url": URL}},
}


@pytest.mark.parametrize("role", ["user", "system", "tool", "assistant", "developer"])
@pytest.mark.parametrize("part", REMOTE.values(), ids=REMOTE)
def test_remote_media_is_refused_in_every_disguise(part, role):
    text = {"type": "text", "text": "look"}
    messages = [{"role": "user", "content": "x"}, {"role": role, "content": [text, part]}]
    error = refused({"model": "m", "messages": messages})
    assert (error.code, error.param) == ("remote_media_refused", "messages")
    assert "169.254" not in error.message
    assert refused({"model": "m", "messages": messages}, Surface.TOKENIZE).code == error.code


@pytest.mark.parametrize("letters", ["_", "u", "r", "image_url", "i"])
def test_escaped_letters_hide_no_media(letters):
    escaped = "".join(f"\\u{ord(c):04x}" for c in letters)
    for word in ("image_url", "url"):
        if letters not in word:
            continue
        raw = json.dumps([{"content": [REMOTE["image"]]}]).replace(
            f'"{word}"', f'"{word.replace(letters, escaped)}"'
        )
        body = f'{{"model":"m","messages":{raw}}}'
        assert refused(body.encode()).code == "remote_media_refused"
    solidus = json.dumps([{"content": [REMOTE["image"]]}]).replace("/", "\\/")
    body = f'{{"model":"m","messages":{solidus}}}'
    assert refused(body.encode()).code == "remote_media_refused"


def test_the_last_of_two_equal_keys_counts_as_it_does_at_the_engine():
    first, last = '{"type":"text","text":"x",', '"image_url":{"url":"data:x"},'
    part = first + last + '"image_url":{"url":"http://x"}}'
    body = f'{{"model":"m","messages":[{{"content":[{part}]}}]}}'
    assert refused(body.encode()).code == "remote_media_refused"


LOCAL = {
    "image": {"type": "image_url", "image_url": {"url": PNG}},
    "image as text": {"type": "input_image", "image_url": PNG},
    "audio": {"type": "input_audio", "input_audio": {"data": "//uQxAAA", "format": "mp3"}},
    "file": {"type": "file", "file": {"file_data": PNG, "filename": "c:/x.pdf"}},
    "by id only": {"type": "image_url", "image_url": None, "uuid": "1"},
    "text with an address": {"type": "text", "text": "see http://x.example/image_url"},
    "text that is an address": {"type": "text", "text": "https://x.example/a_url"},
    "thought": {"type": "thinking", "thinking": "http://x_url"},
}


@pytest.mark.parametrize("part", LOCAL.values(), ids=LOCAL)
def test_media_that_came_along_and_plain_text_pass(part):
    assert parse({"model": "m", "messages": [{"role": "user", "content": [part]}]})


@pytest.mark.parametrize("size", [0, 10, 100_000])
@pytest.mark.parametrize("count", [1, 3])
def test_inline_media_count_as_much_whatever_their_size(size, count):
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * size}}
    audio = {"type": "input_audio", "input_audio": {"data": "B" * (size + 1), "format": "mp3"}}
    text = {"type": "text", "text": "data: is only a word here, however long " * 50}
    for part in (image, audio):
        parts = [text, *[part] * count]
        parsed = parse({"model": "m", "messages": [{"role": "user", "content": parts}]})
        data = part.get("image_url", part.get("input_audio"))
        inside = len(data.get("url") or data["data"])
        expected = len(parsed.prompt) - count * inside + count * MEDIA_BYTES
        assert parsed.text_bytes == expected
        assert parsed.text_bytes > len(text["text"]), "its text counts in full"


def test_a_prompt_without_media_counts_its_own_bytes():
    for parsed in (
        parse(), parse({"model": "m", "prompt": "data:x"}, Surface.COMPLETIONS),
        parse({"model": "m", "messages": [{"role": "user", "content": "data:image_url"}]}),
        parse({"model": "m", "messages": [{"content": [{"type": "text", "text": "a_url"}]}]}),
        parse(CHAT, Surface.TOKENIZE),
    ):  # fmt: skip
        assert parsed.text_bytes == len(parsed.prompt)


@pytest.mark.parametrize(("more", "n"), [({}, 1), ({"n": None}, 1), ({"n": 1}, 1), ({"n": 5}, 5)])
def test_the_number_of_answers_asked_for_is_read(more, n):
    assert parse(**more).n == n
    assert parse(CHAT, Surface.TOKENIZE, **more).n == 1


@pytest.mark.parametrize(
    "messages",
    [
        [{"role": "user", "content": "http://x/image_url \u00e9"}],
        [{"role": "user", "content": {"image_url": "x"}}], ["image_url"], [["_url"]],
        [{"role": "user", "content": ["http://x/_url", None, 5]}],
    ],
)  # fmt: skip
def test_only_parts_hold_media(messages):
    if isinstance(messages[0], dict) and isinstance(messages[0]["content"], list):
        assert refused({"model": "m", "messages": messages}).code == "remote_media_refused"
    else:
        assert parse({"model": "m", "messages": messages})


# -- what leaves


@pytest.mark.parametrize("name", sorted(RESERVED))
def test_reserved_fields_of_callers_reach_no_target(make, name):
    parsed = parse(**{name: "theirs"})
    assert engine(make, parsed).get(name) != "theirs"
    assert name not in provider(make, parsed)
    tokens = parse(CHAT, Surface.TOKENIZE, **{name: "theirs"})
    assert name not in engine(make, tokens, Surface.TOKENIZE)


@pytest.mark.parametrize("name", sorted(RESERVED))
def test_neither_doubling_nor_escaping_a_key_smuggles_a_reserved_field(make, name):
    escaped = "".join(f"\\u{ord(c):04x}" for c in name)
    body = f'{{"{name}":"one","model":"m","messages":[1],"{escaped}":"two","{name}":"three"}}'
    parsed = openai.parse(Surface.CHAT, body.encode())
    call = call_of(make, parsed)
    for out in (
        openai.engine_body(call, "id-1", "salt"),
        openai.provider_body(call, "u", "max_tokens", STANDARD),
    ):
        assert not any(word in out for word in (b"one", b"two", b"three"))
        assert out.count(name.encode()) <= 1


def test_our_own_fields_are_set(make):
    out = engine(make, parse(model="alias"))
    assert (out["model"], out["request_id"], out["cache_salt"]) == ("m", "id-1", "salt")
    assert "stream_options" not in out


@given(st.dictionaries(st.text(min_size=1, max_size=8), json_values, max_size=5))
def test_unknown_fields_pass_byte_for_byte(make, more):
    more = {f"x_{key}": value for key, value in more.items()}
    spaced = json.dumps({**CHAT, **more}, indent=1).encode()
    parsed = openai.parse(Surface.CHAT, spaced)
    raw = msgspec.json.decode(spaced, type=dict[str, msgspec.Raw])
    out = openai.engine_body(call_of(make, parsed), "i", "s")
    sent = msgspec.json.decode(out, type=dict[str, msgspec.Raw])
    assert all(bytes(sent[key]) == bytes(raw[key]) for key in ("messages", *more))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("absent", {"include_usage": True}),
        (None, {"include_usage": True}),
        ({}, {"include_usage": True}),
        ({"include_usage": False}, {"include_usage": True}),
        ({"include_usage": None}, {"include_usage": True}),
        ({"include_usage": True, "x": 1}, {"include_usage": True, "x": 1}),
        ({"continuous_usage_stats": True}, {"continuous_usage_stats": True, "include_usage": True}),
    ],
    ids=str,
)
def test_usage_is_always_asked_for_on_streams_beside_what_the_caller_wants(make, options, expected):
    more = {} if options == "absent" else {"stream_options": options}
    parsed = parse(stream=True, **more)
    assert engine(make, parsed)["stream_options"] == expected
    assert provider(make, parsed)["stream_options"] == expected


def test_a_plain_call_s_options_are_left_to_the_engine_to_judge(make):
    parsed = parse(stream_options={"include_usage": True})
    assert engine(make, parsed)["stream_options"] == {"include_usage": True}


def test_a_provider_gets_its_own_model_name_and_no_dropped_field(make):
    out = provider(make, parse(seed=1, n=2, temperature=0.5), speaks=STANDARD - {"seed", "n"})
    assert out == {"model": "upstream", "messages": CHAT["messages"], "temperature": 0.5}


def test_only_members_it_is_known_to_know_reach_a_provider(make):
    """Also not those that nobody had thought of when this was written."""
    more = {"guided_choice": ["a"], "top_k": 5, "x_new": 1, "temperature": 0.1, "n": 1}
    ours = dict.fromkeys(IGNORED, "theirs")
    out = provider(make, parse(**more, **ours))
    assert set(out) == {"model", "messages", "temperature", "n"}
    out = provider(make, parse(**more), speaks=STANDARD | {"top_k"})
    assert set(out) == {"model", "messages", "temperature", "n", "top_k"}


@pytest.mark.parametrize("name", ["user", "metadata", "store", "service_tier"])
def test_what_stores_tags_or_costs_at_a_third_party_is_never_sent(make, name):
    assert name in IGNORED
    parsed = parse(**{name: "default"})
    assert name not in provider(make, parsed)
    assert needs(parsed.fields, RESERVED) <= STANDARD, "and does not keep the call from it"
    assert engine(make, parsed)[name] == "default"


# -- what a target must know

TRIVIAL = [
    ("n", 1), ("best_of", 1), ("n", None), ("guided_choice", None), ("guided_json", {}),
    ("guided_choice", []), ("use_beam_search", False), ("guided_regex", ""), ("user", "u"),
    *((name, "x") for name in sorted(RESERVED)),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value"), TRIVIAL)
def test_a_member_that_changes_nothing_need_not_be_known(name, value):
    assert needs(parse(**{name: value}).fields, RESERVED) == {"model", "messages"}


@pytest.mark.parametrize(
    ("name", "value"),
    [("n", 2), ("best_of", 2), ("top_k", 5), ("top_k", 1), ("top_k", 0), ("ignore_eos", True),
     ("guided_choice", ["a", "b"]), ("guided_regex", "a+"), ("x_unheard_of", {"a": None})],
)  # fmt: skip
def test_a_member_that_changes_the_answer_must_be_known(name, value):
    assert needs(parse(**{name: value}).fields, RESERVED) == {"model", "messages", name}


@pytest.mark.parametrize("text", ["null", " null", "[ ]", "{ }"])
def test_blanks_around_nothing_are_nothing(text):
    body = f'{{"model":"m","messages":[1],"top_k":{text} , "n":\n1\t}}'
    parsed = openai.parse(Surface.CHAT, body.encode())
    found = needs(parsed.fields, RESERVED)
    assert found - {"top_k"} == {"model", "messages"}
    if "null" in text:
        assert "top_k" not in found


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
@pytest.mark.parametrize(
    ("more", "limit"),
    [
        ({"max_tokens": 5}, 5), ({"max_completion_tokens": 6}, 6),
        ({"max_tokens": 5, "max_completion_tokens": 6}, 6),
        ({"max_completion_tokens": 6, "max_tokens": 5}, 6),
        ({"max_tokens": 5, "max_completion_tokens": None}, 5),
        ({"max_tokens": None}, None), ({}, None),
    ],
)  # fmt: skip
def test_a_provider_gets_the_limit_that_we_read_under_its_own_name(make, field, more, limit):
    parsed = parse(**more)
    out = provider(make, parsed, field)
    sent = {name: out[name] for name in ("max_tokens", "max_completion_tokens") if name in out}
    assert sent == ({} if limit is None else {field: limit})
    assert parsed.max_tokens == limit
