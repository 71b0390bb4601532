"""Content filter, masking and sensitivity. Until the filter exists, calls carry their tenant's own
label and pass as they are (`relay`)."""

from __future__ import annotations

from typing import NamedTuple

from serving.records import Call, Caller, Sensitivity


class Screened(NamedTuple):
    """What the guard found in an input."""

    sensitivity: Sensitivity
    mode: str
    """`relay`: events pass untouched. `inspect`: parsed, held back, rewritten."""


_RELAY = Screened(Sensitivity.INTERNAL, "relay")


def screen(call: Call, caller: Caller) -> Screened:  # noqa: ARG001 - the seam of the filter
    """Classify an input."""
    return _RELAY
