"""The settings of canaries, as `canaries:` in the settings file. Without a key nothing is asked."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field


class CanarySettings(BaseModel):
    """When which prompts are asked of whom."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    key_file: Path | None = None
    """Of an API key with `is_canary`; its calls are billed like any other."""
    every_s: float = Field(3600.0, ge=1)
    models: tuple[str, ...] = ()
    """Empty: all that chat."""
    prompts_file: Path | None = None
    """More prompts, beside the packaged ones; one of the same id replaces it."""
    timeout_s: float = Field(60.0, gt=0)
    """For one answer."""
    keep_days: int = Field(90, ge=1)
    """Baselines stay."""
