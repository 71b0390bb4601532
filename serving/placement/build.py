"""Routes from the settings, checked against the names and targets that there are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal

from models.worded import Worded
from serving.placement.beside import Beside
from serving.placement.margin import Margins
from serving.placement.settings import CeilingSettings, NameSettings, RuleSettings, Way
from serving.placement.spill import Marks
from serving.placement.values import Arm, Ceilings, Route, Rule
from serving.records import OWN, LatencyClass, Offering
from serving.settings import Adapter, Model, Settings, SettingsError

_MICRO = 1_000_000
_NOTHING = NameSettings()


def beside(
    settings: Settings, sold: Mapping[str, tuple[Offering, ...]], theirs: Iterable[Offering] = ()
) -> Beside:
    """What one gateway keeps of placement. Raises SettingsError."""
    pods = settings.gateway.pods
    return Beside(routes(settings, sold), sold, marks(settings), pods, theirs)


def routes(settings: Settings, sold: Mapping[str, tuple[Offering, ...]]) -> dict[str, Route]:
    """The route of each public name. Raises SettingsError for one that leads nowhere."""
    given, names = settings.routing.names, dict(_names(settings))
    for name in given:
        if name not in names:
            template = "routing.names: no model, alias or adapter {name}; known: {known}"
            known = [*names] or "-"
            said = Worded("settings.no_name", template, name=repr(name), known=known)
            raise SettingsError(said)
    return {
        name: _route(name, model, adapter, (settings, sold))
        for name, (model, adapter) in names.items()
    }


def margins(settings: Settings) -> Margins:
    """What keeps calls from engines that may be late."""
    return Margins(settings.routing.margin.late, settings.routing.margin.most)


def marks(settings: Settings) -> Marks:
    """When a model spills."""
    given = settings.routing.spill
    first_s = settings.gateway.classes[LatencyClass.INTERACTIVE].first_token_s
    return Marks(given.enter, given.leave, given.after_s, first_s)


def _names(settings: Settings) -> Iterator[tuple[str, tuple[Model, Adapter | None]]]:
    for model in settings.models:
        for name in (model.name, *model.aliases):
            yield name, (model, None)
        for adapter in model.adapters:
            yield adapter.name, (model, adapter)


def _route(
    name: str, model: Model, adapter: Adapter | None,
    known: tuple[Settings, Mapping[str, tuple[Offering, ...]]],
) -> Route:  # fmt: skip
    settings, sold = known
    given = settings.routing.names.get(name, _NOTHING)
    where = f"routing.names.{name}"
    if adapter is not None and (given.rules or given.split):
        template = "{where}: an adapter has one model: no rules and no split"
        raise SettingsError(Worded("settings.adapter_rules", template, where=where))
    targets = {OWN, *(o.id for o in sold.get(model.name, ()))}
    models = {m.name: m for m in settings.models}
    ways: tuple[Way, ...] = (*given.split, *given.rules)
    for one in ways:
        what = f"{where}: {one.name!r}"
        if one.toward and one.toward not in targets:
            said = Worded("settings.no_target", "{what}: {target} is no target of {model}: {known}",
                          what=what, target=repr(one.toward), model=repr(model.name),
                          known=sorted(targets))  # fmt: skip
            raise SettingsError(said)
        if one.model and one.model not in models:
            said = Worded("settings.no_model", "{what}: no model {model}; known: {known}",
                          what=what, model=repr(one.model), known=[*models])  # fmt: skip
            raise SettingsError(said)
        if one.model and not set(model.surfaces) <= set(models[one.model].surfaces):
            template = "{what}: {model} does not serve what {served} does"
            said = Worded("settings.other_surface", template,
                          what=what, model=repr(one.model), served=repr(model.name))  # fmt: skip
            raise SettingsError(said)
        if one.model and not {"chat", "completions"} >= set(model.surfaces):
            template = "{what}: vectors and scores have one model only"
            raise SettingsError(Worded("settings.one_model", template, what=what))
    _check_bounded(where, given.ceilings, sold.get(name, sold.get(model.name, ())))
    return Route(
        model=model.name, policy=given.policy, shadow=given.shadow,
        arms=tuple(Arm(a.name, a.percent, a.toward, a.model) for a in given.split),
        rules=tuple(map(_rule, given.rules)),
        second_micro=float(given.second_usd * _MICRO),
        ceilings=_ceilings(given.ceilings, name),
        is_thinking=model.is_always_thinking,
        tier_max=settings.routing.substitutes_max_tier,
        context_tokens=model.context_tokens,
        is_closed=adapter is not None and adapter.elsewhere == "refuse",
    )  # fmt: skip


def _rule(given: RuleSettings) -> Rule:
    return Rule(
        given.name, given.model, given.toward, given.tokens_min or 0,
        1 << 62 if given.tokens_max is None else given.tokens_max, given.has_tools,
        given.language or "", given.header, given.value, given.is_cascade,
    )  # fmt: skip


def _check_bounded(where: str, most: CeilingSettings | None, sold: tuple[Offering, ...]) -> None:
    """Raises SettingsError for a bound in dollars on what costs none that are known."""
    if most is not None and (most.hour_usd or most.day_usd):
        blind = [one.id for one in sold if not one.exchange]
        if blind:
            template = (
                "{where}.ceilings: no rate to dollars for {blind}: what cannot be counted cannot"
                " be bounded"
            )
            raise SettingsError(
                Worded("settings.ceilings_rate", template, where=where, blind=blind)
            )


def _ceilings(given: CeilingSettings | None, name: str) -> Ceilings | None:
    if given is None:
        return None
    hour, day = (_micro(amount) for amount in (given.hour_usd, given.day_usd))
    return Ceilings(given.share, hour, day, name)


def _micro(amount: Decimal) -> int:
    """A bound that is said never becomes none."""
    return max(1, int(amount * _MICRO)) if amount else 0
