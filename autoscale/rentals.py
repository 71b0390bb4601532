"""GPU-hours held, from the replicas seen: a rental grows while their number stays. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from autoscale.records import Supply
from serving.finance.settings import Rented
from serving.finance.values import Rental

GAP_MS_MAX = 180_000
"""Unseen for longer, replicas are not known to have been there: the next ones are a new rental."""


def followed(
    held: Mapping[str, Rental],
    supply: Mapping[str, Supply] | None,
    rented: Sequence[Rented],
    now_ms: int,
) -> dict[str, Rental]:
    """The rentals of now by model, each up to `now_ms`; a model without replicas has none. What is
    not in the answer any more has ended where it was last seen. Without a view nothing grows."""
    if supply is None:
        return dict(held)
    found = {}
    for one in rented:
        replicas = supply[one.model].ready if one.model in supply else 0
        if not replicas:
            continue
        had = held.get(one.model)
        fresh = _begun(one, replicas, now_ms)
        if had is not None and now_ms - had.end_ms <= GAP_MS_MAX:
            grown = msgspec.structs.replace(had, end_ms=now_ms)
            is_same = grown == msgspec.structs.replace(fresh, id=had.id, begin_ms=had.begin_ms)
            # Another number begins where the old one was last seen: no hour is lost or doubled.
            fresh = grown if is_same else _begun(one, replicas, had.end_ms, now_ms)
        found[one.model] = fresh
    return found


def _begun(one: Rented, replicas: int, begin_ms: int, end_ms: int | None = None) -> Rental:
    return Rental(
        id=f"seen:{one.model}:{begin_ms}", pool=one.model, gpu=one.gpu, gpus=one.gpus * replicas,
        replicas=replicas, begin_ms=begin_ms, end_ms=begin_ms if end_ms is None else end_ms,
        micro_per_gpu_hour=one.micro_per_gpu_hour, currency=one.currency, source=one.source,
        models=(one.model,), by="controller",
    )  # fmt: skip
