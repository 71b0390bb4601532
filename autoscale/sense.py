"""Settings of the autoscaler that contradict one another, each fine alone. Pure: says which, and
why; `briefing` refuses them."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

from models.worded import Worded
from serving.settings import RentPool, Scaling

DAY_H = 24


def contradiction(scaling: Scaling) -> Worded | None:
    """The first one, with the keys at fault; None where there is none."""
    return next(_all(scaling), None)


def _all(scaling: Scaling) -> Iterator[Worded]:
    yield from _of_schedules(scaling)
    yield from _of_floor(scaling)
    yield from _of_tenants(scaling)
    yield from _of_money(scaling)


def _of_schedules(scaling: Scaling) -> Iterator[Worded]:
    for place, one in enumerate(scaling.schedules):
        where = f"controller.scaling.schedules.{place}"
        pools = [p for p in scaling.pools if p.model == one.model and not p.tenant]
        most = sum(pool.most for pool in pools)
        if not pools:
            template = "{where}: {model} has no pool that serves everybody, so nothing is bounded"
            yield Worded("settings.schedule_no_pool", template, where=where, model=one.model)
        if one.most is not None and one.least > one.most:
            template = "{where}: least ({least}) is above most ({most})"
            yield Worded("settings.schedule_order", template, where=where, least=one.least,
                         most=one.most)  # fmt: skip
        if one.least > most:
            template = (
                "{where}: least ({least}) is more than the pools of {model} may have ({most})"
            )
            yield Worded("settings.schedule_least", template, where=where, least=one.least,
                         model=one.model, most=most)  # fmt: skip
        if not one.days:
            template = "{where}: it holds at no time: name days"
            yield Worded("settings.schedule_never", template, where=where)
        if one.from_minute == one.until_minute:
            template = (
                "{where}: from_minute and until_minute are both {minute}, which reads as no time"
                " and as a whole day: a day is 0 to 1440"
            )
            yield Worded("settings.schedule_both", template, where=where, minute=one.from_minute)


def _of_floor(scaling: Scaling) -> Iterator[Worded]:
    """A floor that no pool can give."""
    for model in dict.fromkeys(pool.model for pool in scaling.pools):
        pools = [p for p in scaling.pools if p.model == model and not p.tenant]
        most = sum(pool.most for pool in pools if pool.terms == "on_demand")
        if any(pool.terms == "spot" for pool in pools) and scaling.on_demand_floor > most:
            template = (
                "controller.scaling.on_demand_floor: {floor}, and on-demand pools of {model} may"
                " have {most}"
            )
            yield Worded("settings.floor", template, floor=scaling.on_demand_floor, model=model,
                         most=most)  # fmt: skip


def _of_tenants(scaling: Scaling) -> Iterator[Worded]:
    for place, pool in enumerate(scaling.pools):
        if pool.tenant and not pool.least:
            template = (
                "controller.scaling.pools.{place}.least: a tenant's pool is held at its least, and"
                " at 0 it has no replica ever"
            )
            yield Worded("settings.tenant_least", template, place=place)


def _of_money(scaling: Scaling) -> Iterator[Worded]:
    """Minima that the budget cannot pay."""
    kept = [p for p in scaling.pools if p.least and not p.tenant and p.terms != "reserved"]
    count, hour = sum(pool.least for pool in kept), sum((_hour(p) for p in kept), Decimal())
    bounds = (
        ("hour_max", scaling.hour_max, hour),
        ("day_max", scaling.day_max, hour * DAY_H),
        ("replicas_max", scaling.replicas_max, count),
    )
    for name, most, least in bounds:
        if most is not None and least > most:
            template = (
                "controller.scaling.{name}: {most}, and the pools' `least` alone take {least}"
            )
            yield Worded("settings.budget_least", template, name=name, most=str(most),
                         least=str(least))  # fmt: skip


def _hour(pool: RentPool) -> Decimal:
    return pool.hour * pool.least
