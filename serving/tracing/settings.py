"""The settings of traces, as `tracing:` in the settings file."""

from __future__ import annotations

from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from models.worded import Worded
from serving.safe_url import is_safe_url


class TracingSettings(BaseModel):
    """Which calls are told to which collector. No endpoint: none, and nothing is done for them."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    endpoint: str = ""
    """Of a collector that speaks OTLP over HTTP, `http://collector:4318/v1/traces`."""
    token_file: Path | None = None
    """Holds what goes into the Authorization header, `Bearer ...`; asks for https."""
    ratio: float = Field(0.1, ge=0, le=1)
    """Share of calls that are told. A trusted forwarder's own decision counts before it."""
    keep_failures: bool = True
    """Calls that failed by our or a target's fault are told whatever the ratio says."""
    providers: frozenset[str] = frozenset()
    """Third parties that get a `traceparent`, by their id in `providers`. Our engines always do."""
    queue_calls: int = Field(4096, ge=1, le=65_536)
    """Finished calls that wait for the collector; more are dropped and counted. About 2 KiB each:
    8 MiB."""
    batch_calls: int = Field(256, ge=1, le=1024)
    flush_s: float = Field(1.0, ge=0.05, le=60)
    timeout_s: float = Field(5.0, gt=0, le=60)
    """For one batch to be taken."""
    retry_s: float = Field(30.0, ge=0, le=300)
    """A batch that the collector cannot take now is offered again for so long, then dropped."""
    exit_s: float = Field(2.0, ge=0, le=30)
    """At the exit, for what still waits."""

    @field_validator("endpoint")
    @classmethod
    def _is_plain(cls, url: str) -> str:
        parts = urlsplit(url)
        if url and (parts.scheme not in ("http", "https") or not parts.hostname):
            raise ValueError(
                Worded("settings.trace_url", "say http://host:port/v1/traces, or https")
            )
        if parts.username or parts.query or parts.fragment:
            raise ValueError(
                Worded(
                    "settings.trace_plain",
                    "no user, query or fragment: a secret goes into token_file",
                )
            )
        return url

    @model_validator(mode="after")
    def _guards_its_token(self) -> Self:
        if self.token_file is not None and self.endpoint and not is_safe_url(self.endpoint):
            raise ValueError(
                Worded(
                    "settings.trace_secret",
                    "token_file: its secret only goes to https, or to this machine",
                )
            )
        return self
