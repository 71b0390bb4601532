"""The line of held calls of a request-level simulation: in order of arrival, and by the gateway's
own rule (`scarce`) where nobody else could take them."""

from __future__ import annotations

from collections import OrderedDict

from autoscale.calls import MODEL, Row
from serving import scarce
from serving.choice import has_room
from serving.records import Call, FleetView


class Line:
    """Mutable."""

    def __init__(self) -> None:
        self._held: OrderedDict[str, tuple[Call, Row]] = OrderedDict()
        self._needs: dict[str, scarce.Need] = {}
        self.counts: dict[str, int] = {}
        """By model, live, as views show it."""

    def __len__(self) -> int:
        return len(self._held)

    def __contains__(self, request_id: str) -> bool:
        return request_id in self._held

    @property
    def rows(self) -> list[Row]:
        """What waits."""
        return [row for _, row in self._held.values()]

    def put(self, call: Call, row: Row) -> None:
        """At its end."""
        self._held[call.request_id] = call, row
        self.counts[MODEL] = len(self._held)

    def take(self, request_id: str) -> tuple[Call, Row] | None:
        """Out of it, if it is in it."""
        found = self._held.pop(request_id, None)
        self._needs.pop(request_id, None)
        self.counts[MODEL] = len(self._held)
        return found

    def first(self, request_id: str) -> None:
        """It stays at the head."""
        self._held.move_to_end(request_id, last=False)

    def next(self, view: FleetView, now_s: float) -> str | None:
        """Whose turn it is. Without an API that is asked only when an engine has room, as a
        gateway asks; with one the head looks again each time whether it had better leave."""
        own = view.replicas.get(MODEL, ())
        head = next(iter(self._held), None)
        if head is None or not own or not scarce.is_short(MODEL, "t", view, now_s):
            return head
        if not any(has_room(replica, view, now_s) for replica in own):
            return None
        for name, (call, _) in self._held.items():
            if name not in self._needs:
                found = scarce.need(call, view, 1, call.first_token_by_s)
                assert found is not None, "an engine stands"
                self._needs[name] = found
        names = list(self._held)
        place = scarce.first([self._needs[name] for name in names], len(own), now_s)
        return head if place is None else names[place]
