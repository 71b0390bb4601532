"""Memory for large bodies: one bound for all, and one for each key's. Pure."""

from __future__ import annotations


class Room:
    """Counts what is taken, and by whom."""

    def __init__(self, bytes_max: int, bytes_of_one_max: int) -> None:
        self.left_bytes = bytes_max
        self._of_one_max = bytes_of_one_max
        self._taken: dict[str, int] = {}

    def take(self, size: int, owner: str) -> str:
        """Take so many bytes, or give them back when negative; the code of a refusal, empty when
        there is room."""
        owned = self._taken.get(owner, 0) + size
        if size > self.left_bytes:
            return "no_capacity"
        if size > 0 and owned > self._of_one_max:
            return "rate_limit_exceeded"
        self.left_bytes -= size
        if owned > 0:
            self._taken[owner] = owned
        else:
            self._taken.pop(owner, None)
        return ""
