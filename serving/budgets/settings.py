"""Settings of budgets, as `budgets:` in the settings file."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

MICRO_MAX = 10**18
"""A million million units: beyond it somebody's script runs away, and a column holds no more."""
Currency = Literal["CNY", "USD"]
Period = Literal["hour", "day", "month"]


class BudgetSettings(BaseModel):
    """What holds where no budget says otherwise."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    dev_limit_micro: int = Field(200_000_000, ge=0, le=MICRO_MAX)
    """Of each project whose environment is `dev` or `test` and that has no budget of its own: 200
    yuan, some tens of millions of tokens of a middling model. 0 sets no such cap."""
    dev_currency: Currency = "CNY"
    dev_period: Period = "month"
    gpu_currency: Currency = "CNY"
    gpu_input_micro_per_mtok: int = Field(0, ge=0, le=10**12)
    """What a million prompt tokens on an owned engine count in budgets. 0: the hour is paid, not
    the token, so they count nothing. Never an invoice, and no reason to refuse a call."""
    gpu_output_micro_per_mtok: int = Field(0, ge=0, le=10**12)
