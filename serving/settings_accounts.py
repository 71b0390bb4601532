"""Accounts that tenants have with third parties themselves: whose, and where the key lies."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from models.worded import Worded
from serving.provider_access import ProviderAccess

TENANT = r"^[A-Za-z0-9][\w.-]{0,63}(/[A-Za-z0-9][\w.-]{0,63})?$"


class TenantAccount(ProviderAccess):
    """One account. `id` names it; the row of `models/providers/` is `provider`. Its key lies in a
    variable or a file that is named here: our own variable of that row is never taken for it."""

    id: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")
    tenant: str = Field(pattern=TENANT)
    """Whose it is, letter for letter: a forwarder's customer is `forwarder/customer`."""
    keys: tuple[str, ...] | None = Field(None, max_length=1000)
    """Ids of the tenant's API keys that may use it; None is all."""
    provider: str = Field(min_length=1, max_length=64)

    @model_validator(mode="after")
    def _names_its_key(self) -> Self:
        if (self.api_key_env is None) == (self.api_key_file is None):
            template = "tenant account {account}: name api_key_env or api_key_file, one"
            raise ValueError(Worded("settings.account_key", template, account=repr(self.id)))
        return self
