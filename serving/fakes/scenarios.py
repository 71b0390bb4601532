"""The ways a third-party API behaves, good and bad: a registry as data.

Each scenario is a coroutine over an `Exchange`; its name is the function's, its meaning the first
line of its docstring. Scenarios about streams say what they do to a request that is not streamed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from serving.fakes import scenarios_bytes, scenarios_stream
from serving.fakes.exchange import Exchange
from serving.fakes.refusals import REFUSALS, Refusal

Play = Callable[[Exchange], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Scenario:
    """A named behaviour."""

    name: str
    meaning: str
    play: Play


async def unavailable_then_ok(exchange: Exchange) -> web.StreamResponse:
    """503 for the first requests (`:n`, default 2), then well again."""
    times = 2 if exchange.argument is None else exchange.argument
    return await SCENARIOS["unavailable" if exchange.visits < times else "ok"].play(exchange)


_KNOWN_FIELDS: Final = frozenset(
    (
        *("model", "messages", "prompt", "stream", "stream_options", "n", "stop", "seed", "user"),
        *("max_tokens", "max_completion_tokens", "temperature", "top_p", "presence_penalty"),
        *("frequency_penalty", "logprobs", "top_logprobs", "tools", "tool_choice"),
        *("parallel_tool_calls", "response_format", "reasoning_effort"),
    )
)


async def unknown_field_rejected(exchange: Exchange) -> web.StreamResponse:
    """400 if the body has a field outside OpenAI's own, else well."""
    unknown = sorted(exchange.body.keys() - _KNOWN_FIELDS)
    if not unknown:
        return await scenarios_stream.ok(exchange)
    error = {
        "message": f"Unrecognized request argument supplied: {unknown[0]}",
        "type": "invalid_request_error",
        "param": unknown[0],
        "code": "unknown_parameter",
    }
    return exchange.json(400, {"error": error})


async def rule(exchange: Exchange) -> web.StreamResponse:
    """The answer that the n-th error rule (`:n`, from 0) of the row played is about."""
    refusal = exchange.refusals[exchange.argument or 0]
    return exchange.json(refusal.status, refusal.payload, **refusal.headers)


def _scenario(play: Play) -> Scenario:
    name = getattr(play, "__name__", "")
    return Scenario(name, (play.__doc__ or "").splitlines()[0], play)


def _refusing(refusal: Refusal) -> Scenario:
    async def play(exchange: Exchange) -> web.StreamResponse:
        return exchange.json(refusal.status, refusal.payload, **refusal.headers)

    return Scenario(refusal.name, refusal.meaning, play)


SCENARIOS: Final[dict[str, Scenario]] = {
    scenario.name: scenario
    for scenario in (
        *map(_scenario, scenarios_stream.PLAYS),
        *map(_scenario, scenarios_bytes.PLAYS),
        *map(_scenario, (unavailable_then_ok, unknown_field_rejected, rule)),
        *map(_refusing, REFUSALS),
    )
}
"""All scenarios by name."""


def parse_name(given: str) -> tuple[Scenario, int | None] | None:
    """The scenario `name` or `name:number` stands for; None if there is none."""
    name, _, number = given.partition(":")
    if name not in SCENARIOS or not (number.isdecimal() or not number):
        return None
    return SCENARIOS[name], int(number) if number else None
