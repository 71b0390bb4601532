"""The fake provider's answers by the dialect that was spoken to it."""

from __future__ import annotations

from serving.fakes.anthropic_answer import AnthropicAnswer, AnthropicExchange
from serving.fakes.exchange import Exchange
from serving.fakes.gemini_answer import GeminiAnswer, GeminiExchange
from serving.fakes.minimax_answer import MinimaxAnswer
from serving.fakes.provider_answer import Answer, Json


def exchange(surface: str) -> type[Exchange]:
    """How a request is answered on the wire."""
    return {"anthropic": AnthropicExchange, "gemini": GeminiExchange}.get(surface, Exchange)


def right(surface: str, body: Json, model: str, tokens: int) -> Answer:
    """The right answer; MiniMax's accent shows where thinking is to be split off."""
    if surface == "anthropic":
        return AnthropicAnswer(body, model, tokens)
    if surface == "gemini":
        return GeminiAnswer(body, model, tokens)
    made = MinimaxAnswer if body.get("reasoning_split") else Answer
    return made(surface, body, model, tokens)
