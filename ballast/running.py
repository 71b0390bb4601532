"""The settings the running stack was started with."""

from __future__ import annotations

from pathlib import Path

from serving.settings import Settings, load


def settings_of(config: Path | None) -> Settings:
    """Those that `ballast up` wrote down when it started, unless a file is named that says of
    another stack, or was changed since.

    A file alone does not tell what the flags of `up` added: a stage's models, a simulated
    provider, an engine.
    """
    settings = load(config)
    written = settings.state_dir.expanduser() / "up.yaml"
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


def base_url(settings: Settings) -> str:
    """Where clients ask."""
    return f"http://{settings.gateway.host}:{settings.gateway.port}/v1"
