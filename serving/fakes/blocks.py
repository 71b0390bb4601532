"""Blocks of KV memory as vLLM's pool keeps them: counted, and those that are full remembered by
name after their sequence ended, until memory is needed. Pure."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

BLOCK_TOKENS: Final = 16
"""Tokens in one block of KV memory, vLLM's default."""
REMEMBERED_MAX: Final = 131_072
"""Blocks kept for nobody at most, 2 million tokens, about 20 MB of names: `instant` has memory for
fifty times more."""

Name = bytes | tuple[int, int]
"""What stands in a block and before it: of a prompt a hash, of an answer its sequence and place."""


class Blocks:
    """A block that several sequences share is counted once. One of the same content that two
    computed side by side is remembered for the first of them; the other's counts as its own."""

    def __init__(self, total: int, kept_max: int = REMEMBERED_MAX) -> None:
        self.total = total
        self._kept_max = kept_max
        self.used = 0
        """Held by sequences; the others are free, remembered or not."""
        self._shared: dict[Name, int] = {}
        self._idle: OrderedDict[Name, None] = OrderedDict()

    @property
    def kept(self) -> int:
        """Blocks remembered that nobody holds."""
        return len(self._idle)

    def fits(self, blocks: int) -> bool:
        """Whether so many more can be held."""
        return self.used + blocks <= self.total

    def known(self, names: Sequence[Name]) -> Sequence[Name]:
        """The first of `names`, as many as are remembered without a gap."""
        shared, idle = self._shared, self._idle
        for count, name in enumerate(names):
            if name not in shared and name not in idle:
                return names[:count]
        return names

    def idle(self, names: Sequence[Name]) -> int:
        """How many of these nobody holds: to share them takes memory."""
        return sum(name in self._idle for name in names)

    def take(self, count: int) -> None:
        """Hold so many, which must fit; forgets what was left longest ago where none is blank."""
        self.used += count
        for _ in range(self.used + len(self._idle) - self.total):
            self._idle.popitem(last=False)

    def share(self, names: Sequence[Name]) -> None:
        """Hold remembered blocks, beside those who do."""
        for name in names:
            if name in self._idle:
                del self._idle[name]
                self._shared[name] = 1
                self.used += 1
            else:
                self._shared[name] += 1

    def remember(self, names: Sequence[Name]) -> list[Name]:
        """Name blocks that are held and full now; returns those that no other block is named."""
        shared, idle = self._shared, self._idle
        new = [name for name in names if name not in shared and name not in idle]
        shared.update(dict.fromkeys(new, 1))
        return new

    def give_back(self, named: Sequence[Name], others: int) -> None:
        """Hold these no longer. A sequence's last ones are forgotten first."""
        self.used -= others
        shared, idle = self._shared, self._idle
        for name in reversed(named):
            if shared[name] > 1:
                shared[name] -= 1
                continue
            del shared[name]
            self.used -= 1
            idle[name] = None
        while len(idle) > self._kept_max:
            idle.popitem(last=False)
