"""Bodies and answers of embeddings, rerankings and scores."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.codecs import openai, pooling
from serving.errors import CallerError
from serving.records import Surface, Usage
from serving.wire.sse import TOKENS_MAX, StreamFault

PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 9000}}


def parse(surface: Surface, **body: Any) -> openai.Parsed:
    return openai.parse(surface, json.dumps({"model": "m"} | body).encode())


@pytest.mark.parametrize(
    ("surface", "body"),
    [
        (Surface.EMBEDDINGS, {"input": "hello"}),
        (Surface.EMBEDDINGS, {"input": ["a", "b"], "encoding_format": "base64"}),
        (Surface.EMBEDDINGS, {"input": [1, 2, 3], "dimensions": 256}),
        (Surface.EMBEDDINGS, {"messages": [{"role": "user", "content": "hi"}]}),
        (Surface.RERANK, {"query": "q", "documents": ["a", "b"], "top_n": 1}),
        (Surface.SCORE, {"text_1": "a", "text_2": ["b"]}),
        (Surface.SCORE, {"queries": "a", "documents": ["b"]}),
        (Surface.SCORE, {"queries": "a", "items": ["b"]}),
        (Surface.SCORE, {"data_1": "a", "data_2": "b", "stream": False}),
    ],
)
def test_a_prompt_is_read_and_nothing_is_to_be_generated(
    surface: Surface, body: dict[str, Any]
) -> None:
    parsed = parse(surface, **body)
    assert (parsed.max_tokens, parsed.stream, parsed.n) == (0, False, 1)
    assert 0 < parsed.text_bytes <= len(parsed.prompt)


@pytest.mark.parametrize(
    ("surface", "body", "param"),
    [
        (Surface.EMBEDDINGS, {}, "input"),
        (Surface.EMBEDDINGS, {"input": []}, "input"),
        (Surface.EMBEDDINGS, {"input": "a", "stream": True}, "stream"),
        (Surface.EMBEDDINGS, {"input": "a", "encoding_format": "bytes"}, "encoding_format"),
        (Surface.RERANK, {"query": "q"}, "query"),
        (Surface.RERANK, {"query": "", "documents": ["a"]}, "query"),
        (Surface.RERANK, {"query": "q", "documents": None}, "documents"),
        (Surface.SCORE, {"text_1": "a", "documents": ["b"]}, "text_1"),
    ],
)
def test_what_is_missing_is_refused_by_name(
    surface: Surface, body: dict[str, Any], param: str
) -> None:
    with pytest.raises(CallerError) as refused:
        parse(surface, **body)
    assert refused.value.param == param


def test_a_picture_counts_a_fixed_size_wherever_it_stands() -> None:
    bare = parse(Surface.RERANK, query="q", documents=[{"content": [PICTURE]}])
    assert bare.text_bytes < 5000 < len(bare.prompt)


@pytest.mark.parametrize(
    "body",
    [
        {"documents": [{"content": [{"type": "image_url", "image_url": {"url": "http://x/y"}}]}]},
        {"documents": {"content": [{"image_url": "https://169.254.169.254/"}]}},
    ],
)
def test_nothing_is_fetched_for_a_caller(body: dict[str, Any]) -> None:
    with pytest.raises(CallerError) as refused:
        parse(Surface.RERANK, query="q", **body)
    assert refused.value.code == "remote_media_refused"


@pytest.mark.parametrize(
    ("usage", "told"),
    [
        ({"prompt_tokens": 5, "total_tokens": 5}, Usage(5)),
        ({"total_tokens": 7}, Usage(7)),
        ({"prompt_tokens": -3}, Usage(0)),
        ({"prompt_tokens": 1e300}, Usage(TOKENS_MAX)),
        ({}, None),
        (None, None),
    ],
)
def test_usage_is_what_was_told_within_reason(usage: Any, told: Usage | None) -> None:
    body = {"data": [{"index": 0, "embedding": [0.1]}], "usage": usage}
    block = pooling.plain(json.dumps(body, separators=(",", ":")).encode())
    assert block.usage == told
    assert block.opens


def test_an_answer_without_rows_is_none() -> None:
    assert not pooling.plain(b'{"data":[],"usage":null}').opens
    with pytest.raises(StreamFault):
        pooling.plain(b'{"error":{"code":"x"}}')
    with pytest.raises(StreamFault):
        pooling.plain(b"<html>")


@given(st.binary(max_size=200))
def test_any_bytes_are_an_answer_or_a_fault(data: bytes) -> None:
    with contextlib.suppress(StreamFault):
        pooling.plain(data)
