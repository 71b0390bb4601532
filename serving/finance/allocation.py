"""What our own GPUs and shared things cost, and whose it is. Pure.

Allocation is all that was rented, usage the part while engines worked: a replica is in use while at
least one attempt runs on it. Usage and idle add up to the allocation, to the micro-unit. Shared
costs go out by a stated key; what rounding leaves over goes to the largest shares.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from serving.finance.months import between, bounds
from serving.finance.values import HOUR_MS, CostLine, Key, Rental
from serving.ledger.costs import Cost


class PoolCost(msgspec.Struct, frozen=True):
    """One pool over a period, in one currency."""

    pool: str
    gpu: str
    currency: str
    gpu_hours: float
    micro: int
    """The allocation."""
    used_micro: int
    idle_micro: int
    models: tuple[str, ...]

    @property
    def use(self) -> float:
        """Share of the rented time in which engines worked."""
        return self.used_micro / self.micro if self.micro else 0.0


def pools(
    rentals: Iterable[Rental], busy_ms: Mapping[str, int], since_ms: int, until_ms: int
) -> list[PoolCost]:
    """Rentals within [since, until), by pool, GPU and currency. `busy_ms` is by model, over all of
    its replicas; models of several pools are spread by rented time."""
    held: dict[tuple[str, str, str], list[tuple[Rental, int]]] = {}
    rented_ms: dict[str, int] = {}
    for rental in rentals:
        length_ms = min(rental.end_ms, until_ms) - max(rental.begin_ms, since_ms)
        if length_ms > 0:
            at = (rental.pool, rental.gpu, rental.currency)
            held.setdefault(at, []).append((rental, length_ms))
            for model in rental.models:
                rented_ms[model] = rented_ms.get(model, 0) + length_ms * rental.replicas
    found = []
    for (pool, gpu, currency), parts in sorted(held.items()):
        micro = sum(_micro(rental, length_ms) for rental, length_ms in parts)
        used = sum(_used(rental, length_ms, busy_ms, rented_ms) for rental, length_ms in parts)
        hours = sum(rental.gpus * length_ms for rental, length_ms in parts) / HOUR_MS
        models = tuple(sorted({model for rental, _ in parts for model in rental.models}))
        used = min(used, micro)
        found.append(PoolCost(pool, gpu, currency, hours, micro, used, micro - used, models))
    return found


def _micro(rental: Rental, length_ms: int) -> int:
    return (rental.gpus * length_ms * rental.micro_per_gpu_hour + HOUR_MS // 2) // HOUR_MS


def _used(
    rental: Rental, length_ms: int, busy_ms: Mapping[str, int], rented_ms: Mapping[str, int]
) -> int:
    mine_ms = length_ms * rental.replicas
    if mine_ms <= 0:
        return 0
    worked_ms = sum(busy_ms.get(model, 0) * mine_ms // rented_ms[model] for model in rental.models)
    return _micro(rental, length_ms) * min(worked_ms, mine_ms) // mine_ms


def lines_within(
    lines: Iterable[CostLine], since_ms: int, until_ms: int, offset_ms: int
) -> list[tuple[CostLine, int]]:
    """Monthly lines and how much of each falls into [since, until), by time."""
    months = set(between(since_ms, until_ms, offset_ms))
    found = []
    for line in lines:
        if line.month in months:
            begin_ms, end_ms = bounds(line.month, offset_ms)
            part_ms = min(end_ms, until_ms) - max(begin_ms, since_ms)
            found.append((line, line.micro * part_ms // (end_ms - begin_ms)))
    return found


def weight(key: Key, cost: Cost) -> int:
    """What a group counts under a key."""
    match key:
        case "tokens":
            return cost.tokens
        case "output_tokens":
            return cost.completion_tokens
        case "requests":
            return cost.requests
        case "even":
            return 1


def shared_out(micro: int, weights: Mapping[str, int]) -> dict[str, int]:
    """An amount by weights: parts add up to it exactly. Without any weight it stays whole, under
    the empty name."""
    total = sum(weights.values())
    if total <= 0:
        return {"": micro} if micro else {}
    parts = {name: micro * share // total for name, share in weights.items()}
    rest = micro - sum(parts.values())
    for name in sorted(weights, key=lambda name: (-weights[name], name))[:rest]:
        parts[name] += 1
    return parts
