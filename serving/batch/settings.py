"""The settings of files and batches, as `batches:` in the settings file."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class BatchSettings(BaseModel):
    """How much may be stored, and when its lines run."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    file_bytes_max: int = Field(200 << 20, ge=1024)
    """Of one upload; OpenAI's own bound is 200 MB too (its batch guide, 2026-01)."""
    uploads_max: int = Field(4, ge=1)
    """At once, of one process; each holds about 3 MiB of memory."""
    upload_wait_s: float = Field(900.0, gt=0)
    """From the end of the headers to the end of a file."""
    bytes_of_tenant_max: int = Field(10 << 30, ge=1024)
    """Of all files of one tenant."""
    files_of_tenant_max: int = Field(1000, ge=1)
    requests_of_tenant_max: int = Field(32, ge=1)
    """Answered at once to one tenant by one process, beside uploads; one of them waits for the
    store no longer than two questions of each other tenant take."""
    keep_days: int = Field(30, ge=1)
    """Files, and batches that have ended."""
    lines_of_batch_max: int = Field(50_000, ge=1)
    """As OpenAI's."""
    line_bytes_max: int = Field(4 << 20, ge=1024)
    batches_of_tenant_max: int = Field(100, ge=1)
    """Not yet ended."""
    ended_of_tenant_max: int = Field(1000, ge=1)
    """The oldest beyond are forgotten when a new one is made; their files stay."""
    at_once_max: int = Field(64, ge=0)
    """Lines under way in one process; 0: this process runs none, others may."""
    batches_at_once_max: int = Field(8, ge=1)
    """Batches that one process works on. While more wait, tenants share these places evenly."""
    idle_s: float = Field(120.0, gt=0)
    """A batch none of whose lines could run for so long gives its place to one that waits."""
    fill: float = Field(0.8, gt=0, le=1)
    """Share of an engine's batch that lines may fill up to: people's calls find the rest free."""
    api_before_s: float = Field(14_400.0, ge=0)
    """So long before its window ends a batch no longer waits for idle engines, and may go to third
    parties if its key may; 0 never. Models without engines of ours go there at once."""
    away_before_s: float = Field(43_200.0, ge=0)
    """So long before its window ends lines that idle engines will not have done go to a third
    party's batch price, where the model has such an offering. Half a day: a night's idle engines
    come first. Models without engines of ours go there at once."""
    away_of_batch_max: int = Field(64, ge=0)
    """Lines of one batch at a batch price at once: each is a connection that waits up to an hour;
    0: none."""
    away_hold_s: float = Field(30.0, gt=0)
    """After a failure at a batch price none goes there for so long, twice as long after each more,
    up to an hour; then one asks first."""
    away_measure_s: float = Field(600.0, ge=0)
    """So long the pace of our engines is watched before lines leave for it."""
    tries_max: int = Field(3, ge=1)
    """Of a line that failed by its target's fault; being full or limited is none."""
    lease_s: float = Field(30.0, ge=3)
    """A batch of a process that is silent for so long goes to another."""
    tick_s: float = Field(1.0, gt=0)
    """Between two looks for room; a line that ends is followed at once."""
    claim_s: float = Field(5.0, gt=0)
    """Between two looks for batches that nobody works on."""
