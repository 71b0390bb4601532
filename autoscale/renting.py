"""From the settings to the actuators that rent: one for each pool, one writer of its number."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import TypeAlias

from autoscale.actuators.advice import AdviceActuator, Looked
from autoscale.actuators.base import Actuator
from autoscale.actuators.cluster_rule import Group
from autoscale.actuators.machines import Desk, MachinesActuator
from autoscale.actuators.webhook import Hook, WebhookActuator
from autoscale.machine_book import BookFile
from autoscale.machines import Bounds, Tags
from autoscale.policy import Policy, Pool
from autoscale.providers import skypilot
from autoscale.providers.base import Provider
from autoscale.providers.exec_hook import ExecHook
from models import prices
from models.worded import Worded
from serving.settings import MachineSettings, Settings, SettingsError

Busy: TypeAlias = Callable[[], Mapping[str, frozenset[str]]]


def renting(settings: Settings, policy: Policy, folder: Path, busy: Busy) -> list[Actuator]:
    """The actuators. Raises SettingsError naming the entry at fault."""
    entries = settings.controller.acting.machines
    found: list[Actuator] = []
    looked: list[Looked] = []
    for index, entry in enumerate(entries):
        where = f"controller.acting.machines.{index}"
        pool = _pool(policy, entry, where)
        if entry.by == "cluster":
            continue  # all worker groups are one actuator's: see `grouped`
        if entry.by == "advice":
            looked.append(Looked(entry.model, entry.pool, entry.per_replica, entry.term_ends))
            continue
        if pool.terms == "reserved":
            raise SettingsError(
                Worded(
                    "settings.reserved",
                    "{where}.by: a reserved pool is bought by people: use `advice`",
                    where=where,
                )
            )
        tags = Tags(_deployment(settings, where), entry.model, entry.pool)
        if entry.by == "webhook":
            hook = Hook(tags, _bounds(entry, pool), entry.url, entry.secret_file,
                        entry.per_replica, entry.call_s)  # fmt: skip
            found.append(WebhookActuator(hook))
            continue
        _has_its_currency(entry, settings.controller.scaling.currency, where)
        desk = Desk(tags, pool, _bounds(entry, pool), entry.per_replica, entry.call_s)
        file = BookFile(folder / "machines" / f"{entry.model}+{entry.pool}.json")
        found.append(MachinesActuator(desk, _provider(entry, pool), file, busy))
    if looked:
        found.append(AdviceActuator(tuple(looked), folder))
    return found


def _pool(policy: Policy, entry: MachineSettings, where: str) -> Pool:
    plan = next((p for p in policy.plans if p.model == entry.model), None)
    pool = next((p for p in plan.pools if p.name == entry.pool), None) if plan else None
    if pool is None:
        raise SettingsError(
            Worded(
                "settings.no_pool",
                "{where}: no pool {pool} of {model} in controller.scaling.pools",
                where=where,
                pool=repr(entry.pool),
                model=repr(entry.model),
            )
        )
    return pool


def _deployment(settings: Settings, where: str) -> str:
    """Our name on machines. Made up it would change with the state folder, and what was rented
    under the old one would be nobody's."""
    if settings.deployment_id is None:
        raise SettingsError(
            Worded(
                "settings.name_deployment",
                "{where}: name deployment_id, the tag on what is rented",
                where=where,
            )
        )
    return settings.deployment_id


def _has_its_currency(entry: MachineSettings, currency: str, where: str) -> None:
    """Else its prices would be held against bounds in another money."""
    if entry.by == "skypilot" and currency != "USD":
        raise SettingsError(
            Worded(
                "settings.skypilot_currency",
                "{where}: SkyPilot's prices are in US dollars, and controller.scaling.currency"
                " is {currency}",
                where=where,
                currency=currency,
            )
        )


def _bounds(entry: MachineSettings, pool: Pool) -> Bounds:
    price = pool.hour_micro // entry.per_replica
    most = None if entry.hour_max is None else int(entry.hour_max * prices.MICRO)
    dearest = int(price * (1 + Decimal(str(entry.rise_max))))
    return Bounds(entry.max_rented, most, price, dearest)


def _provider(entry: MachineSettings, pool: Pool) -> Provider:
    if entry.by == "exec":
        return ExecHook(entry.argv)
    assert entry.task is not None
    wanted = skypilot.Wanted(
        entry.task, entry.accelerators, pool.terms == "spot", pool.jurisdiction
    )
    return skypilot.SkyPilot(skypilot.installed(), wanted)


def grouped(settings: Settings, policy: Policy) -> tuple[Group, ...]:
    """The RayCluster's worker groups that are ours. Raises SettingsError naming the entry."""
    found = []
    for index, entry in enumerate(settings.controller.acting.machines):
        if entry.by == "cluster":
            pool = _pool(policy, entry, f"controller.acting.machines.{index}")
            found.append(
                Group(entry.model, pool.name, entry.group, entry.per_replica, entry.max_rented)
            )
    return tuple(found)
