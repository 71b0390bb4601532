"""What is kept in memory: bounded in bytes and in time, the least used goes first. Pure."""

from __future__ import annotations

from collections import OrderedDict

OVERHEAD_BYTES = 200
"""Of one entry: its key, its place in the table, its time."""


class Shelf:
    """Values by key."""

    def __init__(self, bytes_max: int, ttl_s: float) -> None:
        self._bytes_max = bytes_max
        self._ttl_s = ttl_s
        self._kept: OrderedDict[bytes, tuple[float, bytes]] = OrderedDict()
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: bytes, now_s: float) -> bytes | None:
        """The value, if it is there and not too old."""
        found = self._kept.get(key)
        if found is None:
            return None
        if now_s - found[0] > self._ttl_s:
            self._drop(key)
            return None
        self._kept.move_to_end(key)
        return found[1]

    def put(self, key: bytes, value: bytes, now_s: float) -> None:
        """Keep a value; what no longer fits goes. One that would take a quarter is not kept."""
        size = len(value) + OVERHEAD_BYTES
        if size > self._bytes_max // 4:
            return
        if key in self._kept:
            self._drop(key)
        self._kept[key] = now_s, value
        self.bytes += size
        while self.bytes > self._bytes_max:
            self._drop(next(iter(self._kept)))

    def _drop(self, key: bytes) -> None:
        self.bytes -= len(self._kept.pop(key)[1]) + OVERHEAD_BYTES
