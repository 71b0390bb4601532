"""Answers of the simulated engine as bytes, in vLLM's shapes. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import msgspec

from serving.fakes.blocks import BLOCK_TOKENS
from serving.fakes.generation import Choice, GenerationRequest, Piece
from serving.fakes.text import VOCABULARY, VOCABULARY_JSON

DONE = b"data: [DONE]\n\n"
_ROLE = (
    b',"choices":[{"index":%d,"delta":{"role":"assistant","content":""},"logprobs":null,'
    b'"finish_reason":null}]}\n\n'
)
_encode = msgspec.json.encode


class Renderer:
    """Writes one request's answer; what does not change from token to token is encoded once."""

    def __init__(
        self, request: GenerationRequest, answer_id: str, created: int, has_details: bool = False
    ) -> None:
        self._request = request
        self._has_details = has_details
        self._is_chat = request.surface == "chat"
        prefix = "chatcmpl-" if self._is_chat else "cmpl-"
        self._head: dict[str, Any] = {
            "id": prefix + answer_id,
            "object": "chat.completion" if self._is_chat else "text_completion",
            "created": created,
            "model": request.model,
        }
        chunk = {**self._head, "object": "chat.completion.chunk"} if self._is_chat else self._head
        self._chunk_head = b"data: " + _encode(chunk)[:-1]
        self._text_key = b',"delta":{"content":' if self._is_chat else b',"text":'
        self._after_text = b"}" if self._is_chat else b""

    def role(self, index: int) -> bytes:
        """The event that opens a choice; completions have none."""
        if not self._is_chat:
            return b""
        return self._chunk_head + _ROLE % index

    def piece(self, choice: Choice, piece: Piece) -> bytes:
        """The event of one token; nothing while its text is held back."""
        if not (piece.text or piece.finish or self._request.logprobs is not None):
            return b""
        whole = piece.text == VOCABULARY[piece.token]
        text = VOCABULARY_JSON[piece.token] if whole else _encode(piece.text)
        finish = b'"%b"' % piece.finish.encode() if piece.finish else b"null"
        logprobs = b"null"
        if self._request.logprobs is not None:
            logprobs = _encode(self._logprobs([piece]))
        return b'%b,"choices":[{"index":%d%b%b%b,"logprobs":%b,"finish_reason":%b}]}\n\n' % (
            self._chunk_head,
            choice.index,
            self._text_key,
            text,
            self._after_text,
            logprobs,
            finish,
        )

    def closing(self, choices: Sequence[Choice]) -> bytes:
        """What follows the last token: the usage, if it was asked for, and the end mark."""
        if not self._request.include_usage:
            return DONE
        usage = _encode(self._usage(choices))
        return b'%b,"choices":[],"usage":%b}\n\n%b' % (self._chunk_head, usage, DONE)

    def plain(self, choices: Sequence[Choice]) -> bytes:
        """The whole answer as one JSON body."""
        rows = [self._plain_choice(choice) for choice in choices]
        return _encode({**self._head, "choices": rows, "usage": self._usage(choices)})

    def _plain_choice(self, choice: Choice) -> dict[str, Any]:
        text = "".join(piece.text for piece in choice.pieces)
        wants_logprobs = self._request.logprobs is not None
        row: dict[str, Any] = {"index": choice.index}
        if self._is_chat:
            row["message"] = {"role": "assistant", "content": text, "tool_calls": []}
        else:
            row["text"] = text
        row["logprobs"] = self._logprobs(choice.pieces) if wants_logprobs else None
        row["finish_reason"] = choice.finish
        row["stop_reason"] = None
        return row

    def _usage(self, choices: Sequence[Choice]) -> dict[str, Any]:
        prompt = sum(prompt.tokens for prompt in self._request.prompts)
        completion = sum(len(choice.pieces) for choice in choices)
        return {
            "prompt_tokens": prompt,
            "total_tokens": prompt + completion,
            "completion_tokens": completion,
            "prompt_tokens_details": self._details(choices) if self._has_details else None,
        }

    def _details(self, choices: Sequence[Choice]) -> dict[str, int | None]:
        """Of one of several answers, as vLLM does: a stream's first, or a body's last."""
        choice = choices[0 if self._request.stream else -1]
        created = None
        if self._is_chat and choice.prompt.chain is not None:
            created = len(choice.prompt.chain) * BLOCK_TOKENS - choice.cached
        return {
            "cached_tokens": choice.cached, "created_cache_tokens": created,
            "multimodal_tokens": None,
        }  # fmt: skip

    def _logprobs(self, pieces: Sequence[Piece]) -> dict[str, Any]:
        ranked = [_ranked(piece.token, self._request.logprobs or 0) for piece in pieces]
        if self._is_chat:
            return {
                "content": [
                    {**_entry(*top[0]), "top_logprobs": [_entry(*one) for one in top[1:]]}
                    for top in ranked
                ]
            }
        words = [VOCABULARY[piece.token] for piece in pieces]
        return {
            "tokens": words,
            "token_logprobs": [top[0][1] for top in ranked],
            "top_logprobs": [
                {VOCABULARY[token]: value for token, value in top[1:]} for top in ranked
            ],
            "text_offset": list(accumulate(map(len, words[:-1]), initial=0)),
        }


def _ranked(token: int, alternatives: int) -> list[tuple[int, float]]:
    """The sampled token, then the `alternatives` likeliest tokens, itself the first of them."""
    sampled = (token, -0.125)
    others = (
        ((token + rank) % len(VOCABULARY), -2.0 - rank / 4) for rank in range(1, alternatives)
    )
    return [sampled, sampled, *others] if alternatives else [sampled]


def _entry(token: int, logprob: float) -> dict[str, Any]:
    word = VOCABULARY[token]
    return {"token": word, "logprob": logprob, "bytes": list(word.encode())}
