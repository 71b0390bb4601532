"""What a client asked the simulated engine for, and its answer's state. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import msgspec

from serving.fakes.text import VOCABULARY, StopScanner, choice_seed, natural_tokens, token_id

Surface = Literal["chat", "completions"]


@dataclass(frozen=True, slots=True)
class Rejection:
    """An answer that is an error."""

    status: int
    message: str
    kind: str = "BadRequestError"
    param: str | None = None

    def payload(self) -> bytes:
        """The OpenAI-shaped body."""
        error = {
            "message": self.message,
            "type": self.kind,
            "param": self.param,
            "code": self.status,
        }
        return msgspec.json.encode({"error": error})


@dataclass(frozen=True, slots=True)
class Prompt:
    """One input text as far as the engine needs it."""

    seed: int
    tokens: int
    chain: tuple[bytes, ...] | None = None
    """Names of its full blocks, as the prefix cache knows them; None without one."""


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """A checked request."""

    surface: Surface
    model: str
    prompts: tuple[Prompt, ...]
    max_tokens: int
    n: int = 1
    stream: bool = False
    include_usage: bool = False
    stop: tuple[str, ...] = ()
    logprobs: int | None = None
    """Alternatives reported for each token; None reports no logprobs at all."""
    ignore_eos: bool = False
    min_tokens: int = 0
    request_id: str = ""
    """Part of the answer's id; empty makes one up."""
    late: bool = False
    """The last character of a wide word comes with the token after it, as one does whose bytes
    stand in two tokens."""


@dataclass(frozen=True, slots=True)
class ModelLimits:
    """What the engine serves."""

    model: str
    max_model_len: int
    adapters: tuple[str, ...] = ()
    """Other names it answers to, each as itself."""
    has_prefix_cache: bool = False


@dataclass(frozen=True, slots=True)
class Piece:
    """What one token adds to an answer."""

    token: int
    text: str
    """May be empty (held back) or longer than the token (released) while stop words are sought."""
    finish: str | None


class Choice:
    """One answer in the making."""

    __slots__ = (
        "_ends_at", "_half", "_late", "_scanner", "cached", "finish", "index", "pieces", "prompt",
        "seed",
    )  # fmt: skip

    def __init__(self, request: GenerationRequest, index: int, natural: int | None) -> None:
        self.index = index
        self.prompt = request.prompts[index // request.n]
        self.seed = choice_seed(self.prompt.seed, index % request.n)
        self.pieces: list[Piece] = []
        self.finish: str | None = None
        self.cached = 0
        """Of its prompt's tokens, those that the prefix cache held."""
        by_itself = max(request.min_tokens, natural or natural_tokens(self.seed))
        at_most = request.max_tokens
        self._ends_at = (
            (at_most, "length")
            if request.ignore_eos or by_itself > at_most
            else (by_itself, "stop")
        )
        self._scanner = StopScanner(request.stop) if request.stop else None
        self._late, self._half = request.late, ""

    def advance(self) -> Piece:
        """Add the next token; sets `finish` with the last one."""
        token = token_id(self.seed, len(self.pieces))
        text = VOCABULARY[token]
        ends_at, reason = self._ends_at
        if len(self.pieces) + 1 >= ends_at:
            self.finish = reason
        if self._late:
            text = self._half + text
            keep = 0 if self.finish or text.isascii() else 1
            text, self._half = text[: len(text) - keep], text[len(text) - keep :]
        if self._scanner:
            text, stopped = self._scanner.push(text, is_last=self.finish is not None)
            if stopped:
                self.finish = "stop"
        piece = Piece(token, text, self.finish)
        self.pieces.append(piece)
        return piece


def choices_of(request: GenerationRequest, natural: int | None) -> tuple[Choice, ...]:
    """The answers a request asks for; `natural` fixes how long they are left to themselves."""
    total = len(request.prompts) * request.n
    return tuple(Choice(request, index, natural) for index in range(total))
