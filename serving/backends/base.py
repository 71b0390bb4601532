"""The Backend protocol: one way to run a call on a target, whoever the target is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, Self, TypeAlias, runtime_checkable

from serving.records import Block, Call, Resume, Target, Ticket

Take: TypeAlias = Callable[[Block], bool]
"""Deals with a Block at once, or says False and leaves it to the reader."""


class BlockStream(Protocol):
    """The answer of one attempt."""

    def __aiter__(self) -> Self:
        """Itself."""
        ...

    async def __anext__(self) -> Block:
        """The next Block. Raises StopAsyncIteration or UpstreamError."""
        ...

    def abort(self) -> None:
        """Stop now; upstream is cancelled within a second. Safe to call twice and after the end."""


@runtime_checkable
class Resumable(Protocol):
    """A BlockStream that another target may go on with."""

    def resume(self) -> Resume | None:
        """After a failure: where to go on; None where nobody can."""
        ...


class Backend(Protocol):
    """Runs a call on one kind of target."""

    def stream(self, call: Call, target: Target, ticket: Ticket, deadline_s: float) -> BlockStream:
        """The answer as blocks: several for a stream, exactly one for a plain answer.

        Does nothing until the first `__anext__`. Raises `errors.UpstreamError` from `__anext__`
        before the first block when the target refused, and after it when the stream broke.
        `deadline_s` is on the loop's clock and bounds the whole attempt.
        """
        ...

    async def close(self) -> None:
        """Give back connections; called once, when the gateway ends."""


def hand(stream: BlockStream, take: Take) -> None:
    """Once the first content has come, let `take` have Blocks as they arrive, past the task that
    reads the stream, where the stream can: waking it is a quarter of what a token that comes alone
    costs (0152). What `take` leaves, and whatever it raises, reaches the reader in its turn."""
    offered: Callable[[Take], None] | None = getattr(stream, "hand", None)
    if offered is not None:
        offered(take)
