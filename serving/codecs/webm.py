"""How long a WebM file plays: packet by packet of Opus, as browsers record, and of Vorbis; of any
other codec by its bytes (RFC 8794, RFC 9559). Pure."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from itertools import accumulate
from typing import Final

from serving.codecs.ogg import OPUS_S_MAX, VORBIS, opus_s, vorbis_s

ELEMENTS_MAX: Final = 200_000
"""Looked at, and as many packets; a longer file is taken to go on like its beginning."""
TRACKS_MAX: Final = 64
"""Of one file; of more nothing is told."""
PRIVATE_BYTES_MAX: Final = 4096
"""Read of one member of a track."""
TICKS_MAX: Final = 32_767
"""A cluster's blocks lie at most so long after its time."""
_SEGMENT, _CLUSTER, _GROUP = 0x18538067, 0x1F43B675, 0xA0
_TRACKS, _TRACK, _NUMBER, _CODEC = 0x1654AE6B, 0xAE, 0xD7, 0x86
_PRIVATE, _ENCODINGS = 0x63A2, 0x6D80
_OPENED = frozenset({_SEGMENT, _CLUSTER, _GROUP, _TRACKS, _TRACK})
_NAMED = frozenset({_NUMBER, _CODEC, _PRIVATE, _ENCODINGS})
_BLOCKS = frozenset({0xA1, 0xA3})
_LACED, _XIPH, _EVEN, _EBML = 6, 2, 4, 6
_BELOW_255 = re.compile(b"[^\xff]")
_UNHEARD = (b"V_", b"S_", b"B_", b"D_")
"""How the codecs of what is no sound begin."""


def seconds(data: bytes, bytes_per_s_min: int) -> float:
    """By its own Duration and by its packets, whichever says more; without packets that can be
    read, where its last cluster begins and the bytes that follow. Raises struct.error, IndexError,
    ValueError or ZeroDivisionError for what cannot be told."""
    scale_at = data.find(b"\x2a\xd7\xb1", 0, 4096)
    scale = _unsigned(data, scale_at + 3) if scale_at >= 0 else 1_000_000
    told_s, at = 0.0, data.find(b"\x44\x89", 0, 4096)
    if at >= 0 and data[at + 2] in (0x84, 0x88):
        form = ">f" if data[at + 2] == 0x84 else ">d"
        told_s = struct.unpack_from(form, data, at + 3)[0] * scale / 1e9
    if played_s := _packets_s(data, bytes_per_s_min):
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


def _packets_s(data: bytes, bytes_per_s_min: int) -> float:
    """Seconds of all packets of sound; 0 where it holds none."""
    at, beyond, packets = 0, 1.0, 0
    tracks: list[_Track] = []
    blocks: dict[int, _Blocks] = {}
    for seen in range(ELEMENTS_MAX + 1):
        if at + 2 > len(data):
            break
        if seen == ELEMENTS_MAX or packets > ELEMENTS_MAX:
            beyond = len(data) / at
            break
        try:
            kind, inner, size = _element(data, at)
        except IndexError:
            break
        if kind == _TRACK:
            tracks.append(_Track())
        elif kind in _NAMED and tracks:
            tracks[-1].told(kind, data[inner : min(inner + size, inner + PRIVATE_BYTES_MAX)])
        elif kind in _BLOCKS and inner + 5 <= len(data):
            number, behind = _vint(data, inner)
            if behind + 4 <= len(data):
                packets += blocks.setdefault(number, _Blocks()).add(data, behind, inner + size)
        if max(len(tracks), len(blocks)) > TRACKS_MAX:
            raise ValueError("too many tracks")
        at = inner if kind in _OPENED else inner + size
    played_s = sum(
        track.seconds(blocks[track.number], bytes_per_s_min)
        for track in tracks if track.number in blocks
    )  # fmt: skip
    if beyond > 1.0:  # entries may stand behind what was looked at
        named = {track.number for track in tracks}
        played_s += sum(one.opus_s for number, one in blocks.items() if number not in named)
    return beyond * played_s


class _Blocks:
    """What a track's blocks hold, whatever its codec is: that may be said behind them."""

    __slots__ = ("bytes", "opus_s", "packets")

    def __init__(self) -> None:
        self.packets = self.bytes = 0
        self.opus_s = 0.0

    def add(self, data: bytes, at: int, end: int) -> int:
        """One block, from behind its track's number; how many packets it has."""
        end, before = min(end, len(data)), self.packets
        self.bytes += max(0, end - at)
        for begin in _laced(data, at + 2, end) if data[at + 2] & _LACED else (at + 3,):
            self.packets += 1
            self.opus_s += opus_s(data, begin) if at < begin < end else OPUS_S_MAX
        return self.packets - before


def _laced(data: bytes, at: int, end: int) -> Iterator[int]:
    """Where each packet of a laced block begins, its flags first (RFC 9559, section 10.3)."""
    kind, count, at, sizes = data[at] & _LACED, data[at + 1] + 1, at + 2, [0]
    for _ in range(count - 1):
        if kind == _XIPH:
            # Within the block: those that follow could all be made to look through the same bytes.
            last = _BELOW_255.search(data, at, end)
            behind = last.start() if last is not None else max(at, end)
            sizes.append(255 * (behind - at) + (data[behind] if last is not None else 0))
            at = behind + 1
        elif kind == _EBML:  # the first as it is, the others by how they differ from it
            value, behind = _vint(data, at)
            bias = (1 << (7 * (behind - at) - 1)) - 1 if len(sizes) > 1 else 0
            sizes.append(value - bias + (sizes[-1] if len(sizes) > 1 else 0))
            at = behind
    if kind == _EVEN:
        sizes += [(end - at) // count] * (count - 1)
    return (at + moved for moved in accumulate(sizes))


class _Track:
    """What one entry says of its track."""

    __slots__ = ("_codec", "_is_packed", "_vorbis_s", "number")

    def __init__(self) -> None:
        self.number = -1
        self._codec = b""
        self._vorbis_s = 0.0
        self._is_packed = False

    def told(self, kind: int, value: bytes) -> None:
        """One more of its elements."""
        if kind == _NUMBER:
            self.number = int.from_bytes(value[:8], "big")
        elif kind == _CODEC:
            self._codec = value
        elif kind == _PRIVATE:
            self._vorbis_s = _of_private(value)
        else:
            self._is_packed = True

    def seconds(self, found: _Blocks, bytes_per_s_min: int) -> float:
        """Opus and Vorbis, the codecs of WebM, by their packets; other sound by its bytes."""
        if self._codec.startswith(_UNHEARD):
            return 0.0
        if self._codec.startswith(b"A_OPUS"):
            # What is packed does not show how long it is.
            return found.packets * OPUS_S_MAX if self._is_packed else found.opus_s
        if self._codec.startswith(b"A_VORBIS") and self._vorbis_s:
            return found.packets * self._vorbis_s
        return found.bytes / bytes_per_s_min


def _of_private(value: bytes) -> float:
    """Seconds of a packet of Vorbis by the first of its three heads, behind the sizes of the first
    two (in parts of 255); 0 where none stands there."""
    at = 1
    for _ in range(2):
        while value[at : at + 1] == b"\xff":
            at += 1
        at += 1
    try:
        return vorbis_s(value, at) if value.startswith(VORBIS, at) else 0.0
    except (struct.error, IndexError, ZeroDivisionError):
        return 0.0


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
