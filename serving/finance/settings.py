"""What the settings say of rented GPUs."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class Rented(BaseModel):
    """What a replica of one model holds and costs; the controller books it as long as it is there.
    What stands here is told to `ballast money` by nobody else, or it counts twice."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str = Field(min_length=1)
    gpu: str = Field(min_length=1)
    """Key of `models/gpus.yaml`."""
    gpus: int = Field(1, ge=1, le=1024)
    gpu_hour: Annotated[Decimal, Field(ge=0, le=100_000)]
    """Price of one GPU for an hour."""
    currency: str = Field(pattern="^[A-Z]{3}$")
    source: str = Field(min_length=1)
    """The contract or price list."""

    @property
    def micro_per_gpu_hour(self) -> int:
        """The price in micro-units."""
        return int((self.gpu_hour * 1_000_000).to_integral_value())
