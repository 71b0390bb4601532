"""The exporter of a gateway, made of its settings. Its packages are asked for only here, when a
collector is named: a gateway that tells nobody installs and runs without them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from models.worded import Worded
from serving.backends.account import Account
from serving.settings import Settings, SettingsError
from serving.settings_words import cannot_read
from serving.stages import Settled
from serving.tracing.observer import Traced
from serving.tracing.settings import TracingSettings

if TYPE_CHECKING:
    from serving.tracing.exporter import Exporter

SERVICE = "ballast-gateway"


def observed(
    inner: Settled, exporter: Exporter | None, given: TracingSettings, clock: Callable[[], float]
) -> Settled:
    """Who is told of ended calls: as before where traces are off."""
    if exporter is None:
        return inner
    return Traced(inner, exporter.put, clock, keep_failures=given.keep_failures)


def exporter(
    settings: Settings, deployment_id: str, bought: Mapping[str, Account]
) -> Exporter | None:
    """Not yet started; None where no collector is named. Raises SettingsError."""
    given = settings.tracing
    if not given.endpoint:
        return None
    if unknown := sorted(given.providers - bought.keys()):
        raise SettingsError(
            Worded(
                "settings.trace_providers",
                "tracing.providers: not among providers: {unknown}",
                unknown=[*unknown],
            )
        )
    try:
        from serving.tracing.exporter import Exporter, Terms
    except ModuleNotFoundError as error:
        raise SettingsError(
            Worded(
                "settings.trace_package",
                "tracing.endpoint: the package of {name} is missing: install the extra `traces`",
                name=repr(error.name),
            )
        ) from None
    resource = {
        "service.name": SERVICE,
        "service.version": _version(),
        "service.namespace": deployment_id,
        "service.instance.id": f"{deployment_id}/{settings.gateway.index}",
    }
    hosts = {name: _address(account) for name, account in bought.items()}
    return Exporter(Terms(given, resource, hosts, _token(given.token_file)))


def _token(file: Path | None) -> str:
    """What the file holds; empty where none is named. Raises SettingsError."""
    if file is None:
        return ""
    try:
        token = file.read_text("ascii").strip()
    except (OSError, ValueError) as error:
        said = cannot_read("tracing.token_file", file, type(error).__name__)
        raise SettingsError(said) from None
    if not token or not token.isprintable():
        template = (
            "tracing.token_file: holds nothing that a header could carry, on one line: {token_file}"
        )
        raise SettingsError(Worded("settings.trace_token", template, token_file=file))
    return token


def _version() -> str:
    try:
        return version("ballast")
    except PackageNotFoundError:
        return "unknown"


def _address(account: Account) -> tuple[str, int]:
    parts = urlsplit(account.base_url)
    return parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
