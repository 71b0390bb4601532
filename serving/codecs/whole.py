"""Plain answers of third parties: what comes whole, and how long that may take. Pure."""

from __future__ import annotations

from serving.codecs import hearing, pooling, speech
from serving.records import POOLED, Block, Call, Offering, Surface
from serving.wire import sse

PLAIN_TOKENS, PLAIN_TOKEN_S = 4096, 0.05
"""A plain answer is waited for as if it had so many tokens (when the caller named no limit) at 20
tokens a second: slower providers are of no use. A character to be said aloud, and a tenth of a
second of sound, is waited for as long as a token."""


def plain(call: Call, target: Offering, content_type: str, body: bytes) -> Block:
    """The Block of an answer. Raises StreamFault for an error under a 200."""
    if call.surface is Surface.SPEECH:
        return speech.plain(content_type, body)
    if call.sound is not None:
        return hearing.plain(call, target, body)
    return pooling.plain(body) if call.surface in POOLED else sse.plain(body)


def wait_s(call: Call) -> float:
    """Seconds that a plain answer's length may add to the wait."""
    if call.surface is Surface.SPEECH or call.sound is not None:
        return call.prompt_tokens * PLAIN_TOKEN_S
    limit = call.max_tokens
    return (PLAIN_TOKENS if limit is None else limit) * PLAIN_TOKEN_S
