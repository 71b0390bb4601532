"""A circuit breaker per target: stop sending where it fails, probe, come back. Pure but for its own
counters; time is an argument.

Opens after 3 failures in a row, or 5 of the last 10 calls within 30 s; for 10 s, doubling to 120 s
while probes fail. After that one probe is let through. Whether it is shut, as the controller is
told, is another question than whether it is open (0154).
"""

from __future__ import annotations

from collections import deque
from typing import Protocol

from serving import errors
from serving.errors import Kind
from serving.records import TargetState

IN_A_ROW = 3
OF_LAST, FAILED_MIN, WINDOW_S = 10, 5, 30.0
OPEN_S, OPEN_S_MAX = 10.0, 120.0
PROBE_S = 60.0
UNPROVEN_S = 60.0
"""For so long after its time a breaker that no probe has closed still passes for shut. Not for
ever: a target that nobody asks must not keep machines."""
LIMITED_S = 60.0
"""A rate limit is of a target that is there; one that took nothing for longer is not of so many
calls a minute."""
_AS_STATED = (Kind.RATE_LIMIT, Kind.QUOTA_WINDOW)
"""Kinds whose own Retry-After is believed also when it is shorter than ours."""


class Try(Protocol):
    """One call, known by being the same object again; a Ticket is one."""

    @property
    def issued_s(self) -> float:
        """When it went out."""


class Breaker:
    """Writes `state.open_until_s`: 0 closed, a time while open; a probe extends it.

    Calls sent before it opened still end afterwards: they neither close it nor pass for its probe.
    """

    __slots__ = ("_in_a_row", "_limited_s", "_open_s", "_probe", "_recent", "_state")

    def __init__(self, state: TargetState) -> None:
        self._state = state
        self._in_a_row = 0
        self._limited_s: float | None = None
        """When a rate limit opened it, or last let a call through; None: another reason did."""
        self._open_s = OPEN_S
        self._probe: Try | None = None
        self._recent: deque[tuple[float, bool]] = deque(maxlen=OF_LAST)

    def sent(self, ticket: Try) -> None:
        """A call goes out. If the breaker was open this is its one probe."""
        if self._state.open_until_s:
            if self._limited_s is not None and ticket.issued_s >= self._unproven_s():
                self._limited_s = ticket.issued_s  # nobody asked meanwhile: it refused nothing
            # A lease, not for ever: a probe that takes hours must not keep everybody out.
            self._state.open_until_s = ticket.issued_s + PROBE_S
            self._probe = ticket

    def succeeded(self, ticket: Try, now_s: float) -> None:
        """A call got its first content."""
        if self._state.open_until_s:
            if self._limited_s is not None:
                self._limited_s = now_s
            if ticket is self._probe:
                self._state.open_until_s = 0.0
                self._open_s, self._in_a_row, self._probe = OPEN_S, 0, None
                self._recent.clear()
        elif self._in_a_row or self._recent:
            self._recent.append((now_s, False))
            self._in_a_row = 0

    def neither(self, ticket: Try, now_s: float) -> None:
        """A call ended in a way that says nothing about the target (say, the caller left)."""
        if ticket is self._probe:
            self._probe = None
            self._state.open_until_s = now_s

    def failed(self, ticket: Try, kind: Kind, now_s: float, retry_after_s: float | None) -> None:
        """A call failed; opens at once for kinds in `errors.OPENS`."""
        if kind in errors.OPENS:
            wait_s = retry_after_s or errors.OPENS[kind]
            if kind not in _AS_STATED:
                wait_s = max(wait_s, errors.OPENS[kind])
            is_first = not self._state.open_until_s
            self._open(now_s, wait_s)
            if kind is not Kind.RATE_LIMIT:
                self._limited_s = None
            elif is_first:
                self._limited_s = now_s
            return
        if kind not in errors.COUNTS:
            self.neither(ticket, now_s)
            return
        self._in_a_row += 1
        self._recent.append((now_s, True))
        lately = sum(bad for at_s, bad in self._recent if at_s > now_s - WINDOW_S)
        was_probe = ticket is self._probe
        if was_probe:
            self._open_s = min(2 * self._open_s, OPEN_S_MAX)
        elif self._probe is not None:
            return  # the probe decides
        if was_probe or self._in_a_row >= IN_A_ROW or lately >= FAILED_MIN:
            self._limited_s = None
            self._open(now_s, max(self._open_s, retry_after_s or 0.0))

    def shut(self, until_s: float) -> None:
        """Keep calls away until then, for a reason that no call of this target told."""
        self._state.open_until_s, self._limited_s = until_s, None

    def is_shut(self, now_s: float) -> bool:
        """Whether the target passes for absent: it refuses everything, or nobody has seen lately
        that it no longer does. One that only says "not so many" is there."""
        if not self._state.open_until_s or now_s >= self._unproven_s():
            return False
        return self._limited_s is None or now_s - self._limited_s > LIMITED_S

    def _unproven_s(self) -> float:
        return self._state.open_until_s + UNPROVEN_S

    def _open(self, now_s: float, wait_s: float) -> None:
        until_s = now_s + min(wait_s, errors.OPENS_S_MAX)
        # The later of two deadlines: a short Retry-After must not undo a longer one. But while a
        # probe is out the time set is only its lease.
        current_s = 0.0 if self._probe is not None else self._state.open_until_s
        self._state.open_until_s = max(current_s, until_s)
        self._probe = None
