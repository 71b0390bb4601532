"""Which third-party models stand behind our names: settings laid over the provider table."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import UTC, date, datetime
from urllib.parse import urlsplit

from msgspec.structs import replace

from models import prices
from models.provider import FOLDER, Provider, ProviderFileError, Sold
from models.provider import load as load_rows
from models.worded import Worded, of
from serving import account_key, offering_words
from serving.backends import keyfile
from serving.backends.account import Account
from serving.codecs import coverage
from serving.provider_access import ProviderAccess, Terms
from serving.rates import UnknownPrice, contracted, listed, paid_by
from serving.records import POOLED, DataLabel, Offering, Surface
from serving.rules import HEARD
from serving.settings import Adapter, Gateway, Model, Settings, SettingsError, is_loopback

_PLAIN = Terms()


def accounts(settings: Settings, environ: Mapping[str, str] | None = None) -> dict[str, Account]:
    """The providers switched on, by id. Raises SettingsError."""
    known = rows(settings)
    found: dict[str, Account] = {}
    for access in settings.providers:
        row = known.get(access.id)
        if row is None:
            raise SettingsError(offering_words.no_row(access.id, [*known]))
        found[access.id] = account(f"providers.{access.id}", access, row, (settings, environ))
    return found


def rows(settings: Settings) -> dict[str, Provider]:
    """The provider table. Raises SettingsError."""
    folders = [FOLDER, *([settings.providers_dir] if settings.providers_dir else [])]
    try:
        return load_rows(*folders)
    except ProviderFileError as error:
        why = Worded("settings.providers", "providers: {why}", why=of(error))
        raise SettingsError(why) from None


def account(
    where: str, access: ProviderAccess, row: Provider,
    known: tuple[Settings, Mapping[str, str] | None],
) -> Account:  # fmt: skip
    """One account, its key read from where `access` says. Raises SettingsError."""
    settings, environ = known
    unsold = access.models.keys() - {sold.id for sold in row.models}
    if unsold and not row.any_model:
        raise SettingsError(offering_words.not_sold(where, sorted(unsold)))
    key = account_key.read(where, access, row, os.environ if environ is None else environ)
    url = _address(where, access, row)
    if _is_ourselves(url, settings.gateway):
        raise SettingsError(offering_words.ourselves(where, url))
    file = keyfile.KeyFile(access.api_key_file) if access.api_key_file else None
    return Account(row, url, key, file, access.proxy, access.paid_by)


def _address(where: str, access: ProviderAccess, row: Provider) -> str:
    url = access.base_url or row.base_url
    for name, value in access.address.items():
        url = url.replace(f"{{{name}}}", value)
    if "{" in url:
        raise SettingsError(offering_words.braces(where, url))
    return url


def _is_ourselves(url: str, own: Gateway) -> bool:
    """Whether a provider's address is our public listener, as far as names tell; what lies behind
    a proxy is caught by the hop header."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if (parts.port or 80) != own.port:
        return False
    is_here = is_loopback(host) and (is_loopback(own.host) or own.host in _EVERY_ADDRESS)
    return host == own.host or is_here


_EVERY_ADDRESS = ("0.0.0.0", "::")  # noqa: S104 - compared, not bound


def offerings(
    settings: Settings, bought: Mapping[str, Account], today: date | None = None
) -> dict[str, tuple[Offering, ...]]:
    """Offerings by model, and by adapter where it has its own: the same weights first, within a
    tier in the order given. Raises SettingsError."""
    day = today or datetime.now(UTC).date()
    accesses = {access.id: access for access in settings.providers}
    found: dict[str, tuple[Offering, ...]] = {}
    theirs = {given.provider for given in settings.tenant_accounts} - bought.keys()
    for model in settings.models:
        _check(model)
        texts = [text for text in model.offerings if text.partition("/")[0] not in theirs]
        rows = [offering(model, text, bought, accesses, day) for text in texts]
        found[model.name] = tuple(sorted(rows, key=lambda row: row.tier))
        for adapter in model.adapters:
            if adapter.elsewhere == "tune":
                row = offering(model, adapter.tune, bought, accesses, day)
                found[adapter.name] = (replace(row, tier=1, is_same_weights=False),)
            elif adapter.elsewhere == "base":
                found[adapter.name] = tuple(told(row, adapter) for row in found[model.name])
    return found


def _check(model: Model) -> None:
    """One name, one target. Raises SettingsError."""
    where = f"models.{model.name}"
    does = set(map(Surface, model.surfaces))
    for sort, what in (({Surface.SPEECH}, "speech"), (HEARD, "transcription")):
        if does & sort and (not does <= sort or model.engine is not None):
            raise SettingsError(offering_words.bought(where, what))
    twice = sorted({text for text in model.offerings if model.offerings.count(text) > 1})
    if twice:
        raise SettingsError(offering_words.twice(where, twice))
    odd = sorted(model.tiers.keys() - set(model.offerings))
    if odd:
        raise SettingsError(offering_words.odd_tiers(where, odd))
    for adapter in model.adapters:
        if adapter.elsewhere == "base" and not model.offerings:
            raise SettingsError(offering_words.base_needs(where, adapter.name))


def told(row: Offering, adapter: Adapter) -> Offering:
    """The base model, told in words what the adapter learnt: another model to the caller."""
    room = row.context_tokens - len(adapter.prompt.encode())  # a token is a byte at least
    return replace(
        row, tier=max(2, row.tier), is_same_weights=False, system=adapter.prompt,
        context_tokens=max(0, room),
        surfaces=row.surfaces & {Surface.CHAT},
    )  # fmt: skip


def offering(
    model: Model,
    text: str,
    bought: Mapping[str, Account],
    accesses: Mapping[str, ProviderAccess],
    day: date,
) -> Offering:
    """One model of a provider, bought with an account. Raises SettingsError."""
    provider, _, upstream = text.partition("/")
    where = f"models.{model.name}.offerings: {text!r}"
    if (account := bought.get(provider)) is None:
        raise SettingsError(offering_words.not_listed(where, provider))
    row, access = account.row, accesses[provider]
    sold = _sold(where, row, upstream, access, day)
    terms = access.models.get(upstream, _PLAIN)
    how = f"providers: {{id: {provider}, models: {{{upstream}: {{...}}}}}}"
    try:
        price, rates = paid_by(account.paid_by, *(contracted(terms) or listed(sold)))
    except UnknownPrice as error:
        raise SettingsError(offering_words.no_price(where, error, how)) from None
    context = terms.context_tokens or sold.context_tokens
    most = terms.output_tokens_max or sold.output_tokens_max
    if context is None:
        raise SettingsError(offering_words.no_context(where, how))
    if row.dialect == "anthropic" and not most:
        raise SettingsError(offering_words.unbounded(where, how))
    is_same, limits = _is_same(model, sold), sold.limits
    return Offering(
        id=text,
        provider=provider,
        model=model.name,
        upstream_model=terms.deployment or upstream,
        label=DataLabel(access.jurisdiction or row.jurisdiction, row.operator),
        price=price,
        surfaces=_surfaces(row, sold),
        context_tokens=context,
        first_token_s=row.first_token_s,
        speaks=coverage.spoken(row, sold),
        prefix_member=row.prefix.member if row.prefix is not None else "",
        is_same_weights=is_same,
        output_tokens_max=most or 0,
        rates=rates,
        tier=_tier(where, model, text, (sold, is_same)),
        is_thinking=row.thinking is not None and upstream in row.thinking.cannot_disable,
        exchange=_exchange(price.currency, day),
        concurrent=(limits.concurrent or 0) if limits is not None else 0,
        vendor=row.vendor,
        hearing=sold.hearing,
    )


def _surfaces(row: Provider, sold: Sold) -> frozenset[Surface]:
    if sold.audio_formats:
        return frozenset({Surface.SPEECH})
    if sold.hearing is not None:
        return HEARD if sold.hearing.translates else frozenset({Surface.TRANSCRIPTION})
    return frozenset(Surface(s) for s in row.surfaces)


def _is_same(model: Model, sold: Sold) -> bool:
    """Whether row and settings name the same weights; vectors want them to the bit."""
    if not model.weights or sold.weights is None:
        return False
    is_pooled = not POOLED.isdisjoint(map(Surface, model.surfaces))
    return sold.weights == model.weights or (not is_pooled and sold.weights in model.weights_also)


def _tier(where: str, model: Model, text: str, facts: tuple[Sold, bool]) -> int:
    """How near it is to our own model. Raises SettingsError where settings and row disagree."""
    (sold, is_same), said = facts, model.tiers.get(text)
    if said is None:
        return 1 if is_same or not model.weights else 2
    if said == 1 and not is_same and model.weights and sold.weights:
        raise SettingsError(offering_words.no_tier(where, sold.weights, model.weights))
    return said


def _exchange(currency: str, day: date) -> float:
    """Dollars for one of a currency, to compare prices; 0 where no rate is known."""
    if currency == "USD":
        return 1.0
    return float(1 / prices.load().rate(day).cny_per_usd) if currency == "CNY" else 0.0


def _sold(where: str, row: Provider, upstream: str, access: ProviderAccess, day: date) -> Sold:
    if why := row.withdrawn(upstream, day):
        raise SettingsError(offering_words.withdrawn(where, why))
    terms = access.models.get(upstream, _PLAIN)
    for sold in row.models:
        if sold.id == upstream:
            sees = sold.sees if terms.sees is None else terms.sees
            hears = terms.hearing or sold.hearing
            context = sold.context_tokens or (hears.tokens_max if hears is not None else None)
            told = {"sees": sees, "hearing": hears, "context_tokens": context}
            return sold.model_copy(update=told)
    if row.any_model and upstream in access.models:
        as_of, sees, hears = day.isoformat(), bool(terms.sees), terms.hearing
        context = hears.tokens_max if hears is not None else None
        return Sold(
            id=upstream, context_tokens=context, sees=sees, audio_formats=terms.audio_formats,
            hearing=hears, source="settings", as_of=as_of,
        )  # fmt: skip
    raise SettingsError(offering_words.unsold(where, row.id, upstream, [m.id for m in row.models]))
