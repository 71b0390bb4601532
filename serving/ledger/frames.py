"""The journal's wire format: bytes in, records out. Pure.

A frame is a length and a CRC32 over length and payload (4 bytes each, little-endian), then the
msgpack list of the records that belong together. A length of zero is preallocated space.
"""

from __future__ import annotations

import struct
import zlib
from enum import StrEnum
from typing import NamedTuple

import msgspec

from serving.rows import Record

FRAME_BYTES_MAX = (1 << 20) - 8
"""A frame fits in one slice of the drainer; a larger one is our own bug."""

_HEADER = struct.Struct("<II")
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[Record]).decode


class Stop(StrEnum):
    """Why `frames` stopped."""

    END = "end"
    """All read; the rest, if any, is preallocated zeros."""
    TORN = "torn"
    """The last frame is incomplete."""
    CORRUPT = "corrupt"
    """A frame whose checksum, length or content is wrong."""


class Frames(NamedTuple):
    """What `frames` found."""

    records: list[Record]
    good_bytes: int
    """Length of the whole frames, all before the first bad one."""
    stop: Stop


def frame(records: tuple[Record, ...]) -> bytes:
    """Records as one frame. Raises ValueError beyond FRAME_BYTES_MAX."""
    payload = _encode(records)
    length = len(payload)
    if length > FRAME_BYTES_MAX:
        raise ValueError(f"a journal frame of {length} bytes")
    return _HEADER.pack(length, zlib.crc32(payload, length)) + payload


def frames(data: bytes) -> Frames:
    """Read whole frames up to the end or the first bad one. Never raises."""
    records: list[Record] = []
    at = 0
    while len(data) - at >= _HEADER.size:
        length, check = _HEADER.unpack_from(data, at)
        if length == 0:
            break
        payload = data[at + _HEADER.size : at + _HEADER.size + length]
        if len(payload) < length <= FRAME_BYTES_MAX:
            return Frames(records, at, Stop.TORN)
        if length > FRAME_BYTES_MAX or zlib.crc32(payload, length) != check:
            return Frames(records, at, Stop.CORRUPT)
        try:
            records += _decode(payload)
        except msgspec.MsgspecError:
            return Frames(records, at, Stop.CORRUPT)
        at += _HEADER.size + length
    if data.count(0, at) == len(data) - at:
        return Frames(records, at, Stop.END)
    return Frames(records, at, Stop.CORRUPT if len(data) - at >= _HEADER.size else Stop.TORN)
