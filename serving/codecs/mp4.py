"""How long an MP4's sound is: by what its heads say, by its table of times, and by how many samples
there are, whichever says more (ISO 14496-12). Pure."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

BOXES_MAX: Final = 200_000
"""Looked at; a recording that is longer cannot be told."""
RUNS_MAX: Final = 200_000
"""Of all tables of times: an hour of pictures, 50 a second. A file of more cannot be told, for
tables that lie over each other would be read again and again."""
DEPTH_MAX: Final = 10
"""Boxes within boxes that hold a track's words; three are usual."""
_FRAMES = {b"mp4a": 1024, b"alac": 4096, b"ac-3": 1536}
"""Samples of one frame: AAC (ISO 14496-3), ALAC as Apple writes it, AC-3 (ETSI TS 102 366)."""
_FRAMES_S = {b"Opus": 0.02, b"samr": 0.02, b"sawb": 0.02}
"""Seconds of one: AMR's are always so long, Opus' nearly always."""
_AAC_RATES = (
    96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8000,
    7350,
)  # fmt: skip


class _Track:
    """One track's own words."""

    def __init__(self) -> None:
        self.id = -1
        self.scale = 0
        self.told_s = 0.0
        self.samples = 0
        self.frame_s = 0.0
        self.is_sound = False

    @property
    def seconds(self) -> float:
        """Raises ValueError where its frames are of no known length."""
        if self.is_sound and self.samples and not self.frame_s:
            raise ValueError("frames of no known length")
        return max(self.told_s, self.samples * self.frame_s if self.is_sound else 0.0)


class _Reader:
    """One file's boxes, as many as are looked at."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._left = BOXES_MAX
        self._runs_left = RUNS_MAX
        self._tracks: dict[int, _Track] = {}
        self._told_s = 0.0

    def seconds(self) -> float:
        """Of the longest track. Raises ValueError, struct.error or IndexError."""
        for kind, at, end in self._boxes(0, len(self._data)):
            if kind == b"moov":
                self._moov(at, end)
            elif kind == b"moof":
                for inner, start, stop in self._boxes(at, end):
                    if inner == b"traf":
                        self._fragment(start, stop)
        if self._left <= 0:
            raise ValueError("frames of no known length")
        return max([self._told_s, *(track.seconds for track in self._tracks.values())])

    def _boxes(self, at: int, end: int) -> Iterator[tuple[bytes, int, int]]:
        """Kind, and where each box's inside begins and ends."""
        while at + 8 <= end and self._left > 0:
            self._left -= 1
            size, kind = struct.unpack_from(">I4s", self._data, at)
            head = 8
            if size == 1:
                size, head = struct.unpack_from(">Q", self._data, at + 8)[0], 16
            size = size or end - at
            if size < head:
                return
            yield kind, at + head, min(end, at + size)
            at += size

    def _moov(self, at: int, end: int) -> None:
        for kind, start, stop in self._boxes(at, end):
            if kind == b"mvhd":
                scale, units = _duration(self._data, start)
                self._told_s = units / scale
            elif kind == b"trak":
                track = _Track()
                self._inside(track, start, stop)
                is_new = track.id >= 0 and track.id not in self._tracks
                self._tracks[track.id if is_new else -len(self._tracks) - 1] = track

    def _inside(self, track: _Track, at: int, end: int, depth: int = 0) -> None:
        if depth > DEPTH_MAX:
            raise ValueError("boxes within boxes")
        data = self._data
        for kind, start, stop in self._boxes(at, end):
            if kind in (b"mdia", b"minf", b"stbl"):
                self._inside(track, start, stop, depth + 1)
            elif kind == b"tkhd":
                track.id = _number(data, start + (20 if data[start] else 12))
            elif kind == b"mdhd":
                track.scale, units = _duration(data, start)
                track.told_s = max(track.told_s, units / track.scale)
            elif kind == b"hdlr":
                track.is_sound |= data[start + 8 : start + 12] == b"soun"
            elif kind == b"stsd":
                track.frame_s = max(track.frame_s, _frame_s(data, start, stop))
                track.is_sound |= track.frame_s > 0.0
            elif kind == b"stts" and track.scale:
                track.told_s = max(track.told_s, self._times(start) / track.scale)
            elif kind in (b"stsz", b"stz2"):
                track.samples += _number(data, start + 8)

    def _times(self, at: int) -> int:
        """The sum of a table of times, in units of its track."""
        there = max(0, len(self._data) - at - 8) // 8
        count = min(_number(self._data, at + 4), there)
        self._runs_left -= count
        if self._runs_left < 0:
            raise ValueError("too many times")
        pairs = struct.iter_unpack(">II", self._data[at + 8 : at + 8 + 8 * count])
        return sum(number * length for number, length in pairs)

    def _fragment(self, at: int, end: int) -> None:
        track: _Track | None = None
        for kind, start, _ in self._boxes(at, end):
            if kind == b"tfhd":
                track = self._tracks.get(_number(self._data, start + 4))
            elif kind == b"trun" and track is not None:
                track.samples += _number(self._data, start + 4)


def seconds(data: bytes) -> float:
    """The longest of its tracks. Raises struct.error, IndexError, ZeroDivisionError or ValueError
    for what cannot be told."""
    return _Reader(data).seconds()


def _number(data: bytes, at: int) -> int:
    return int(struct.unpack_from(">I", data, at)[0])


def _duration(data: bytes, at: int) -> tuple[int, int]:
    """Units a second, and how many (sections 8.2.2 and 8.4.2)."""
    form, skipped = (">IQ", 20) if data[at] else (">II", 12)
    scale, units = struct.unpack_from(form, data, at + skipped)
    return scale, 0 if units in (0xFFFF_FFFF, 0xFFFF_FFFF_FFFF_FFFF) else units


def _frame_s(data: bytes, at: int, end: int) -> float:
    """Seconds of a frame, by the first kind of sample that the track has; 0 is unknown."""
    kind = data[at + 12 : at + 16]
    if kind not in _FRAMES:
        return _FRAMES_S.get(kind, 0.0)
    rate = _aac_rate(data, at, end) if kind == b"mp4a" else 0
    rate = rate or struct.unpack_from(">H", data, at + 40)[0]
    return _FRAMES[kind] / rate if rate else 0.0


def _aac_rate(data: bytes, at: int, end: int) -> int:
    """As the decoder is told (ISO 14496-1, 7.2.6 and 14496-3, 1.6.2.1); 0 where nothing is."""
    spot = data.find(b"esds", at, end)
    if spot < 0 or data[spot + 8] != 3:
        return 0
    spot = _inside(data, spot + 8) + 3
    if data[spot] != 4:
        return 0
    spot = _inside(data, spot) + 13
    if data[spot] != 5:
        return 0
    spot = _inside(data, spot)
    bits = int.from_bytes(data[spot : spot + 5].ljust(5, b"\0"), "big")
    code = bits >> 31 & 15
    if code == 15:
        return bits >> 7 & 0xFF_FFFF
    return _AAC_RATES[code] if code < len(_AAC_RATES) else 0


def _inside(data: bytes, at: int) -> int:
    """Where a descriptor's own words begin: behind its tag and its size of one to four bytes."""
    for last in range(at + 1, at + 5):
        if not data[last] & 128:
            return last + 1
    return at + 5
