"""The settings the running stack was started with."""

from __future__ import annotations

from pathlib import Path

import msgspec

from serving.settings import Settings, load

SETTINGS, BEGAN = "up.yaml", "up.json"
"""In the state folder: what was in force, and how it was asked for."""


class Began(msgspec.Struct, frozen=True):
    """How the stack was started, beside its settings."""

    stage: str = ""
    has_engine: bool = True


def began(state: Path) -> Began:
    """How the stack of that folder was last started."""
    try:
        return msgspec.json.decode((state / BEGAN).read_bytes(), type=Began)
    except (OSError, msgspec.MsgspecError):  # of an older release
        return Began()


def settings_of(config: Path | None) -> Settings:
    """Those that `ballast up` wrote down when it started, unless a file is named that says of
    another stack, or was changed since.

    A file alone does not tell what the flags of `up` added: a stage's models, a simulated
    provider, an engine.
    """
    settings = load(config)
    written = settings.state_dir.expanduser() / SETTINGS
    if not written.exists():
        return settings
    running = load(written, environ={})
    if config is None or (_is_same(running, settings) and not _is_newer(config, written)):
        return running
    return settings


def _is_same(one: Settings, other: Settings) -> bool:
    """Whether both ask at the same addresses and keep the same books."""

    def marks(of: Settings) -> tuple[object, ...]:
        return of.gateway.host, of.gateway.port, of.gateway.ops_port, of.ledger.url

    return marks(one) == marks(other)


def _is_newer(one: Path, other: Path) -> bool:
    return one.stat().st_mtime_ns > other.stat().st_mtime_ns


def asked_model(settings: Settings, default: str) -> str:
    """The model to ask where none is named: the first of the settings, or, where they name none,
    of what `ballast up` wrote down beside their state (a stage brings models of its own)."""
    if settings.models:
        return settings.models[0].name
    written = settings.state_dir.expanduser() / SETTINGS
    started = load(written, environ={}).models if written.exists() else ()
    return started[0].name if started else default


def base_url(settings: Settings) -> str:
    """Where clients ask."""
    return f"http://{settings.gateway.host}:{settings.gateway.port}/v1"
