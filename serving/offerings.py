"""Which third-party models stand behind our names: settings laid over the provider table."""

from __future__ import annotations

import os
from collections.abc import Mapping
from urllib.parse import urlsplit

from models.provider import FOLDER, Provider, ProviderFileError, Sold, micro
from models.provider import load as load_rows
from serving.backends.account import Account
from serving.codecs.coverage import STANDARD
from serving.records import DataLabel, Offering, Price, Surface
from serving.settings import Gateway, Model, ProviderAccess, Settings, SettingsError, is_loopback


def accounts(settings: Settings, environ: Mapping[str, str] | None = None) -> dict[str, Account]:
    """The providers switched on, by id. Raises SettingsError."""
    folders = [FOLDER, *([settings.providers_dir] if settings.providers_dir else [])]
    try:
        rows = load_rows(*folders)
    except ProviderFileError as error:
        raise SettingsError(f"providers: {error}") from None
    found: dict[str, Account] = {}
    for access in settings.providers:
        row = rows.get(access.id)
        if row is None:
            raise SettingsError(f"providers: no row {access.id!r}; known: {', '.join(rows)}")
        key = _key(access, row, os.environ if environ is None else environ)
        url = access.base_url or row.base_url
        if _is_ourselves(url, settings.gateway):
            raise SettingsError(
                f"providers.{access.id}: {url} is this gateway's own address; a call that overflows"
                " there would only come back"
            )
        found[access.id] = Account(row, url, key, paid_by=access.paid_by)
    return found


def _is_ourselves(url: str, own: Gateway) -> bool:
    """Whether a provider's address is our public listener, as far as names tell; what lies behind
    a proxy is caught by the hop header."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if (parts.port or 80) != own.port:
        return False
    if host == own.host:
        return True
    return is_loopback(host) and (is_loopback(own.host) or own.host in _EVERY_ADDRESS)


_EVERY_ADDRESS = ("0.0.0.0", "::")  # noqa: S104 - compared, not bound


def key_variable(access: ProviderAccess, row: Provider) -> str | None:
    """The environment variable that holds a provider's key; None where a file does."""
    return None if access.api_key_file is not None else access.api_key_env or row.api_key_env


def _key(access: ProviderAccess, row: Provider, environ: Mapping[str, str]) -> str:
    if access.api_key_file is not None:
        try:
            key = access.api_key_file.read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "not ASCII"
            where = f"providers.{access.id}.api_key_file: cannot read {access.api_key_file}"
            raise SettingsError(f"{where}: {reason}") from None
        name = f"a key in {access.api_key_file}"
    else:
        name = key_variable(access, row) or ""
        key = environ.get(name, "").strip()
    if not key:
        raise SettingsError(f"providers.{access.id}: set {name}, or name an api_key_file")
    if not (key.isascii() and key.isprintable()):
        raise SettingsError(f"providers.{access.id}: the key holds characters no header can carry")
    return key


def offerings(settings: Settings, bought: Mapping[str, Account]) -> dict[str, tuple[Offering, ...]]:
    """Offerings by model, in the order given. Raises SettingsError."""
    return {
        model.name: tuple(_offering(model, text, bought) for text in model.offerings)
        for model in settings.models
    }


def _offering(model: Model, text: str, bought: Mapping[str, Account]) -> Offering:
    provider, _, upstream = text.partition("/")
    where = f"models.{model.name}.offerings: {text!r}"
    account = bought.get(provider)
    if account is None:
        raise SettingsError(f"{where}: provider {provider!r} is not listed under providers")
    sold = next((m for m in account.row.models if m.id == upstream), None)
    if sold is None:
        names = ", ".join(m.id for m in account.row.models)
        raise SettingsError(f"{where}: {provider} sells no {upstream!r}; it sells {names}")
    row = account.row
    return Offering(
        id=text,
        provider=provider,
        model=model.name,
        upstream_model=upstream,
        label=DataLabel(row.jurisdiction, row.operator),
        price=_price(where, sold, account.paid_by),
        surfaces=frozenset(Surface(s) for s in row.surfaces),
        context_tokens=sold.context_tokens,
        first_token_s=row.first_token_s,
        speaks=(STANDARD | frozenset(row.extra_fields)) - frozenset(row.drop_fields),
        is_same_weights=bool(model.weights) and sold.weights == model.weights,
    )


def _price(where: str, sold: Sold, kind: str) -> Price:
    if sold.free:
        return Price(sold.currency, 0, 0, 0, sold.source, sold.as_of, kind)
    fresh, out = micro(sold.input_per_mtok), micro(sold.output_per_mtok)
    if fresh is None or out is None:
        raise SettingsError(f"{where}: its price is unknown; write one, or say `free: true`")
    cached = micro(sold.cached_per_mtok)
    return Price(
        sold.currency, fresh, out, fresh if cached is None else cached, sold.source, sold.as_of,
        kind,
    )  # fmt: skip
