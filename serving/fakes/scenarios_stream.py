"""Scenarios told in whole events: what is said, in which order, and what is left out."""

from __future__ import annotations

import asyncio
from typing import Final

from aiohttp import web

from serving.fakes.exchange import Exchange

_COMMENT_S: Final = 0.05
_ERROR: Final = {
    "error": {
        "message": "The server had an error while processing your request.",
        "type": "server_error",
        "param": None,
        "code": "internal_error",
    }
}
_FIRST_WORDS: Final = 4
"""Events sent before a stream goes wrong: the role and three words."""


async def ok(exchange: Exchange) -> web.StreamResponse:
    """All well: text, tools if the request has tools, reasoning if it asks for thinking."""
    if not exchange.wants_stream:
        return await exchange.plain()
    await exchange.open()
    await exchange.events(exchange.answer.chunks())
    return await exchange.finish()


async def ok_tools(exchange: Exchange) -> web.StreamResponse:
    """A tool call in fragments, whatever was asked."""
    exchange.answer.kind = "tools"
    return await ok(exchange)


async def ok_reasoning(exchange: Exchange) -> web.StreamResponse:
    """reasoning_content before content, whatever was asked."""
    exchange.answer.kind = "reasoning"
    return await ok(exchange)


async def error_in_200(exchange: Exchange) -> web.StreamResponse:
    """Status 200, JSON body with nothing but an error, streamed or not."""
    return exchange.json(200, _ERROR)


async def error_before_content(exchange: Exchange) -> web.StreamResponse:
    """200 and SSE, the role, then an error event; not streamed: 500."""
    return await _error_after(exchange, 1)


async def error_after_content(exchange: Exchange) -> web.StreamResponse:
    """200 and SSE, some words, then an error event; not streamed: 500."""
    return await _error_after(exchange, _FIRST_WORDS)


async def _error_after(exchange: Exchange, events: int) -> web.StreamResponse:
    if not exchange.wants_stream:
        return exchange.json(500, _ERROR)
    await exchange.open()
    await exchange.events([*exchange.answer.chunks()[:events], _ERROR])
    return exchange.response


async def eof_without_finish(exchange: Exchange) -> web.StreamResponse:
    """The stream ends in good order before finish_reason and [DONE]; not streamed: half a body."""
    if not exchange.wants_stream:
        await exchange.half_a_body()
        await exchange.hang_up()
    await exchange.open()
    await exchange.events(exchange.answer.chunks()[:_FIRST_WORDS])
    return exchange.response


async def done_without_finish(exchange: Exchange) -> web.StreamResponse:
    """[DONE] arrives, but no finish_reason and no usage; not streamed: well."""
    if not exchange.wants_stream:
        return await exchange.plain()
    await exchange.open()
    await exchange.events(exchange.answer.chunks()[:_FIRST_WORDS])
    return await exchange.finish(usage=False)


async def role_then_stall(exchange: Exchange) -> web.StreamResponse:
    """The role, then silence; not streamed: the head, then silence."""
    await exchange.open("text/event-stream" if exchange.wants_stream else "application/json")
    if exchange.wants_stream:
        await exchange.events(exchange.answer.chunks()[:1])
    await exchange.stall()


async def content_then_stall(exchange: Exchange) -> web.StreamResponse:
    """Some words, then silence; not streamed: half a body, then silence."""
    if not exchange.wants_stream:
        await exchange.half_a_body()
        await exchange.stall()
    await exchange.open()
    await exchange.events(exchange.answer.chunks()[:_FIRST_WORDS])
    await exchange.stall()


async def stall_between_tools(exchange: Exchange) -> web.StreamResponse:
    """The first fragment of a tool call's arguments, then silence."""
    exchange.answer.kind = "tools"
    await exchange.open()
    await exchange.events(exchange.answer.chunks()[:3])
    await exchange.stall()


async def comments_only(exchange: Exchange) -> web.StreamResponse:
    """SSE comments for ever, never an event."""
    await exchange.open()
    while True:
        await exchange.write(b": keep-alive\n\n")
        await asyncio.sleep(_COMMENT_S)


async def comments_then_ok(exchange: Exchange) -> web.StreamResponse:
    """SSE comments (`:n`, default 5), then well; not streamed: well."""
    if not exchange.wants_stream:
        return await exchange.plain()
    await exchange.open()
    for _ in range(5 if exchange.argument is None else exchange.argument):
        await exchange.write(b": OPENROUTER PROCESSING\n\n")
        await asyncio.sleep(_COMMENT_S)
    await exchange.events(exchange.answer.chunks())
    return await exchange.finish()


async def no_usage(exchange: Exchange) -> web.StreamResponse:
    """Well, but usage never comes although it was asked for."""
    if not exchange.wants_stream:
        payload = exchange.answer.plain()
        del payload["usage"]
        return exchange.json(200, payload)
    await exchange.open()
    await exchange.events(exchange.answer.chunks())
    return await exchange.finish(usage=False)


async def usage_in_every_chunk(exchange: Exchange) -> web.StreamResponse:
    """Every event carries the usage so far; none without choices follows. Not to be summed."""
    if not exchange.wants_stream:
        return await exchange.plain()
    await exchange.open()
    chunks = exchange.answer.chunks()
    last = exchange.answer.usage()
    so_far = [min(number, last["completion_tokens"]) for number in range(len(chunks) - 1)]
    usages = [*(exchange.answer.usage(tokens) for tokens in so_far), last]
    paired = zip(chunks, usages, strict=True)
    await exchange.events({**chunk, "usage": usage} for chunk, usage in paired)
    return await exchange.finish(usage=False)


async def duplicate_final(exchange: Exchange) -> web.StreamResponse:
    """finish_reason, usage and [DONE] all come twice; not streamed: well."""
    if not exchange.wants_stream:
        return await exchange.plain()
    await exchange.open()
    chunks = exchange.answer.chunks()
    closing = [chunks[-1], exchange.answer.usage_chunk()] * 2
    await exchange.events([*chunks[:-1], *closing])
    await exchange.write(b"data: [DONE]\n\n")
    return await exchange.finish(usage=False)


async def identical_chunks(exchange: Exchange) -> web.StreamResponse:
    """The same word a hundred times (`:n`), then the end: a model in a loop."""
    if not exchange.wants_stream:
        return await exchange.plain()
    await exchange.open()
    role, *_, last = exchange.answer.chunks()
    word = exchange.answer.chunk({"content": exchange.answer.words[0]})
    times = 100 if exchange.argument is None else exchange.argument
    await exchange.events([role, *[word] * times, last])
    return await exchange.finish()


async def empty_choices_first(exchange: Exchange) -> web.StreamResponse:
    """The first event has no choices, only filter results (Azure); not streamed: well."""
    if not exchange.wants_stream:
        return await exchange.plain()
    await exchange.open()
    verdict = {"hate": {"filtered": False, "severity": "safe"}}
    first = {
        **exchange.answer.usage_chunk(),
        "model": "",
        "prompt_filter_results": [{"prompt_index": 0, "content_filter_results": verdict}],
    }
    del first["usage"]
    await exchange.events([first, *exchange.answer.chunks()])
    return await exchange.finish()


async def think_inline(exchange: Exchange) -> web.StreamResponse:
    """Reasoning inside the content between <think> tags, the tags cut across events."""
    answer = exchange.answer
    thought = "".join(answer.thoughts)
    if not exchange.wants_stream:
        payload = answer.plain()
        payload["choices"][0]["message"]["content"] = (
            f"<think>{thought}</think>{''.join(answer.words)}"
        )
        return exchange.json(200, payload)
    await exchange.open()
    role, *rest = answer.chunks()
    parts = ("<thi", "nk>", *answer.thoughts, "</th", "ink>")
    await exchange.events([role, *(answer.chunk({"content": part}) for part in parts), *rest])
    return await exchange.finish()


async def content_filter_finish(exchange: Exchange) -> web.StreamResponse:
    """Some words, then finish_reason content_filter."""
    if not exchange.wants_stream:
        payload = exchange.answer.plain()
        payload["choices"][0]["finish_reason"] = "content_filter"
        return exchange.json(200, payload)
    await exchange.open()
    words = exchange.answer.chunks()[:_FIRST_WORDS]
    await exchange.events([*words, exchange.answer.chunk({}, "content_filter")])
    return await exchange.finish()


PLAYS: Final = (
    ok,
    ok_tools,
    ok_reasoning,
    error_in_200,
    error_before_content,
    error_after_content,
    eof_without_finish,
    done_without_finish,
    role_then_stall,
    content_then_stall,
    stall_between_tools,
    comments_only,
    comments_then_ok,
    no_usage,
    usage_in_every_chunk,
    duplicate_final,
    identical_chunks,
    empty_choices_first,
    think_inline,
    content_filter_finish,
)
