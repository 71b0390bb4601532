"""The settings the running stack was started with."""

from __future__ import annotations

from pathlib import Path

from serving.settings import Settings, load


def settings_of(config: Path | None) -> Settings:
    """Those of the file that is named, else those that `ballast up` wrote down when it started."""
    settings = load(config)
    written = settings.state_dir.expanduser() / "up.yaml"
    return load(written, environ={}) if config is None and written.exists() else settings


def base_url(settings: Settings) -> str:
    """Where clients ask."""
    return f"http://{settings.gateway.host}:{settings.gateway.port}/v1"
