"""What msgspec raises for bytes that others sent and that are no such message."""

from __future__ import annotations

from typing import Final

import msgspec

UNREADABLE: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""No JSON, or of another shape; text that is no UTF-8 (msgspec leaves that to Python); nested as
deep as Python allows."""
