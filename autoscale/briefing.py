"""From the settings to the policy that `step` works by: pools, prices in one currency, work of a
token. Reads provider rows; no clock."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

from autoscale import sense
from autoscale.policy import Api, Budget, Plan, Policy, Pool, Window
from autoscale.work import of_profile
from models import prices, provider
from models.worded import Worded, of
from serving.settings import Model, RentPool, Scaling, Settings, SettingsError

DEFAULT_SLOTS = 16
"""Calls per replica where the model's engine is not ours to configure."""


def policy_of(settings: Settings, today: date) -> Policy:
    """The policy. Raises SettingsError naming the key at fault."""
    scaling = settings.controller.scaling
    names = {model.name for model in settings.models}
    named = [(f"pools.{i}", pool.model) for i, pool in enumerate(scaling.pools)]
    named += [(f"schedules.{i}", one.model) for i, one in enumerate(scaling.schedules)]
    for where, model_name in named:
        if model_name not in names:
            raise SettingsError(
                Worded(
                    "settings.scaling_model",
                    "controller.scaling.{where}.model: {model_name} is none of `models`",
                    where=where,
                    model_name=repr(model_name),
                )
            )
    if (said := sense.contradiction(scaling)) is not None:
        raise SettingsError(said)
    budget = Budget(
        _micro_or_none(scaling.hour_max), _micro_or_none(scaling.day_max), scaling.replicas_max
    )
    plans = tuple(_plan(settings, model, today) for model in settings.models)
    return Policy(plans, budget, scaling.trust, scaling.edge_least)


def _plan(settings: Settings, model: Model, today: date) -> Plan:
    scaling = settings.controller.scaling
    pools = tuple(_pool(pool) for pool in scaling.pools if pool.model == model.name)
    windows = tuple(
        Window(s.days, s.from_minute, s.until_minute, s.least, s.most)
        for s in scaling.schedules
        if s.model == model.name
    )
    return Plan(
        model=model.name,
        slots=model.engine.max_num_seqs if model.engine else DEFAULT_SLOTS,
        pools=pools,
        api=_api(settings, model, scaling, today) if pools else None,
        work=of_profile(model.speed, scaling.batch),
        jurisdictions=scaling.jurisdictions,
        windows=windows,
        utc_offset_minutes=scaling.utc_offset_minutes,
        wait_s_max=scaling.wait_s_max,
        on_demand_floor=scaling.on_demand_floor,
        insurance=scaling.insurance,
        up_max=scaling.up_max,
        down_max=scaling.down_max,
    )


def _pool(pool: RentPool) -> Pool:
    return Pool(
        pool.name, pool.terms, pool.gpu, pool.provider, pool.jurisdiction, _micro(pool.hour),
        pool.is_hourly, pool.capacity, pool.ready_s, pool.least, pool.most, pool.tenant,
    )  # fmt: skip


def _api(settings: Settings, model: Model, scaling: Scaling, today: date) -> Api | None:
    """The price of the offering that is asked first, in the pools' currency."""
    if not model.offerings:
        return None
    name = model.offerings[0]
    where = f"models.{model.name}.offerings: {name!r}"
    folders = [provider.FOLDER, *([settings.providers_dir] if settings.providers_dir else [])]
    try:
        row = provider.load(*folders).get(name.partition("/")[0])
    except provider.ProviderFileError as error:
        said = Worded("field", "{name}: {what}", name=where, what=of(error))
        raise SettingsError(said) from None
    upstream = name.partition("/")[2]
    sold = next((s for s in row.models if s.id == upstream), None) if row else None
    if sold is None:
        raise SettingsError(
            Worded("settings.not_sold_at_all", "{where}: no provider row sells it", where=where)
        )
    if sold.free:
        return Api(0, 0)
    fresh, out = provider.micro(sold.input_per_mtok), provider.micro(sold.output_per_mtok)
    if fresh is None or out is None:
        raise SettingsError(
            Worded(
                "settings.not_priced",
                "{where}: its price is unknown; nothing can be weighed against it",
                where=where,
            )
        )
    factor = _factor(sold.currency, scaling.currency, today, where)
    return Api(round(fresh * factor), round(out * factor))


def _factor(given: str, wanted: str, today: date, where: str) -> Decimal:
    if given == wanted:
        return Decimal(1)
    cny_per_usd = prices.load().rate(today).cny_per_usd
    known = {("USD", "CNY"): cny_per_usd, ("CNY", "USD"): 1 / cny_per_usd}
    if (given, wanted) not in known:
        raise SettingsError(
            Worded(
                "settings.two_currencies",
                "{where}: priced in {given}, controller.scaling.currency is {wanted}, "
                "and no rate between them is known; write the pools' prices in the "
                "API's currency",
                where=where,
                given=given,
                wanted=wanted,
            )
        )
    return known[given, wanted]


def _micro(amount: Decimal) -> int:
    return int(amount * prices.MICRO)


def _micro_or_none(amount: Decimal | None) -> int | None:
    return None if amount is None else _micro(amount)
