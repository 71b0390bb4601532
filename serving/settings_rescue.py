"""What happens to an answer that breaks off after its first byte (0124)."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Rescue(BaseModel):
    """Frozen, and refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    exact: bool = True
    """Our engines tell the ids they make, and another one goes on with them."""
    inexact: bool = False
    """Where none can, a third party with a prefix mode goes on with the text: what the client has
    stays, but the rest is another model's or another host's. Marked in the stream and the rows."""
