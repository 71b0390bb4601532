"""Where an account's key at a third party is kept: an environment variable or a secret file."""

from __future__ import annotations

from collections.abc import Mapping

from models.provider import Provider
from models.worded import Worded
from serving.backends import keyfile
from serving.provider_access import ProviderAccess
from serving.settings import SettingsError
from serving.settings_words import cannot_read


def key_variable(access: ProviderAccess, row: Provider) -> str | None:
    """The environment variable that holds a provider's key; None where a file does."""
    return None if access.api_key_file is not None else access.api_key_env or row.api_key_env


def read(where: str, access: ProviderAccess, row: Provider, environ: Mapping[str, str]) -> str:
    """An account's key. `where` names its settings. Raises SettingsError."""
    if access.api_key_file is not None:
        try:
            return keyfile.read(access.api_key_file)
        except (OSError, ValueError) as error:
            is_odd = isinstance(error, UnicodeDecodeError)
            reason = "not ASCII" if is_odd else getattr(error, "strerror", None) or str(error)
            said = cannot_read(f"{where}.api_key_file", access.api_key_file, reason)
            raise SettingsError(said) from None
    if row.auth.is_short_lived:
        raise SettingsError(
            Worded(
                "settings.tokens_live",
                "{where}: its tokens live about an hour: name an api_key_file that "
                "somebody renews, a variable would go stale",
                where=where,
            )
        )
    name = key_variable(access, row) or ""
    key = environ.get(name, "").strip()
    if not key:
        template = "{where}: set {name}, or name an api_key_file"
        raise SettingsError(Worded("settings.key_not_set", template, where=where, name=name))
    if not (key.isascii() and key.isprintable()):
        template = "{where}: the key holds characters no header can carry"
        raise SettingsError(Worded("settings.key_chars", template, where=where))
    return key
