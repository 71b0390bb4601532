"""Other people's control laws, for comparison. Pure; each from its published description.

All of them send what does not fit to the API, which most of the originals do not, and see the same
fluid demand as ours. Where a law works on a signal that a fluid model has not (waiting requests, KV
memory), its busy share stands for it: those are approximate and say so in `APPROXIMATE`. `target`
is the one number that is tuned, on another trace than is scored.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import msgspec

BIN_S = 10.0
EPSILON = 1e-9
MONTHLY = "by the month + API"


class Seen(msgspec.Struct, frozen=True):
    """One bin."""

    rate: float
    """Demand in full replicas."""
    ready: int
    wanted: int
    """Decided last, loading ones included."""


class Scaler(Protocol):
    """Says how many replicas to have."""

    def wanted(self, seen: Seen) -> int:
        """Called once a bin; may remember."""


def _need(rate: float, target: float) -> int:
    return max(0, math.ceil(rate / target - EPSILON))


class AllApi:
    """No replica ever."""

    def __init__(self, target: float) -> None:
        del target

    def wanted(self, seen: Seen) -> int:
        """See `Scaler`."""
        del seen
        return 0


class Spill:
    """A fixed fleet, what is above it spills: provisioned throughput of Azure and Vertex. `target`
    is the count."""

    def __init__(self, target: float) -> None:
        self._count = round(target)

    def wanted(self, seen: Seen) -> int:
        """See `Scaler`."""
        del seen
        return self._count


class Monthly(Spill):
    """Machines rented by the month, what is above them spills. They stand from the trace's start
    and cost `Scenario.month_share` of the hour's price, used or not. `target` is the count."""


class Ray:
    """Ray Serve's default: mean of ongoing requests over 30 s, a change must be wanted for 30 s
    upwards or 600 s downwards (autoscaling_policy.py @ 00590c456b9a)."""

    def __init__(self, target: float) -> None:
        self._target = target
        self._past: deque[float] = deque(maxlen=3)
        self._up = self._down = 0

    def wanted(self, seen: Seen) -> int:
        """See `Scaler`."""
        self._past.append(seen.rate)
        need = max(1, _need(sum(self._past) / len(self._past), self._target))
        self._up = self._up + 1 if need > seen.wanted else 0
        self._down = self._down + 1 if need < seen.wanted else 0
        if self._up * BIN_S > 30.0 or self._down * BIN_S > 600.0 or not seen.wanted:
            self._up = self._down = 0
            return need
        return seen.wanted


class Hpa:
    """Kubernetes HPA (KEDA feeds one): N x metric / target, 10 % dead band, the highest wish of the
    last 300 s counts downwards."""

    def __init__(self, target: float) -> None:
        self._target = target
        self._wishes: deque[int] = deque(maxlen=30)

    def wanted(self, seen: Seen) -> int:
        """See `Scaler`."""
        ready = max(1, seen.ready)
        share = seen.rate / ready / self._target
        wish = ready if abs(share - 1.0) <= 0.1 else max(1, math.ceil(ready * share - EPSILON))
        self._wishes.append(wish)
        return max(wish, min(max(self._wishes), max(1, seen.wanted)))


class Kpa:
    """Knative: the mean of 60 s, or of one bin while that asks for twice what is ready; panic never
    scales down and lasts 60 s; to zero after 30 s without demand."""

    def __init__(self, target: float) -> None:
        self._target = target
        self._past: deque[float] = deque(maxlen=6)
        self._panic = self._most = 0

    def wanted(self, seen: Seen) -> int:
        """See `Scaler`."""
        self._past.append(seen.rate)
        stable = _need(sum(self._past) / len(self._past), self._target)
        short = _need(seen.rate, self._target)
        if short >= 2 * max(1, seen.ready):
            self._panic = 6
        if self._panic:
            self._panic -= 1
            self._most = max(self._most, short, seen.wanted)
            return self._most
        self._most = 0
        return stable


class Saturation:
    """llm-d's WVA, saturation: one more when the spare share is below a tenth, one less when what
    is left would keep its spare; nothing while a replica loads (@ b08b1c77c89d)."""

    def __init__(self, target: float) -> None:
        self._spare = 1.0 - target

    def wanted(self, seen: Seen) -> int:
        """See `Scaler`."""
        if seen.ready < seen.wanted:
            return seen.wanted
        ready = max(1, seen.ready)
        if 1.0 - seen.rate / ready < self._spare:
            return ready + 1
        if ready > 1 and 1.0 - seen.rate / (ready - 1) > 2 * self._spare + 0.05:
            return ready - 1
        return ready


class TokenRate:
    """TokenScale and WVA's queueing model: arriving work over what a replica sustains within the
    objective, both learnt; downwards after 300 s as HPA does."""

    def __init__(self, target: float) -> None:
        self._target = target
        self._past: deque[float] = deque(maxlen=3)
        self._wishes: deque[int] = deque(maxlen=30)

    def wanted(self, seen: Seen) -> int:
        """See `Scaler`."""
        self._past.append(seen.rate)
        self._wishes.append(_need(sum(self._past) / len(self._past), self._target))
        return max(self._wishes[-1], min(max(self._wishes), seen.wanted))


class TwoLayer:
    """Dynamo's planner: each 180 s a lower bound from the last interval's demand, each 30 s one
    more or one fewer by load, nothing while one loads (planner-design @ 320e674b0f76)."""

    def __init__(self, target: float) -> None:
        self._target = target
        self._past: deque[float] = deque(maxlen=18)
        self._floor = self._turn = 0

    def wanted(self, seen: Seen) -> int:
        """See `Scaler`."""
        self._past.append(seen.rate)
        self._turn += 1
        if self._turn % 18 == 0:
            self._floor = _need(sum(self._past) / len(self._past), self._target)
        if seen.ready < seen.wanted or self._turn % 3:
            return max(seen.wanted, self._floor)
        load = seen.rate / max(1, seen.ready)
        step = (load > self._target) - (load < self._target * 0.6 and seen.ready > 1)
        return max(1, self._floor, seen.ready + step)


class Backpressure:
    """Chiron-like: one more above a backpressure of 0.6 (SageServe's re-implementation), one fewer
    below a quarter of it, once a minute."""

    def __init__(self, target: float) -> None:
        self._target = target
        self._turn = 0

    def wanted(self, seen: Seen) -> int:
        """See `Scaler`."""
        self._turn += 1
        if self._turn % 6 or seen.ready < seen.wanted:
            return seen.wanted
        load = seen.rate / max(1, seen.ready)
        step = (load > self._target) - (load < self._target / 4)
        return max(1, seen.ready + step)


SCALERS: Mapping[str, Callable[[float], Scaler]] = {
    "all API": AllApi,
    "fixed + spill": Spill,
    MONTHLY: Monthly,
    "Ray Serve": Ray,
    "HPA / KEDA": Hpa,
    "Knative KPA": Kpa,
    "WVA saturation": Saturation,
    "WVA queueing / TokenScale": TokenRate,
    "Dynamo two-layer": TwoLayer,
    "Chiron-like": Backpressure,
}
APPROXIMATE = ("HPA / KEDA", "Knative KPA", "WVA saturation", "Dynamo two-layer", "Chiron-like")
TARGETS = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.2, 1.5, 2.0)
"""Tried when tuning. Above 1 a replica is added only when more than one is missing: with an API
behind, that is a sensible setting."""
COUNTS = tuple(float(n) for n in range(13))


def grid(name: str) -> Sequence[float]:
    """Targets to try."""
    if name == "all API":
        return (1.0,)
    return COUNTS if name in ("fixed + spill", MONTHLY) else TARGETS


def months(name: str, target: float) -> int:
    """Machines that stand from the start, rented by the month."""
    return round(target) if name == MONTHLY else 0
