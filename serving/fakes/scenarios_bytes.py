"""Scenarios below the events: bytes, framing, encodings, connections."""

from __future__ import annotations

import asyncio
import json
import zlib
from typing import Final

from aiohttp import web

from serving.fakes.exchange import Exchange, encode_event
from serving.fakes.provider_answer import Json

_SEGMENT_BYTES: Final = 7
_DRIP_S: Final = 0.002
_HUGE_BYTES: Final = 5 * 1024 * 1024
_GZIP: Final = 16 + zlib.MAX_WBITS


async def split_utf8(exchange: Exchange) -> web.StreamResponse:
    """SSE with CRLF, no space after `data:`, and every character and line cut across segments."""
    if not exchange.wants_stream:
        return await exchange.plain()
    role, *rest = exchange.answer.chunks()
    wide = [exchange.answer.chunk({"content": word}) for word in ("压舱石", "🙂é")]
    lines = [_crlf(chunk) for chunk in (role, *wide, *rest)]
    if exchange.wants_usage:
        lines.append(_crlf(exchange.answer.usage_chunk()))
    data = b"".join((*lines, b"data:[DONE]\r\n\r\n"))
    await exchange.open()
    for at in range(0, len(data), _SEGMENT_BYTES):
        await exchange.write(data[at : at + _SEGMENT_BYTES])
        await asyncio.sleep(0)
    return exchange.response


def _crlf(payload: Json) -> bytes:
    return b"data:" + json.dumps(payload, ensure_ascii=False).encode() + b"\r\n\r\n"


async def slow_drip(exchange: Exchange) -> web.StreamResponse:
    """The right answer a few bytes at a time (`:n` bytes every 2 ms, default 16)."""
    size = exchange.argument or 16
    await exchange.open("text/event-stream" if exchange.wants_stream else "application/json")
    data = _whole_body(exchange)
    for at in range(0, len(data), size):
        await exchange.write(data[at : at + size])
        await asyncio.sleep(_DRIP_S)
    return exchange.response


async def gzip_body(exchange: Exchange) -> web.StreamResponse:
    """The right answer with Content-Encoding: gzip, whether the client accepts that or not."""
    kind = "text/event-stream" if exchange.wants_stream else "application/json"
    await exchange.open(kind, Content_Encoding="gzip")
    packer = zlib.compressobj(wbits=_GZIP)
    for line in _whole_body(exchange).splitlines(keepends=True):
        await exchange.write(packer.compress(line) + packer.flush(zlib.Z_SYNC_FLUSH))
    await exchange.write(packer.flush())
    return exchange.response


def _whole_body(exchange: Exchange) -> bytes:
    if not exchange.wants_stream:
        return json.dumps(exchange.answer.plain(), ensure_ascii=False).encode()
    chunks = exchange.answer.chunks()
    if exchange.wants_usage:
        chunks.append(exchange.answer.usage_chunk())
    return b"".join((*map(encode_event, chunks), b"data: [DONE]\n\n"))


async def huge_line(exchange: Exchange) -> web.StreamResponse:
    """One SSE line (or JSON string) of 5 MiB, then the rest."""
    word = "x" * _HUGE_BYTES
    if not exchange.wants_stream:
        payload = exchange.answer.plain()
        payload["choices"][0]["message"]["content"] = word
        return exchange.json(200, payload)
    await exchange.open()
    role, *rest = exchange.answer.chunks()
    await exchange.events([role, exchange.answer.chunk({"content": word}), *rest])
    return await exchange.finish()


async def wrong_content_type(exchange: Exchange) -> web.StreamResponse:  # noqa: ARG001
    """200 with a page for people: a portal or a proxy answered instead."""
    page = "<!doctype html><title>Welcome</title><p>Please sign in.</p>"
    return web.Response(text=page, content_type="text/html")


async def redirect(exchange: Exchange) -> web.StreamResponse:
    """307 to another host name: who follows it gives the key away (`/__redirected` records it)."""
    port = exchange.request.url.port
    target = f"http://localhost:{port}/__redirected{exchange.request.path}"
    return web.Response(status=307, headers={"Location": target})


async def timeout(exchange: Exchange) -> web.StreamResponse:
    """Never answers, not even a head."""
    await exchange.stall()


async def reset_at_connect(exchange: Exchange) -> web.StreamResponse:
    """TCP reset as soon as the request is read, before any byte of the answer."""
    await exchange.reset()


async def reset_after_headers(exchange: Exchange) -> web.StreamResponse:
    """Status 200 and headers, then a TCP reset."""
    await exchange.open("text/event-stream" if exchange.wants_stream else "application/json")
    await exchange.reset()


async def reset_mid_chunk(exchange: Exchange) -> web.StreamResponse:
    """Some words, then half an HTTP chunk, then a TCP reset; not streamed: half a body."""
    if not exchange.wants_stream:
        await exchange.half_a_body()
        await exchange.reset()
    await exchange.open()
    *_, last = chunks = exchange.answer.chunks()[:4]
    await exchange.events(chunks)
    data = encode_event(last)
    exchange.write_raw(b"%x\r\n%b" % (len(data), data[: len(data) // 2]))
    await exchange.reset()


PLAYS: Final = (
    split_utf8,
    slow_drip,
    gzip_body,
    huge_line,
    wrong_content_type,
    redirect,
    timeout,
    reset_at_connect,
    reset_after_headers,
    reset_mid_chunk,
)
