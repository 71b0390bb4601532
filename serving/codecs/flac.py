"""How long a FLAC file plays: frame by frame (RFC 9639), for its head may say anything. Pure."""

from __future__ import annotations

import re
import struct
from typing import Final

STEPS_MAX: Final = 20_000
"""Places looked at; what looks like a frame beyond them counts as long as the longest before."""
_RATES = (
    0, 88_200, 176_400, 192_000, 8000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 96_000,
)  # fmt: skip
"""Table 15 of the RFC; 0 is "as STREAMINFO says"."""
_SYNC = re.compile(
    b"\xff[\xf8\xf9][\x10-\xff][%b]"
    % re.escape(bytes(b for b in range(0xB0) if b & 1 == 0 and b >> 1 & 7 != 3)),
    re.DOTALL,
)
"""A frame's first four bytes: mark, sizes of block and rate, channels and bits."""


def _crcs() -> bytes:
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte << 1 ^ (0x107 if byte & 128 else 0)
        table.append(byte)
    return bytes(table)


_CRC: Final = _crcs()


def seconds(data: bytes) -> float:
    """By STREAMINFO (section 8.2) and by its frames, whichever says more. Raises struct.error or
    IndexError for a file that is cut short, ZeroDivisionError for one without a rate."""
    packed = int.from_bytes(data[18:26], "big")
    rate, told = packed >> 44, packed & ((1 << 36) - 1)
    found, longest, steps, at = 0.0, 0.0, 0, 26
    while steps < STEPS_MAX and (mark := _SYNC.search(data, at)) is not None:
        steps, at = steps + 1, mark.start() + 2
        try:
            block_s = _block_s(data, mark.start(), rate)
        except (struct.error, IndexError):
            break  # the end of the file
        found, longest = found + block_s, max(longest, block_s)
    if steps >= STEPS_MAX:
        found += longest * (data.count(b"\xff\xf8", at) + data.count(b"\xff\xf9", at))
    return max(told / rate, found)


def _block_s(data: bytes, at: int, rate: int) -> float:
    """Seconds of the frame that begins there; 0 where none does (section 9.1)."""
    size_code, rate_code, number = data[at + 2] >> 4, data[at + 2] & 15, data[at + 4]
    ones = 8 - (number ^ 255).bit_length()
    if ones == 1 or ones == 8 or rate_code == 15:
        return 0.0
    end = at + 4 + max(1, ones)
    if size_code in (6, 7):
        wide = size_code - 5
        samples, end = int.from_bytes(data[end : end + wide], "big") + 1, end + wide
    elif size_code < 6:
        samples = 192 if size_code == 1 else 576 << (size_code - 2)
    else:
        samples = 256 << (size_code - 8)
    own = _RATES[rate_code] if rate_code < 12 else 0
    if rate_code >= 12:
        wide = 1 if rate_code == 12 else 2
        own = int.from_bytes(data[end : end + wide], "big") * (1000, 1, 10)[rate_code - 12]
        end += wide
    crc = 0
    for byte in data[at:end]:
        crc = _CRC[crc ^ byte]
    # The lower of two rates: readers differ in which they believe.
    return samples / min(own or rate, rate) if data[end] == crc else 0.0
