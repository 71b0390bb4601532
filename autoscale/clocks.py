"""A clock that jumps: what memory knows of times moves along, no day's money is forgotten. Pure.

Orders would else be late at once, or never; a pool that gave nothing would be closed for the length
of the jump. Starts of paid hours stay: their provider's clock did not jump.
"""

from __future__ import annotations

from msgspec.structs import replace

from autoscale.memory import Memory, ModelMemory

DAY_MS = 86_400_000


def followed(memory: Memory, at_ms: int) -> Memory:
    """The memory of before a jump, as if the clock had shown then what it shows now. After a long
    time without data it is the same: what was waited for is waited for a while longer."""
    by_ms = at_ms - memory.at_ms
    if not memory.at_ms or not by_ms:
        return memory
    models = {name: _moved(model, by_ms) for name, model in memory.models.items()}
    return replace(memory, models=models)


def _moved(model: ModelMemory, by_ms: int) -> ModelMemory:
    trend, woken = model.trend, model.woken
    promises = tuple((due_ms + by_ms, rate) for due_ms, rate in trend.promises)
    times = {name: getattr(woken, name) for name in ("at_ms", "keep_ms", "until_ms")}
    return replace(
        model, trend=replace(trend, promises=promises),
        orders=tuple(replace(order, at_ms=order.at_ms + by_ms) for order in model.orders),
        lost_until_ms={name: until + by_ms for name, until in model.lost_until_ms.items()},
        woken=replace(woken, **{name: ms and ms + by_ms for name, ms in times.items()}),
    )  # fmt: skip


def day(memory: Memory, at_ms: int, elapsed_s: float) -> int:
    """The day (since 1970, UTC) whose money is counted: a later one only once the clock has run
    on in it, and not yesterday, which was counted. One long past is believed, and takes the sum
    along."""
    today = at_ms // DAY_MS
    if today > memory.day:
        return today if elapsed_s else memory.day
    return memory.day if today == memory.day - 1 else today


def is_new_day(memory: Memory, at_ms: int, elapsed_s: float) -> bool:
    """Whether money is counted from nothing."""
    return day(memory, at_ms, elapsed_s) > memory.day
