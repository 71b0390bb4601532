"""How long a WebM file plays: block by block where it holds Opus, as browsers record; of another
codec by what it says of the time (RFC 8794, RFC 9559). Pure."""

from __future__ import annotations

import struct
from typing import Final

from serving.codecs.ogg import opus_s

ELEMENTS_MAX: Final = 200_000
"""Looked at; a longer file is taken to go on like its beginning."""
TICKS_MAX: Final = 32_767
"""A cluster's blocks lie at most so long after its time."""
_SEGMENT, _CLUSTER, _GROUP = 0x18538067, 0x1F43B675, 0xA0
_TRACKS, _TRACK, _NUMBER, _CODEC = 0x1654AE6B, 0xAE, 0xD7, 0x86
_OPENED = frozenset({_SEGMENT, _CLUSTER, _GROUP, _TRACKS, _TRACK})
_NAMED = frozenset({_NUMBER, _CODEC})
_BLOCKS = frozenset({0xA1, 0xA3})
_LACED = 6
_USUAL_S = 0.02


def seconds(data: bytes, bytes_per_s_min: int) -> float:
    """By its own Duration and by its packets, whichever says more; without packets that can be
    read, where its last cluster begins and the bytes that follow. Raises struct.error, IndexError
    or ZeroDivisionError for what cannot be told."""
    scale_at = data.find(b"\x2a\xd7\xb1", 0, 4096)
    scale = _unsigned(data, scale_at + 3) if scale_at >= 0 else 1_000_000
    told_s, at = 0.0, data.find(b"\x44\x89", 0, 4096)
    if at >= 0 and data[at + 2] in (0x84, 0x88):
        form = ">f" if data[at + 2] == 0x84 else ">d"
        told_s = struct.unpack_from(form, data, at + 3)[0] * scale / 1e9
    if played_s := _packets_s(data):
        return max(told_s, played_s)
    last = data.rfind(b"\x1f\x43\xb6\x75")
    stamp = data.find(b"\xe7", last + 4, last + 24) if last >= 0 else -1
    if stamp >= 0:
        begins_s = _unsigned(data, stamp + 1) * scale / 1e9
        rest_s = min(TICKS_MAX * scale / 1e9, (len(data) - last) / bytes_per_s_min)
        told_s = max(told_s, begins_s + rest_s)
    return told_s


def _unsigned(data: bytes, at: int) -> int:
    """An element's whole number, its size first."""
    size = data[at] & 0x0F
    return int.from_bytes(data[at + 1 : at + 1 + size], "big")


def _packets_s(data: bytes) -> float:
    """Seconds of all Opus packets; 0 where it holds none."""
    at, found, longest_s, number, is_opus = 0, 0.0, 0.0, -1, False
    tracks: set[int] = set()
    for _ in range(ELEMENTS_MAX):
        if at + 2 > len(data):
            return found
        try:
            kind, inner, size = _element(data, at)
        except IndexError:
            return found
        if kind == _TRACK:
            number, is_opus = -1, False
        elif kind == _NUMBER:
            number = int.from_bytes(data[inner : inner + size], "big")
        elif kind == _CODEC:
            is_opus = data.startswith(b"A_OPUS", inner)
        if kind in _NAMED and is_opus:
            tracks.add(number)
        elif kind in _BLOCKS and inner + 5 <= len(data):
            track, behind = _vint(data, inner)
            if track in tracks and behind + 4 <= len(data):
                block_s, longest_s = _block_s(data, behind, longest_s)
                found += block_s
        at = inner if kind in _OPENED else inner + size
    return found * len(data) / at


def _element(data: bytes, at: int) -> tuple[int, int, int]:
    """Kind, where the inside begins, and its bytes."""
    wide = 9 - data[at].bit_length()
    kind = int.from_bytes(data[at : at + wide], "big")
    size, at = _vint(data, at + wide)
    return kind, at, size


def _vint(data: bytes, at: int) -> tuple[int, int]:
    """A number that says its own length, which may be longer than it needs, and what follows."""
    wide = 9 - data[at].bit_length()
    return int.from_bytes(data[at : at + wide], "big") & ((1 << 7 * wide) - 1), at + wide


def _block_s(data: bytes, at: int, longest_s: float) -> tuple[float, float]:
    """Seconds of a block's packets, and of the longest packet so far. Of laced ones only how many
    there are is read. `at` is behind the track's number."""
    if data[at + 2] & _LACED:
        return (data[at + 3] + 1) * (longest_s or _USUAL_S), longest_s
    packet_s = opus_s(data, at + 3)
    return packet_s, max(longest_s, packet_s)
