"""What the fakes answer on surfaces that generate nothing: vectors and scores made of the text."""

from __future__ import annotations

import base64
import hashlib
import json
import struct
from collections.abc import Sequence
from typing import Any, Final

from serving.fakes.text import tokenize

DIMENSION: Final = 8
COUNT_MAX: Final = 8192
FORMS: Final = {
    "embeddings": ("input",),
    "rerank": ("query", "documents"),
    "score": ("text_1", "text_2"),
}


def vector(text: str, dimension: int = DIMENSION) -> list[float]:
    """Unit length; the same text has the same vector, another another."""
    digest = hashlib.shake_256(text.encode()).digest(2 * dimension)
    raw = [value / 32768 for value in struct.unpack(f"<{dimension}h", digest)]
    norm = sum(x * x for x in raw) ** 0.5 or 1.0
    return [x / norm for x in raw]


def score(query: str, document: str) -> float:
    """In (0, 1): higher for documents that share words with the query."""
    words = set(query.lower().split())
    shared = len(words & set(document.lower().split()))
    return (shared + 0.5) / (len(words) + 1)


def answered(surface: str, body: dict[str, Any], model: str) -> dict[str, Any] | str:
    """The answer's body, or what is wrong with the request's."""
    for name in FORMS[surface]:
        if name not in body:
            return f"{name}: field required"
    for name in ("dimensions", "top_n"):
        if not _is_count(body.get(name)):
            return f"{name}: a whole number from 0 to {COUNT_MAX}"
    if surface == "embeddings":
        return _embedded(body, model)
    first, second = (body[name] for name in FORMS[surface])
    documents = _texts(second)
    queries = _texts(first)
    scores = [score(queries[min(i, len(queries) - 1)], d) for i, d in enumerate(documents)]
    tokens = sum(len(tokenize(text)) for text in [*queries, *documents])
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    if surface == "score":
        data = [{"index": i, "object": "score", "score": s} for i, s in enumerate(scores)]
        return {"id": "score-1", "object": "list", "model": model, "data": data, "usage": usage}
    best = sorted(range(len(scores)), key=lambda i: -scores[i])[: body.get("top_n") or None]
    results = [
        {"index": i, "document": {"text": documents[i]}, "relevance_score": scores[i]} for i in best
    ]
    return {"id": "rerank-1", "model": model, "results": results, "usage": {"total_tokens": tokens}}


def _is_count(value: Any) -> bool:
    is_number = isinstance(value, int) and not isinstance(value, bool)
    return value is None or (is_number and 0 <= value <= COUNT_MAX)


def _embedded(body: dict[str, Any], model: str) -> dict[str, Any]:
    texts = _texts(body["input"])
    dimension = body.get("dimensions") or DIMENSION
    data = []
    for index, text in enumerate(texts):
        numbers: Any = vector(text, dimension)
        if body.get("encoding_format") == "base64":
            numbers = base64.b64encode(struct.pack(f"<{dimension}f", *numbers)).decode()
        data.append({"index": index, "object": "embedding", "embedding": numbers})
    tokens = sum(len(tokenize(text)) for text in texts)
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"object": "list", "model": model, "data": data, "usage": usage}


def _texts(value: Any) -> Sequence[str]:
    """Inputs as texts: a string, an array of them, one of token numbers, or an array of those."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, list) and value and all(isinstance(one, int) for one in value):
        return [json.dumps(value)]
    if isinstance(value, list):
        return [one if isinstance(one, str) else json.dumps(one) for one in value]
    return [json.dumps(value)]
