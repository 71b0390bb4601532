"""What answers and the list of models say of a public name that will go. Pure.

`deprecation` is RFC 9745's (a date in the future says that it will be), `sunset` RFC 8594's.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from email.utils import format_datetime
from typing import Any

from serving.settings_rollout import Ending


def header_lines(ending: Ending) -> str:
    """Header lines of each answer to a call by that name."""
    lines = f"deprecation: @{round(_midnight(ending.deprecated).timestamp())}\r\n"
    if ending.sunset is not None:
        lines += f"sunset: {format_datetime(_midnight(ending.sunset), usegmt=True)}\r\n"
    return lines


def told(name: str, ending: Ending) -> dict[str, Any]:
    """What `/v1/models` says."""
    words = f"{name} is deprecated from {ending.deprecated}"
    if ending.sunset is not None:
        words += f" and may be gone after {ending.sunset}"
    if ending.successor:
        words += f"; call {ending.successor}"
    return {
        "deprecated": ending.deprecated.isoformat(),
        "sunset": ending.sunset and ending.sunset.isoformat(),
        "successor": ending.successor or None,
        "warning": words,
    }


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)
