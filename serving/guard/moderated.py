"""An answer that an external service judges while it is on its way.

`closed`: nothing leaves that was not judged; events wait for their window. `open`: events leave at
once and are judged behind; a refusal ends the stream when it comes, and the end waits for the last
one. Either way the answer that is refused ends with `content_filter`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

from serving.backends.base import BlockStream
from serving.errors import UpstreamError
from serving.guard.inspector import Inspector
from serving.guard.moderation import Judgement
from serving.guard.values import Action, Finding
from serving.guard.windows import Windows
from serving.records import Block

Ask = Callable[[str], Awaitable[Judgement]]


class Moderated:
    """A BlockStream whose Blocks, inspected already, are judged."""

    def __init__(self, stream: BlockStream, inspector: Inspector, ask: Ask) -> None:
        self._stream = stream
        self._inspector = inspector
        self._ask = ask
        self._is_over = False

    def __aiter__(self) -> Moderated:
        return self

    async def __anext__(self) -> Block:
        """A plain answer: judged whole."""
        block = await self._stream.__anext__()
        text = self._inspector.output.taken()
        if text and self._refuses(await self._ask(text)):
            return self._inspector.refused(block)
        return block

    def _refuses(self, judged: Judgement) -> bool:
        """Note what was judged; whether it ends the answer."""
        if judged.action is not None:
            finding = Finding("moderation", judged.action, "answer", judged.reason)
            self._inspector.output.findings[finding] += 1
        return judged.action is Action.BLOCK

    def _refused(self, told: frozenset[int]) -> Block:
        """The target need not go on with what nobody will read."""
        self.abort()
        return self._inspector.refuse(told)

    def abort(self) -> None:
        """See `BlockStream.abort`."""
        self._is_over = True
        self._stream.abort()


class Closed(Moderated):
    """A stream of which nothing leaves unjudged."""

    def __init__(self, stream: BlockStream, inspector: Inspector, ask: Ask) -> None:
        super().__init__(stream, inspector, ask)
        self._windows = Windows()
        self._ready: deque[Block] = deque()
        self._fault: UpstreamError | None = None
        self._told: frozenset[int] = frozenset()

    async def __anext__(self) -> Block:
        if not self._ready:
            await self._fill()
        if self._ready:
            return self._ready.popleft()
        if self._fault is not None:
            fault, self._fault = self._fault, None
            raise fault
        raise StopAsyncIteration

    async def _fill(self) -> None:
        """Hold events until their text is judged."""
        held: list[Block] = []
        while not self._is_over and self._fault is None:
            is_last = True
            try:
                block = await self._stream.__anext__()
                held.append(block)
                is_last = block.ends
                self._windows.take(self._inspector.output.taken())
            except StopAsyncIteration:
                self._is_over = True
            except UpstreamError as fault:
                self._fault = fault
            text = self._windows.due(is_last)
            if text and self._refuses(await self._ask(text)):
                self._fault = None
                held = [self._refused(self._told)]
            if not self._windows.pending:
                break
        self._told = self._inspector.ended
        self._ready.extend(held)


class Open(Moderated):
    """A stream that is judged behind its back."""

    def __init__(self, stream: BlockStream, inspector: Inspector, ask: Ask) -> None:
        super().__init__(stream, inspector, ask)
        self._windows = Windows()
        self._task: asyncio.Future[Judgement] | None = None
        self._told: frozenset[int] = frozenset()

    async def __anext__(self) -> Block:
        if self._is_over:
            raise StopAsyncIteration
        if self._task is not None and self._task.done() and self._refuses(self._task.result()):
            return self._refused(self._told)
        try:
            block = await self._stream.__anext__()
        except StopAsyncIteration:
            if await self._judged(is_last=True):
                return self._refused(self._told)
            raise
        self._windows.take(self._inspector.output.taken())
        if await self._judged(block.ends or block.finish is not None):
            return self._refused(self._told)
        self._told = self._inspector.ended
        return block

    async def _judged(self, is_last: bool) -> bool:
        """Go on asking; at the end wait for all answers. Whether one of them refuses."""
        while True:
            if self._task is not None:
                if not (self._task.done() or is_last):
                    return False
                judged, self._task = await self._task, None
                if self._refuses(judged):
                    return True
            text = self._windows.due(is_last)
            if not text:
                return False
            self._task = asyncio.ensure_future(self._ask(text))

    def abort(self) -> None:
        """See `BlockStream.abort`."""
        if self._task is not None:
            self._task.cancel()
        super().abort()
