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
    """Those of the file that is named, else those that `ballast up` wrote down when it started."""
    settings = load(config)
    written = settings.state_dir.expanduser() / SETTINGS
    return load(written, environ={}) if config is None and written.exists() else settings


def base_url(settings: Settings) -> str:
    """Where clients ask."""
    return f"http://{settings.gateway.host}:{settings.gateway.port}/v1"
