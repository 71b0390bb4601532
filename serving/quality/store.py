"""Which store the settings name, and the prompts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import yaml

from models import canaries
from models.worded import Worded, of
from serving.ledger.address import address
from serving.quality.base import QualityStore
from serving.quality.postgres import PostgresQuality
from serving.quality.sqlite import SqliteQuality
from serving.quality.values import Prompt
from serving.settings import Settings, SettingsError

FILE = "canaries.sqlite"
PROMPTS_MAX = 100


def opener(settings: Settings) -> Callable[[], QualityStore]:
    """Opens the store. Raises SettingsError at once, QualityAway when opened."""
    if settings.ledger.url:
        found = address(settings.ledger)
        return lambda: PostgresQuality.at(found, settings.ledger)
    path = settings.state_dir / FILE
    return lambda: SqliteQuality.open(path)


def prompts(own: Path | None) -> tuple[Prompt, ...]:
    """The packaged prompts, and over them those of a file. Raises SettingsError."""
    found = {one.id: one for one in _read(canaries.FILE)}
    if own is not None:
        found |= {one.id: one for one in _read(own)}
    if len(found) > PROMPTS_MAX:
        raise SettingsError(
            Worded(
                "settings.canary_prompts",
                "canaries.prompts_file: {found} prompts; at most {prompts_max}",
                found=len(found),
                prompts_max=PROMPTS_MAX,
            )
        )
    return tuple(found.values())


def _read(path: Path) -> list[Prompt]:
    try:
        tree: Any = yaml.safe_load(path.read_text("utf-8"))
        return msgspec.convert(tree, list[Prompt])
    except (OSError, UnicodeDecodeError, yaml.YAMLError, msgspec.ValidationError) as error:
        raise SettingsError(
            Worded(
                "settings.canary_file",
                "canaries.prompts_file: {path}: {error}",
                path=path,
                error=of(error),
            )
        ) from None
