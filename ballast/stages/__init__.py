"""The stages PoC, Beta and Scale as layers of settings, and what a stage still lacks. Pure but for
reading its own files: settings and names of variables in, trees and findings out.

A stage lies below the settings file: what file, environment or flags say wins. Growing from one
stage to the next is starting with another name; ledger, keys and budgets stay.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec

from ballast.messages import Said
from models.provider import Provider
from serving.settings import Settings
from serving.settings_tree import lay

FOLDER = Path(__file__).parent
SIMULATED = FOLDER / "simulated"
"""Rows of providers that only pretend; their names begin with `simulated-`."""
SIMULATED_PREFIX = "simulated-"
MAINLAND = "cn"
CHAT = "chat"
"""The model name of a stage without models of its own."""


NAMED_MAX = 6


class Name(StrEnum):
    """The report's three stages."""

    POC = "poc"
    BETA = "beta"
    SCALE = "scale"


class Budget(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of everybody together; made at the first start."""

    id: str
    limit_micro: int
    currency: Literal["CNY", "USD"]
    period: Literal["hour", "day", "month"]


class Stage(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One stage."""

    has_engine: bool
    settings: dict[str, Any]
    """Below the settings file."""
    budget: Budget | None = None


class Lack(NamedTuple):
    """What a stage needs and has not, and how to get it."""

    stops: bool
    """Nothing useful could be done without it."""
    what: Said
    remedy: Said


class Keyed(NamedTuple):
    """Providers whose key is in the environment."""

    home: tuple[str, ...]
    abroad: tuple[str, ...]


def load(name: Name) -> Stage:
    """A stage's file."""
    return msgspec.yaml.decode((FOLDER / f"{name}.yaml").read_bytes(), type=Stage)


def keyed(rows: Mapping[str, Provider], variables: Collection[str]) -> Keyed:
    """Providers that could be switched on, by where their data stays. A batch price is asked for by
    name alone."""
    plain = [row for row in rows.values() if not row.vendor]
    found = [row for row in plain if row.api_key_env in variables and _sold(row)]
    home = tuple(sorted(row.id for row in found if row.jurisdiction == MAINLAND))
    return Keyed(home, tuple(sorted(row.id for row in found if row.id not in home)))


def layered(
    stage: Stage, said: Mapping[str, Any], rows: Mapping[str, Provider], found: Keyed
) -> dict[str, Any]:
    """The tree of settings: the stage's, over it what was said. Where nobody named providers, those
    with a key are switched on; where nobody named models and no engine starts, `chat` is all of
    them, the cheapest first."""
    tree: dict[str, Any] = msgspec.to_builtins(stage.settings)
    lay(tree, dict(said))
    if not tree.get("providers"):
        keeps_home = all(t.get("residency") != "anywhere" for t in tree.get("tenants", ()))
        names = found.home if keeps_home else (*found.home, *found.abroad)
        tree["providers"] = [{"id": name} for name in names]
    if not stage.has_engine and not tree.get("models"):
        offered = offerings(rows, [one["id"] for one in tree["providers"]])
        tree["models"] = [{"name": CHAT, "context_tokens": offered[1], "offerings": offered[0]}]
    return tree


def offerings(rows: Mapping[str, Provider], names: Collection[str]) -> tuple[list[str], int]:
    """Of each provider the cheapest model, the cheapest first, and the context all of them hold."""
    best = []
    for name in names:
        sold = _sold(rows[name]) if name in rows else []
        if sold:
            best.append(min((_price(model), f"{name}/{model.id}", model) for model in sold))
    best.sort(key=lambda one: one[:2])
    context = min((model.context_tokens or 0 for _, _, model in best), default=8192)
    return [offering for _, offering, _ in best], context


USD_CNY = 7.0
"""Only to put prices of different currencies in an order; books use the rate of the day."""


def _price(model: Any) -> float:
    rate = 1.0 if model.currency == "CNY" else USD_CNY
    return float(model.output_per_mtok or 0) * rate


def _sold(row: Provider) -> list[Any]:
    return [m for m in row.models if m.context_tokens and (m.free or m.output_per_mtok is not None)]


def lacks(name: Name, settings: Settings, found: Keyed, known: Collection[str]) -> list[Lack]:
    """What is missing, the worst first; `known` are variables of keys, those to name first."""
    return list(_providers(name, settings, found, known)) + list(_own(name, settings))


def _providers(
    name: Name, settings: Settings, found: Keyed, known: Collection[str]
) -> Iterator[Lack]:
    stops = name is Name.POC
    if not settings.providers and found.abroad:
        yield Lack(stops, Said("stage.lacks.abroad", names=found.abroad), Said("stage.get.abroad"))
    elif not settings.providers:
        what = Said("stage.lacks.key", some=tuple(known)[:NAMED_MAX])
        yield Lack(stops, what, Said("stage.get.key", stage=name.value))
    elif len(_sellers(settings)) < 2:
        yield Lack(False, Said("stage.lacks.second"), Said("stage.get.second"))


def _sellers(settings: Settings) -> set[str]:
    """Providers that models name, or, where no model is named yet, all that are switched on."""
    if not settings.models:
        return {access.id for access in settings.providers}
    return {offering.partition("/")[0] for m in settings.models for offering in m.offerings}


def _own(name: Name, settings: Settings) -> Iterator[Lack]:
    if name is Name.POC:
        return
    has_own = any(m.engine and m.engine.source != "embedded" for m in settings.models)
    if not (has_own or settings.fleet.static or settings.fleet.serve_url):
        yield Lack(False, Said("stage.lacks.pilot"), Said("stage.get.pilot"))
    if not settings.controller.rented:
        yield Lack(False, Said("stage.lacks.rent"), Said("stage.get.rent"))
    if settings.guard.terms_dir is None:
        yield Lack(False, Said("stage.lacks.terms"), Said("stage.get.terms"))
    if not settings.ledger.url:
        yield Lack(False, Said("stage.lacks.database"), Said("stage.get.database"))
    if name is Name.SCALE and settings.controller.is_dry_run:
        yield Lack(False, Said("stage.lacks.acting"), Said("stage.get.acting"))
    if name is Name.SCALE and settings.oidc is None:
        yield Lack(False, Said("stage.lacks.login"), Said("stage.get.login"))
    if name is Name.SCALE and not settings.audit.anchor_copy_url:
        yield Lack(False, Said("stage.lacks.copy"), Said("stage.get.copy"))
