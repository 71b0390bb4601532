"""A file of sound: in which container it comes, and how long it is. Pure.

Its length bounds what a call may cost before anything is sent, so it is measured by what is there:
samples, frames, packets. What cannot be told is bounded by the bytes and the thinnest codec in use.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Callable
from typing import Final

import msgspec

from models.hearing import TOKENS_PER_S, Container
from serving.codecs import flac, mp4, ogg, webm

BYTES_PER_S_MIN: Final = 750
"""Opus at 6 kbit/s, its lowest (RFC 6716, section 2.1.1): thinner sound is not looked for."""
STEPS_MAX: Final = 20_000
"""Frames or boxes looked at; the rest of a longer file is taken to go on like its beginning."""
SECONDS_MAX: Final = 10_000_000
_PCM, _EXTENSIBLE = (1, 3), 0xFFFE
_HALF_BYTES = {6: 1.0, 7: 1.0, 2: 0.5, 0x11: 0.5}
"""Bytes of a sample: A-law and mu-law, ADPCM of Microsoft and IMA (RFC 2361)."""
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
    """What of its samples is there: a recorder that streams leaves the size at its most, or at 0.
    All chunks of samples count, and of two heads the one that makes them last longer."""
    at, rate, size_all = 12, math.inf, 0
    for _ in range(STEPS_MAX):
        if at + 8 > len(data):
            return size_all / rate
        kind, size = data[at : at + 4], struct.unpack_from("<I", data, at + 4)[0]
        if kind == b"fmt ":
            rate = min(rate, _wav_rate(data, at + 8, size))
        elif kind == b"data":
            there = len(data) - at - 8
            size = min(size or there, there)
            size_all += size
        at += 8 + size + size % 2
    return (size_all + max(0, len(data) - at)) / rate


def _wav_rate(data: bytes, at: int, size: int) -> float:
    """Bytes a second, reckoned as a decoder does and not as the head sums it up. Packed sound of
    another kind is the thinnest."""
    form, channels, hertz, _, _, bits = struct.unpack_from("<HHIIHH", data, at)
    if form == _EXTENSIBLE and size >= 26:
        form = struct.unpack_from("<H", data, at + 24)[0]
    if form in _PCM:
        return float(hertz * max(1, channels) * max(1, -(-bits // 8)))
    if form in _HALF_BYTES:
        return float(hertz * max(1, channels)) * _HALF_BYTES[form]
    return BYTES_PER_S_MIN


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


def _ogg(data: bytes) -> float:
    return ogg.seconds(data, BYTES_PER_S_MIN)


def _webm(data: bytes) -> float:
    return webm.seconds(data, BYTES_PER_S_MIN)


_LENGTHS: dict[Container, Callable[[bytes], float]] = {
    "flac": flac.seconds, "mp3": _mp3, "mp4": mp4.seconds, "ogg": _ogg, "wav": _wav,
    "webm": _webm,
}  # fmt: skip
