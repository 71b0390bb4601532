"""The queue of held calls: bounded, fair between tenants, ordered by deadline within one.

Deficit round robin over tenants, in predicted tokens, one ring per model. Pure: the caller says
what time it is, wakes whom `pop` returns, and may say who of a tenant's calls goes next (`scarce`).
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Mapping
from typing import TypeAlias

from serving.records import Call
from serving.scarce import Need

QUANTUM_TOKENS = 2048
"""A tenant's credit a round: about one long prompt, so that short calls go several at a time."""
PICKED_MAX = 256
"""Of a tenant's longer line those are shown to a `Pick` whose time ends first."""


class Held:
    """One call in the queue."""

    __slots__ = (
        "call", "deadline_s", "evict", "haste", "is_gone", "model", "need", "rank", "since_s",
        "size", "tenant", "tokens", "wake",
    )  # fmt: skip

    def __init__(
        self, model: str, tenant: str, tokens: int, size: int, wake: Callable[[], None]
    ) -> None:
        self.model = model
        self.tenant = tenant
        self.tokens = tokens
        self.size = size
        self.wake = wake
        self.evict = wake
        """Called instead of `wake` when it must give its place to a call that matters more."""
        self.rank = 0
        """How readily it gives way: a higher one gives way to a lower one."""
        self.call: Call | None = None
        self.haste = 0
        self.need: Need | None = None
        """Reckoned when it is asked for."""
        self.deadline_s = 0.0
        self.since_s = 0.0
        self.is_gone = False


Pick: TypeAlias = Callable[[Held, Callable[[], list[Held]]], Held | None]
"""Of one tenant's calls, in order of deadline, who goes next; None: the first. It is given the
first, and what tells of the others, for to look through a line at each turn takes its time."""


class _Lane:
    """One tenant's held calls for one model."""

    __slots__ = ("credit", "heap")

    def __init__(self) -> None:
        self.heap: list[tuple[float, int, Held]] = []
        self.credit = 0

    def head(self) -> Held | None:
        while self.heap and self.heap[0][2].is_gone:
            heapq.heappop(self.heap)
        return self.heap[0][2] if self.heap else None

    def standing(self) -> list[Held]:
        """In order of deadline. A heap tells its first few without being sorted."""
        heap, gone = self.heap, 0
        found: list[Held] = []
        edge = [(heap[0], 0)] if heap else []
        while edge and len(found) < PICKED_MAX:
            (_, _, held), at = heapq.heappop(edge)
            if held.is_gone:
                gone += 1
            else:
                found.append(held)
            for below in range(2 * at + 1, min(2 * at + 3, len(heap))):
                heapq.heappush(edge, (heap[below], below))
        if gone > PICKED_MAX:  # who was picked left a gap within, to be passed by at each turn
            self.tidy()
        return found

    def tidy(self) -> None:
        """Drop who has gone."""
        self.heap = [entry for entry in self.heap if not entry[2].is_gone]
        heapq.heapify(self.heap)


class Queue:
    """All held calls of this process."""

    def __init__(self, calls_max: int, bytes_max: int) -> None:
        self._calls_max = calls_max
        self._bytes_max = bytes_max
        self._lanes: dict[str, dict[str, _Lane]] = {}
        self._rings: dict[str, deque[str]] = {}
        self._held: dict[str, int] = {}
        self._seq = 0
        self.calls = 0
        self.bytes = 0

    def put(self, held: Held, deadline_s: float, now_s: float) -> bool:
        """Take a call in; False when the queue is full. Mutates."""
        if self.calls >= self._calls_max or self.bytes + held.size > self._bytes_max:
            return False
        assert not held.is_gone, "a Held stands in line once"
        held.deadline_s, held.since_s = deadline_s, now_s
        lanes = self._lanes.setdefault(held.model, {})
        lane = lanes.get(held.tenant)
        if lane is None:
            lane = lanes[held.tenant] = _Lane()
            self._rings.setdefault(held.model, deque()).append(held.tenant)
        if len(lane.heap) > 2 * self._calls_max:
            lane.tidy()
        self._seq += 1
        heapq.heappush(lane.heap, (deadline_s, self._seq, held))
        self.calls += 1
        self.bytes += held.size
        self._held[held.model] = self._held.get(held.model, 0) + 1
        return True

    def victims(self, rank: int, size: int) -> list[Held]:
        """Who gives way to a call of this rank and size in a full queue: of those that rank highest
        the latest come, as many as make room; none when not enough rank above. Mutates nothing."""
        above = [
            held
            for lanes in self._lanes.values()
            for lane in lanes.values()
            for _, _, held in lane.heap
            if held.rank > rank and not held.is_gone
        ]
        above.sort(key=lambda held: (held.rank, held.since_s))
        found: list[Held] = []
        calls, left = self.calls, self._bytes_max - self.bytes
        while above and (calls >= self._calls_max or left < size):
            found.append(above.pop())
            calls, left = calls - 1, left + found[-1].size
        return found if calls < self._calls_max and left >= size else []

    def remove(self, held: Held) -> None:
        """Take a call out, wherever it stands; safe to call twice."""
        if held.is_gone:
            return
        held.is_gone = True
        self.calls -= 1
        self.bytes -= held.size
        self._held[held.model] -= 1
        if not self._held[held.model]:
            # Nobody waits for this model: forget its lanes, or idle tenants would pile up.
            del self._held[held.model], self._lanes[held.model], self._rings[held.model]

    def waiting(self, model: str) -> int:
        """Calls held for a model."""
        return self._held.get(model, 0)

    @property
    def held(self) -> Mapping[str, int]:
        """Calls held by model, live; read-only for everybody else."""
        return self._held

    def models(self) -> list[str]:
        """Models somebody waits for."""
        return list(self._held)

    def pop(self, model: str, pick: Pick | None = None) -> Held | None:
        """The next call whose turn it is, removed; None when nobody waits."""
        ring, picked = self._rings.get(model), dict[str, Held]()
        while ring:
            tenant = ring[0]
            lane = self._lanes[model][tenant]
            head = lane.head()
            if head is None:
                ring.popleft()
                del self._lanes[model][tenant]
                continue
            if pick is not None:
                if tenant not in picked:
                    picked[tenant] = pick(head, lane.standing) or head
                head = picked[tenant]
            if lane.credit >= head.tokens or len(ring) == 1:
                lane.credit = max(0, lane.credit - head.tokens)
                self.remove(head)
                return head
            lane.credit += QUANTUM_TOKENS
            ring.rotate(-1)
        return None

    def snapshot(self, now_s: float) -> dict[str, tuple[int, int, float]]:
        """Per model: calls, predicted tokens, age of the oldest in seconds."""
        found: dict[str, tuple[int, int, float]] = {}
        for model, lanes in self._lanes.items():
            held = [h for lane in lanes.values() for _, _, h in lane.heap if not h.is_gone]
            oldest_s = max((now_s - h.since_s for h in held), default=0.0)
            found[model] = (len(held), sum(h.tokens for h in held), oldest_s)
        return found
