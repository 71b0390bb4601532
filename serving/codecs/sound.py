"""A file of sound: in which container it comes, and how long it is. Pure.

Its length bounds what a call may cost before anything is sent: WAV and MP3 are measured by what is
there, FLAC, Ogg, MP4 and WebM say it themselves. What cannot be told is bounded by the bytes and
the thinnest codec in use.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Callable
from typing import Final

import msgspec

from models.hearing import TOKENS_PER_S, Container

BYTES_PER_S_MIN: Final = 750
"""Opus at 6 kbit/s, its lowest (RFC 6716, section 2.1.1): thinner sound is not looked for."""
STEPS_MAX: Final = 20_000
"""Frames or boxes looked at; the rest of a longer file is taken to go on like its beginning."""
SECONDS_MAX: Final = 10_000_000
_PCM = (1, 3, 0xFFFE)
_ID3 = b"ID3"
_MP4_KINDS = (b"ftyp", b"moov", b"mdat", b"wide", b"free")
_EBML = b"\x1a\x45\xdf\xa3"
_MP3_RATES = (44_100, 48_000, 32_000)
_MP3_KBITS = {
    (3, 3): (0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (3, 2): (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (3, 1): (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 3): (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (2, 1): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
"""Of MPEG 1 (3) and 2, 2.5 (2) by layer (3 is I, 1 is III): ISO 11172-3 and 13818-3."""

_MP3_FRAME = re.compile(
    b"\xff[%b][%b]"
    % (
        re.escape(bytes(b for b in range(0xE0, 0x100) if b >> 3 & 3 != 1 and b >> 1 & 3)),
        re.escape(bytes(b for b in range(0x100) if b >> 4 not in (0, 15) and b >> 2 & 3 != 3)),
    )
)
"""What `_mp3_frame` takes for a frame's first bytes, so that junk between frames costs no step."""


class Sound(msgspec.Struct, frozen=True):
    """A file as it came. Never logged, never shown."""

    data: bytes
    container: Container
    tokens: int
    """Tenths of a second, rounded up."""

    @property
    def name(self) -> str:
        """What third parties are told: they go by its ending; the caller's name stays here."""
        return f"sound.{'m4a' if self.container == 'mp4' else self.container}"


def read(data: bytes) -> Sound | None:
    """The file; None for one that is no sound in a container known here."""
    container = _container(data)
    if container is None:
        return None
    try:
        seconds = _LENGTHS[container](data)
    except (struct.error, IndexError, ZeroDivisionError, ValueError):
        seconds = 0.0
    if not 0.0 < seconds < SECONDS_MAX:
        seconds = len(data) / BYTES_PER_S_MIN
    return Sound(data, container, math.ceil(seconds * TOKENS_PER_S))


def _container(data: bytes) -> Container | None:
    if data[:4] == b"RIFF" and data[8:12] == b"WAVE":
        return "wav"
    if data[:4] == b"fLaC":
        return "flac"
    if data[:4] == b"OggS":
        return "ogg"
    if data[:4] == _EBML:
        return "webm"
    if data[4:8] in _MP4_KINDS:
        return "mp4"
    if data[:3] == _ID3 or _mp3_frame(data, 0) is not None:
        return "mp3"
    return None


def _wav(data: bytes) -> float:
    """What of its samples is there: a recorder that streams leaves the size at its most."""
    at, rate = 12, 0
    for _ in range(STEPS_MAX):
        kind, size = data[at : at + 4], struct.unpack_from("<I", data, at + 4)[0]
        if kind == b"fmt ":
            form, _, hertz, told, align = struct.unpack_from("<HHIIH", data, at + 8)
            rate = hertz * align if form in _PCM else told
        elif kind == b"data":
            return float(min(size, len(data) - at - 8) / rate)
        at += 8 + size + size % 2
    return 0.0


def _flac(data: bytes) -> float:
    """STREAMINFO, the first block (RFC 9639, section 8.2)."""
    packed = int.from_bytes(data[18:26], "big")
    return (packed & ((1 << 36) - 1)) / (packed >> 44)


def _ogg(data: bytes) -> float:
    """The last page's position. Opus counts at 48 kHz whatever it was made of (RFC 7845)."""
    at = data.rfind(b"OggS")
    position = struct.unpack_from("<q", data, at + 6)[0]
    if b"OpusHead" in data[:512]:
        return float(position / 48_000)
    vorbis = data.index(b"\x01vorbis", 0, 512)
    return float(position / struct.unpack_from("<I", data, vorbis + 12)[0])


def _mp3(data: bytes) -> float:
    """Frame by frame: with a rate that varies nothing else is true."""
    at = 0
    if data[:3] == _ID3:
        at = 10 + sum((data[6 + n] & 127) << (7 * (3 - n)) for n in range(4))
    framed, seconds = 0, 0.0
    for _ in range(STEPS_MAX):
        frame = _mp3_frame(data, at)
        if frame is None:
            # Junk between frames, or a tag at the end.
            found = _MP3_FRAME.search(data, at + 1)
            if found is None:
                return seconds
            at = found.start()
            continue
        size, length_s = frame
        at, framed, seconds = at + size, framed + size, seconds + length_s
        if at >= len(data):
            return seconds
    # By the frames alone: junk before them must not thin out what follows.
    return seconds + seconds * (len(data) - at) / framed if framed else 0.0


def _mp3_frame(data: bytes, at: int) -> tuple[int, float] | None:
    """A frame's bytes and seconds; None where none begins."""
    head = int.from_bytes(data[at : at + 4], "big")
    version, layer = head >> 19 & 3, head >> 17 & 3
    kbits, hertz = head >> 12 & 15, head >> 10 & 3
    if head >> 21 != 0x7FF or version == 1 or not layer or kbits in (0, 15) or hertz == 3:
        return None
    rate = _MP3_RATES[hertz] >> (2, 0, 1, 0)[version]
    bits = _MP3_KBITS[min(3, max(2, version)), layer][kbits] * 1000
    padding = head >> 9 & 1
    samples = 384 if layer == 3 else 576 if layer == 1 and version != 3 else 1152
    if layer == 3:
        return (12 * bits // rate + padding) * 4, samples / rate
    return samples // 8 * bits // rate + padding, samples / rate


def _mp4(data: bytes) -> float:
    """The longest track, by its own header and by its table of samples, whichever says more."""
    longest, todo = 0.0, [(0, len(data))]
    scale, steps = 0, 0
    while todo and steps < STEPS_MAX:
        at, end = todo.pop()
        while at + 8 <= end and steps < STEPS_MAX:
            steps += 1
            size, kind = struct.unpack_from(">I4s", data, at)
            head = 8
            if size == 1:
                size, head = struct.unpack_from(">Q", data, at + 8)[0], 16
            size = size or end - at
            if size < head:
                break
            inner = at + head
            if kind in (b"moov", b"trak", b"mdia", b"minf", b"stbl"):
                todo.append((inner, min(end, at + size)))
            elif kind in (b"mdhd", b"mvhd"):
                told = _duration(data, inner)
                scale = told[0] if kind == b"mdhd" else scale
                longest = max(longest, told[1] / told[0])
            elif kind == b"stts" and scale:
                longest = max(longest, _samples(data, inner) / scale)
            at += size
    return longest


def _duration(data: bytes, at: int) -> tuple[int, int]:
    """Units a second, and how many (ISO 14496-12, sections 8.2.2 and 8.4.2)."""
    form, skipped = (">IQ", 20) if data[at] else (">II", 12)
    scale, units = struct.unpack_from(form, data, at + skipped)
    return scale, 0 if units in (0xFFFF_FFFF, 0xFFFF_FFFF_FFFF_FFFF) else units


def _samples(data: bytes, at: int) -> int:
    count = min(struct.unpack_from(">I", data, at + 4)[0], STEPS_MAX)
    pairs = struct.iter_unpack(">II", data[at + 8 : at + 8 + 8 * count])
    return sum(number * length for number, length in pairs)


def _webm(data: bytes) -> float:
    """Its own Duration, or where its last cluster begins: a browser's recorder writes none."""
    scale_at = data.find(b"\x2a\xd7\xb1", 0, 4096)
    scale = _unsigned(data, scale_at + 3) if scale_at >= 0 else 1_000_000
    seconds, at = 0.0, data.find(b"\x44\x89", 0, 4096)
    if at >= 0 and data[at + 2] in (0x84, 0x88):
        form = ">f" if data[at + 2] == 0x84 else ">d"
        seconds = struct.unpack_from(form, data, at + 3)[0] * scale / 1e9
    last = data.rfind(b"\x1f\x43\xb6\x75")
    stamp = data.find(b"\xe7", last + 4, last + 24) if last >= 0 else -1
    if stamp >= 0:
        # A cluster's blocks lie at most 32767 ticks after its time.
        begins_s = _unsigned(data, stamp + 1) * scale / 1e9
        seconds = max(seconds, begins_s + min(32.8, (len(data) - last) / BYTES_PER_S_MIN))
    return seconds


def _unsigned(data: bytes, at: int) -> int:
    """An element's whole number, its size first."""
    size = data[at] & 0x0F
    return int.from_bytes(data[at + 1 : at + 1 + size], "big")


_LENGTHS: dict[Container, Callable[[bytes], float]] = {
    "flac": _flac, "mp3": _mp3, "mp4": _mp4, "ogg": _ogg, "wav": _wav, "webm": _webm,
}  # fmt: skip
