"""The smoke probe: what to send an engine, and whether its answer will do. Pure.

An engine that starts may still answer nonsense: a wrong kernel, a broken quantisation, the wrong
weights. One question with a known answer is asked before a replica is called ready.
"""

from __future__ import annotations

import math
import re
from itertools import pairwise
from typing import Any, NamedTuple

import msgspec

from serving.engine.probe_spec import Probe
from serving.unreadable import UNREADABLE

SHOWN_CHARS = 160


class NotReadyError(RuntimeError):
    """The engine runs but must not serve; the message says why."""


class Question(NamedTuple):
    """One request to the engine's own app."""

    path: str
    body: dict[str, Any]


def question(probe: Probe, model: str, tasks: frozenset[str]) -> Question:
    """What to ask; `tasks` are those the engine supports, for a probe of kind `auto`."""
    kind = probe.kind
    if kind == "auto":
        kind = "chat" if "generate" in tasks else "embedding" if "embed" in tasks else "rerank"
    plain = {"temperature": 0, "seed": 0, "max_tokens": probe.max_tokens}
    if kind == "chat":
        messages = [{"role": "user", "content": probe.prompt}]
        extra = {"chat_template_kwargs": probe.template} if probe.template else {}
        body = {"model": model, "messages": messages, **plain, **extra}
        return Question("/v1/chat/completions", body)
    if kind == "completion":
        return Question("/v1/completions", {"model": model, "prompt": probe.prompt, **plain})
    if kind == "embedding":
        return Question("/v1/embeddings", {"model": model, "input": probe.prompt})
    documents = list(probe.documents or (probe.prompt,))
    body = {"model": model, "query": probe.prompt, "documents": documents}
    return Question("/v1/rerank", body)


def fault(probe: Probe, asked: Question, status: int, body: bytes) -> str:
    """Why the answer does not do; "" when it does."""
    if status != 200:
        return f"status {status} ({_shown(body.decode('utf-8', errors='replace'))})"
    try:
        answer = msgspec.json.decode(body, type=dict[str, Any])
        if asked.path == "/v1/embeddings":
            return _vector_fault(probe.expect, answer["data"][0]["embedding"])
        if asked.path == "/v1/rerank":
            rows = sorted(answer["results"], key=lambda row: row["index"])
            return _scores_fault(probe.expect, [row["relevance_score"] for row in rows])
        return _text_fault(probe.expect, _text(answer["choices"][0]))
    except (*UNREADABLE, LookupError, TypeError, AttributeError) as error:
        return f"an answer of unknown form: {error!r} in {_shown(body.decode(errors='replace'))}"


def _text(choice: dict[str, Any]) -> str:
    """Thoughts and text: a thinking model may spend the whole answer on thoughts."""
    if "message" not in choice:
        return str(choice["text"])
    message = choice["message"]
    parts = (message.get("reasoning"), message.get("reasoning_content"), message.get("content"))
    return "\n".join(part for part in parts if part)


def _text_fault(expect: str, text: str) -> str:
    rule, _, wanted = expect.partition(":")
    if rule == "json":
        try:
            msgspec.json.decode(text)
        except UNREADABLE as error:
            return f"{_shown(text)} is no JSON: {error}"
        return ""
    holds = {
        "non_empty": bool(text.strip()),
        "contains": wanted in text,
        "matches": rule == "matches" and re.search(wanted, text) is not None,
        "equals": text.strip() == wanted.strip(),
    }
    if rule not in holds:
        return f"{rule!r} is not to be expected of a text"
    return "" if holds[rule] else f"{_shown(text)} is not {expect!r}"


def _vector_fault(expect: str, vector: list[float]) -> str:
    rule, _, number = expect.partition(":")
    if rule not in ("non_empty", "dimension"):
        return f"{rule!r} is not to be expected of an embedding"
    if number and len(vector) != int(number):
        return f"a vector of {len(vector)} numbers is not {expect!r}"
    return _numbers_fault(vector, "the vector")


def _scores_fault(expect: str, scores: list[float]) -> str:
    if expect not in ("non_empty", "ordered"):
        return f"{expect!r} is not to be expected of scores"
    if expect == "ordered" and any(a <= b for a, b in pairwise(scores)):
        return f"scores {', '.join(f'{s:.3f}' for s in scores)} do not fall from best to last"
    return _numbers_fault(scores, "the scores")


def _numbers_fault(numbers: list[float], what: str) -> str:
    if not all(math.isfinite(n) for n in numbers):
        return f"{what} hold a number that is not finite"
    return "" if any(numbers) else f"{what}: nothing but zeros"


def _shown(text: str) -> str:
    flat = " ".join(text.split())
    return repr(flat[:SHOWN_CHARS] + ("..." if len(flat) > SHOWN_CHARS else ""))
