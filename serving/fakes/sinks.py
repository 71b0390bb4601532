"""Where the simulated engine's tokens go: a live SSE stream, or one body at the end."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from serving.codecs.going_on import Answer
from serving.fakes.faults import Faults
from serving.fakes.generation import Choice, Piece, Rejection
from serving.fakes.rendering import DONE, Renderer
from serving.fakes.server import reset

_FLUSH_S = 0.02
"""Time for the last bytes to leave before a reset, which discards what is unsent."""


@dataclass(frozen=True, slots=True)
class Cut:
    """A stream's early end: by an error event, or by a TCP reset."""

    after_tokens: int
    is_reset: bool


class PlainSink:
    """Waits for the last token."""

    def __init__(self, choices: int) -> None:
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._open = choices

    def piece(self, choice: Choice, _piece: Piece, /) -> None:
        """Count the choices that end."""
        self._open -= 1 if choice.finish else 0
        if not self._open and not self.ended.done():
            self.ended.set_result(None)


class StreamSink:
    """Writes each token as a chunk of its own straight to the connection: no task wakes for it,
    so a thousand streams cost one task. A client that does not read is buffered for."""

    def __init__(
        self,
        transport: asyncio.Transport,
        renderer: Renderer,
        choices: tuple[Choice, ...],
        cut: Cut | None = None,
        answer: Answer | None = None,
    ) -> None:
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._transport = transport
        self._renderer = renderer
        self._choices = choices
        self._open = len(choices)
        self._cut = cut
        self._answer = answer
        self._tokens = 0
        self._is_over = False

    def piece(self, choice: Choice, piece: Piece, /) -> None:
        """Send the event of one token, and what follows the last one."""
        if self._is_over:
            return
        self._tokens += 1
        data = self._renderer.piece(choice, piece)
        if len(choice.pieces) == 1:
            data = self._renderer.role(choice.index) + data
        if self._answer is not None:
            self._answer.made((piece.token,), piece.finish)
            data = self._answer.out(data)
        if piece.finish:
            self._open -= 1
        if self._cut and self._tokens >= self._cut.after_tokens:
            self._write(data)
            self._cut_short(self._cut)
        elif self._open:
            self._write(data)
        else:
            self._write(data + self._renderer.closing(self._choices))
            self._end()

    def told(self, pieces: list[Piece]) -> None:
        """Send what is missing of the known beginning of an answer; it may be all of it."""
        (choice,) = self._choices
        assert self._answer is not None
        data = [self._renderer.piece(choice, piece) for piece in pieces]
        self._write(self._answer.out(self._renderer.role(0) + b"".join(data)))
        if choice.finish:
            self._write(self._renderer.closing(self._choices))
            self._end()

    def _cut_short(self, cut: Cut) -> None:
        if cut.is_reset:
            # The reset ends the handler, as any lost connection does.
            self._is_over = True
            asyncio.get_running_loop().call_later(_FLUSH_S, reset, self._transport)
            return
        error = Rejection(500, "EngineCore encountered an issue.", "InternalServerError")
        self._write(b"data: %b\n\n%b" % (error.payload(), DONE))
        self._end()

    def _end(self) -> None:
        self._is_over = True
        if not self.ended.done():
            self.ended.set_result(None)

    def _write(self, data: bytes) -> None:
        if data and not self._transport.is_closing():
            self._transport.write(b"%x\r\n%b\r\n" % (len(data), data))


def take_cut(faults: Faults) -> Cut | None:
    """What will cut the next stream short, if anything; uses up one of `faults.times`."""
    kill_at, fail_at = faults.kill_stream_after_tokens, faults.fail_stream_after_tokens
    after_tokens = fail_at if kill_at is None else kill_at
    if after_tokens is None or faults.times <= 0:
        return None
    faults.times -= 1
    return Cut(after_tokens, is_reset=kill_at is not None)
