"""The settings of reviews, as `review:` in the settings file. Nothing set keeps nothing."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from serving.review.sampling import Rates


class _Group(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class TenantReview(_Group):
    """How much of one tenant's traffic people may read."""

    rate: float = Field(0.0, ge=0, le=1)
    """Share of all conversations."""
    flagged_rate: float = Field(0.0, ge=0, le=1)
    """Share of those in which the guard found something; never below `rate`."""

    @property
    def rates(self) -> Rates:
        """As sampling reads it."""
        return Rates(self.rate, max(self.rate, self.flagged_rate))


class ReviewSettings(_Group):
    """The root."""

    key_file: Path | None = None
    """Keys that seal the texts, one a line, the newest first; all gateways have the same. Else
    `review-key` in the state folder."""
    keep_days: int = Field(90, ge=1, le=3650)
    """Then a sample goes, and a complaint that was judged; the text with it."""
    cases_max: int = Field(100_000, ge=1)
    """Of the store; beyond it the oldest samples go first."""
    text_bytes_max: int = Field(256 << 10, ge=1 << 10)
    """Kept of one prompt and of one answer each; what is longer is cut and says so."""
    waiting_bytes_max: int = Field(32 << 20, ge=1 << 20)
    """Sealed and not yet stored, in one process; beyond it samples are dropped and counted."""
    default: TenantReview = TenantReview()
    tenants: dict[str, TenantReview] = {}
    """By tenant; a forwarder's customer that is not named has its forwarder's."""

    def rates(self, tenant: str) -> Rates:
        """What holds for a tenant."""
        forwarder = tenant.partition("/")[0]
        return self.tenants.get(tenant, self.tenants.get(forwarder, self.default)).rates

    @property
    def keeps(self) -> bool:
        """Whether anything is ever kept."""
        return any(max(one.rates) > 0 for one in (self.default, *self.tenants.values()))
