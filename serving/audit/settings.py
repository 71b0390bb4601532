"""The settings of the audit, as `audit:` in the settings file."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, field_validator

from models.worded import Worded
from serving.safe_url import is_safe_url


class AuditSettings(BaseModel):
    """Who signs, where what is signed is kept, and how often."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    key_file: Path | None = None
    """Ed25519 private key in PEM; else `audit-key.pem` in the state folder, where `up` makes it."""
    anchor_file: Path | None = None
    """Checkpoints, one JSON a line, only ever appended to; else `audit-anchor.jsonl` in the state
    folder. It proves most where those who write the database cannot write it."""
    anchor_url: str = Field("", pattern=r"^(https?://[^@\s]+)?$")
    """Also posted there, one JSON each: a timestamping service, another company's log."""
    anchor_copy_url: str = Field("", pattern=r"^(https?://[^@\s]+)?$")
    """Where that address gives back what it took, one JSON a line and the oldest first: a GET that
    `ballast audit verify` holds the file against. Empty: nobody reads it."""
    every_s: float = Field(60.0, ge=1)

    @field_validator("anchor_copy_url")
    @classmethod
    def _cannot_be_cut_on_the_way(cls, url: str) -> str:
        """Who can shorten the copy on its way can hide what is missing in the file."""
        if url and not is_safe_url(url):
            raise ValueError(Worded("settings.safe_url", "https, or http on this machine"))
        return url
