"""Accounts of tenants with third parties (`tenant_accounts`), and what they buy with them.

An account is its tenant's alone: its offerings stand apart from ours, under names of their own, so
that neither breaker nor pace nor price of one is taken for the other's. A key that we use too, or
that two tenants use, refuses to start: whose money it is must be certain. A key file that is
changed to such a key later is not taken (`KeyFile.keep_from`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, date, datetime

from msgspec.structs import replace

from models.worded import Worded
from serving import offerings as sold
from serving.backends.account import Account
from serving.provider_access import ProviderAccess
from serving.records import TENANT_MONEY, Offering
from serving.settings import Model, Settings, SettingsError
from serving.settings_accounts import TenantAccount

Theirs = dict[str, dict[str, tuple[Offering, ...]]]
"""By tenant, then by model or adapter, as `offerings`."""


def registered(
    settings: Settings,
    bought: Mapping[str, Account],
    environ: Mapping[str, str] | None = None,
) -> dict[str, Account]:
    """Tenants' accounts by `provider@id`. `bought` are ours. Raises SettingsError."""
    if not settings.tenant_accounts:
        return {}
    rows = sold.rows(settings)
    found: dict[str, Account] = {}
    for given in settings.tenant_accounts:
        where = f"tenant_accounts.{given.id}"
        if _name(given) in found:
            raise SettingsError(Worded("settings.given_twice", "{where}: given twice", where=where))
        if given.provider not in rows:
            raise SettingsError(
                Worded(
                    "settings.account_row",
                    "{where}: no row {provider}; known: {rows}",
                    where=where,
                    provider=repr(given.provider),
                    rows=[*rows],
                )
            )
        account = sold.account(where, _access(given), rows[given.provider], (settings, environ))
        account = dataclasses.replace(account, paid_by=TENANT_MONEY, tenant=given.tenant)
        for name, other in ({**bought, **found}).items():
            if account.api_key == other.api_key and other.tenant != given.tenant:
                raise SettingsError(
                    Worded(
                        "settings.account_whose",
                        "{where}: its key is that of {name}: whose money is it?",
                        where=where,
                        name=name,
                    )
                )
        found[_name(given)] = account
    for name, account in (everybody := {**bought, **found}).items():
        if account.key_file is not None:
            account.key_file.keep_from(account.api_key, _of_others(name, everybody))
    return found


def _of_others(own: str, accounts: Mapping[str, Account]) -> Callable[[str], bool]:
    """Whether a key is in force for an account of somebody else, as it is or was at the start, or
    stands in that account's file too: two files that got one new key give it to neither, or the
    account that is asked first would have it."""
    tenant = accounts[own].tenant
    others = [one for name, one in accounts.items() if name != own and one.tenant != tenant]

    def is_anothers(key: str) -> bool:
        files = [o.key_file for o in others if o.key_file is not None]
        known = {o.api_key for o in others} | {file.last for file in files}
        return key in known or any(file.written() == key for file in files)

    return is_anothers


def theirs(
    settings: Settings, accounts: Mapping[str, Account], today: date | None = None
) -> Theirs:
    """What each tenant can buy with its own accounts: the same models at the same vendors as
    `models[].offerings` name. Raises SettingsError."""
    day = today or datetime.now(UTC).date()
    found: Theirs = {}
    for given in settings.tenant_accounts:
        account = accounts[_name(given)]
        for model in settings.models:
            for name, rows in _bought(model, given, account, day):
                tenant = found.setdefault(given.tenant, {})
                both = (*tenant.get(name, ()), *rows)
                tenant[name] = tuple(sorted(both, key=lambda row: row.tier))
    return found


def _bought(
    model: Model, given: TenantAccount, account: Account, day: date
) -> Iterator[tuple[str, tuple[Offering, ...]]]:
    known = {given.provider: account}, {given.provider: _access(given)}, day
    rows = [
        _theirs(sold.offering(model, text, *known), given)
        for text in model.offerings
        if text.partition("/")[0] == given.provider
    ]
    if not rows:
        return
    yield model.name, tuple(rows)
    for adapter in model.adapters:
        if adapter.elsewhere == "base":  # a tuning is ours, and its vendor knows it by our account
            yield adapter.name, tuple(sold.told(row, adapter) for row in rows)


def _theirs(row: Offering, given: TenantAccount) -> Offering:
    return replace(
        row, id=f"{_name(given)}/{row.id.partition('/')[2]}", owner=given.tenant,
        account=_name(given), keys=None if given.keys is None else frozenset(given.keys),
    )  # fmt: skip


def _access(given: TenantAccount) -> ProviderAccess:
    """As if we had switched it on."""
    fields = given.model_dump(exclude={"tenant", "keys", "provider", "id"})
    return ProviderAccess.model_validate({**fields, "id": given.provider})


def _name(given: TenantAccount) -> str:
    return f"{given.provider}@{given.id}"


def variables(settings: Settings) -> set[str]:
    """The environment variables that hold tenants' keys."""
    return {given.api_key_env for given in settings.tenant_accounts if given.api_key_env}
