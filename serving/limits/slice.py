"""One counter shared by processes, as one of them sees it: the slice it holds. Pure.

It spends what it holds and asks for more in the background. To a counter that it has not heard of
lately it makes a first contact: it lends itself one slice at once and owes it. So all processes
together let in no more than the limit and one slice each; of units that calls take many of at a
time, also one call each. While the store is away a process counts its own share.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from serving.limits.base import Ask, Grant, Rule
from serving.limits.bucket import Bucket

FIRST = 16
"""A slice is this part of a process's share of the limit, at least one unit: large enough for the
first calls of a burst, small beside the limit."""
IDLE_S = 1.0
"""A counter not used for so long gives its units back, and is not asked for any more."""
_CLOSE = 1e-6


class Slice:
    """Implements `base.Meter`. `on_need` is told whenever the store should be asked soon."""

    __slots__ = (
        "_began_ms", "_demand", "_ends_s", "_held", "_is_away", "_is_known", "_is_resting",
        "_leased", "_left",
        "_missed", "_on_need", "_pods", "_read_s", "_sent", "_spent", "_used_s", "_window", "key",
        "limit", "own", "rule",
    )  # fmt: skip

    def __init__(
        self, key: str, rule: Rule, pods: int, now_s: float, on_need: Callable[[Slice], None]
    ) -> None:
        self.key, self.rule, self.limit = key, rule, rule.limit
        self.own: Bucket | None = None
        """Counts this process's share of a rate while the store is away."""
        self._pods = max(1, pods)
        self._on_need = on_need
        self._window = 0
        self._is_away = False
        self._used_s = now_s
        self._anew(now_s)

    def _anew(self, now_s: float) -> None:
        """Nothing is known: full, as far as this process can tell."""
        self._held = 0.0 if self._pods == 1 else self.size
        self._left = self.limit - self._held
        self._leased = self._spent = self._sent = self._missed = self._demand = 0.0
        self._is_known, self._began_ms, self._ends_s = False, 0, math.inf
        self._is_resting = False
        self._read_s = now_s

    @property
    def size(self) -> float:
        """Units of one slice."""
        return float(max(1, self.limit // (FIRST * self._pods)))

    @property
    def _share(self) -> int:
        return max(1, self.limit // self._pods)

    def remember(self, grant: Grant, now_s: float) -> None:
        """What the store knew when this process started."""
        self._left = grant.left - self._held
        self._began_ms, self._ends_s, self._is_known = grant.began_ms, now_s + grant.ends_s, True
        if grant.left < self._held:
            self._left, self._held = grant.left, 0.0

    def relimit(self, rule: Rule, now_s: float) -> None:
        """Another limit from now on; what was used stays used."""
        self._left += rule.limit - self.limit
        self.rule, self.limit = rule, rule.limit
        if self.own is not None:
            self.own = Bucket(self._share, rule.length_s, now_s)

    # -- the request path

    def has(self, units: float, now_s: float) -> bool:
        """See `base.Meter`."""
        self._turn(now_s)
        if self.own is not None:
            return self.own.has(units, now_s)
        units = min(units, float(self.limit))
        if self._held + _CLOSE >= units:
            return True
        if self._pods == 1:  # nobody else spends: it need hold nothing
            return self._held + self._common(now_s) + _CLOSE >= units
        common = self._common(now_s)
        if self._is_resting and common + self._held + _CLOSE >= units:
            # First contact: by what was last heard there should be enough.
            self._is_resting = False
            lent = min(self.size, common)
            self._left, self._held, self._read_s = common - lent, self._held + lent, now_s
        self._missed += units
        self._used_s = now_s
        self._on_need(self)
        return self._held > 0.0 and self._held + self._common(now_s) + _CLOSE >= units

    def take(self, units: float, now_s: float) -> int:
        """See `base.Meter`."""
        self._turn(now_s)
        if math.isinf(self._ends_s) and self.rule.is_window:
            self._ends_s = now_s + self.rule.length_s
        if self.own is not None:
            self.own.take(units, now_s)
        self._held -= units
        self._spent += units
        self._used_s = now_s
        self._on_need(self)
        return self._window

    def correct(self, units: float, window: int, now_s: float) -> None:
        """See `base.Meter`."""
        self._turn(now_s)
        if window == self._window:
            self.take(units, now_s)

    def left(self, now_s: float) -> float:
        """See `base.Meter`."""
        self._turn(now_s)
        if self.own is not None:
            return self.own.left(now_s)
        return self._held + self._common(now_s)

    def wait_s(self, units: float, now_s: float) -> float:
        """See `base.Meter`."""
        if self.own is not None:
            return self.own.wait_s(units, now_s)
        missing = min(units, float(self.limit)) - self.left(now_s)
        if missing <= _CLOSE:
            return 0.0
        if self.rule.is_window:
            return self.full_s(now_s)
        return missing * self.rule.length_s / self.limit

    def full_s(self, now_s: float) -> float:
        """See `base.Meter`."""
        if self.rule.is_window:
            return 0.0 if math.isinf(self._ends_s) else max(0.0, self._ends_s - now_s)
        return max(0.0, (self.limit - self.left(now_s)) * self.rule.length_s / self.limit)

    def _common(self, now_s: float) -> float:
        """What others may still take too, as far as it is known."""
        if self.rule.is_window:
            return self._left
        refilled = self._left + (now_s - self._read_s) * self.limit / self.rule.length_s
        return min(refilled, self.limit - max(0.0, self._held))

    def _turn(self, now_s: float) -> None:
        """A window that ended leaves nothing behind."""
        if now_s >= self._ends_s:
            self._window += 1
            self._anew(now_s)

    # -- the background

    def ask(self, now_s: float) -> Ask | None:
        """What to ask the store; None when nothing is held or owed and nobody calls."""
        self._turn(now_s)
        use, self._missed = max(0.0, self._spent) + self._missed, 0.0
        self._demand = max(use, self._demand / 2)
        is_idle = now_s - self._used_s > IDLE_S
        self._is_resting = is_idle
        if is_idle and not self._spent and self._leased <= 0.0 and not self._is_away:
            return None
        spent = self._spent
        if self.own is not None:
            # What was used long ago has been refilled since: owed is what is missing now.
            spent = self.own.limit - self.own.left(now_s)
        want = min(max(self.size, 2 * self._demand), max(self.size, float(self._share)))
        if is_idle or self._pods == 1:
            want = 0.0
        self._sent, self._spent = self._spent, 0.0
        is_known = self._is_known and self.own is None
        return self._ask((spent, want), is_known, now_s)

    def farewell(self, now_s: float) -> Ask:
        """What to tell the store at the end: all is given back."""
        return self._ask((self._spent + self._sent, 0.0), self._is_known, now_s)

    def _ask(self, units: tuple[float, float], is_known: bool, now_s: float) -> Ask:
        is_open = not math.isinf(self._ends_s)
        age_s = max(0.0, now_s - self._ends_s + self.rule.length_s) if is_open else 0.0
        spent, want = units
        return Ask(
            self.key, self.rule, spent, self._leased, want, is_known, self._began_ms, age_s
        )  # fmt: skip

    def granted(self, grant: Grant, window: int, now_s: float) -> None:
        """The store answered what was asked in `window`."""
        self._sent = 0.0
        if window != self._window:
            return
        self._is_away, self.own, self._is_known = False, None, True
        self._leased = grant.held
        self._held = grant.held - self._spent  # spent since it was asked
        self._left, self._read_s = grant.left, now_s
        if self.rule.is_window:
            if self._began_ms not in (0, grant.began_ms):
                self._window += 1
            self._began_ms = grant.began_ms
            self._ends_s = now_s + grant.ends_s if grant.ends_s else math.inf
            self._is_resting = self._is_resting or not grant.ends_s

    @property
    def is_short(self) -> bool:
        """Holds nothing, and has not been told that there is no more."""
        return self._held <= 0.0 < self._left and not self._is_away

    @property
    def window(self) -> int:
        """Counts the windows that this process saw end."""
        return self._window

    def unanswered(self, now_s: float) -> None:
        """The store is away: from now on this process has its own share."""
        self._spent, self._sent = self._spent + self._sent, 0.0
        if self._is_away:
            return
        self._is_away = True
        if self.rule.is_window:
            self._held += max(0.0, self._left) / self._pods
            self._left = 0.0
            return
        share = self._share
        known = self._held + self._common(now_s) / self._pods
        self.own = Bucket(share, self.rule.length_s, now_s)
        self.own.take(share - min(float(share), known), now_s)
