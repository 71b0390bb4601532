"""How long an Ogg file plays: packet by packet, for what its pages say of the time is only said.
Opus (RFC 6716, RFC 7845) and Vorbis. Pure."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

PAGES_MAX: Final = 20_000
"""Looked at; a longer file is taken to go on like its beginning."""
PACKETS_MAX: Final = 200_000
"""The same of a stream's packets, of which those beyond count as long as the longest before."""
STREAMS_MAX: Final = 64
"""Of one file; of more nothing is told."""
_HEAD = 27
_OPUS = b"OpusHead"
VORBIS: Final = b"\x01vorbis"
_OPUS_MS = ((10.0, 20.0, 40.0, 60.0), (10.0, 20.0), (2.5, 5.0, 10.0, 20.0))
OPUS_S_MAX: Final = 0.12
"""Of one packet (RFC 6716, section 3.2.5)."""


class _Packets:
    """Seconds of one stream so far. Each packet counts as long as the longest thing that a decoder
    may take it for, whatever the stream announced besides, or again."""

    def __init__(self) -> None:
        self.seconds = self._longest = 0.0
        self.unknown_bytes = 0
        """Of pages before any codec was announced: of another one, as far as is known here."""
        self._seen = 0
        self._is_opus = self._is_tagged = False
        """It was announced; and its tags, one packet behind its head, are past."""
        self._vorbis_s = 0.0
        """Of a packet of Vorbis, 0 where none was announced."""

    def page(self, data: bytes, at: int, table: bytes, *, is_going_on: bool) -> None:
        """A page's packets, whose lengths its table says; the first may be another's rest."""
        if self._seen > PACKETS_MAX:
            self.seconds += self._longest * (len(table) - table.count(255))
            return
        is_start = not is_going_on
        for size in table:
            if is_start and size:
                self._packet(data, at)
            is_start, at = size < 255, at + size
        if not self._is_opus and not self._vorbis_s:
            self.unknown_bytes += sum(table)

    def _packet(self, data: bytes, at: int) -> None:
        self._seen += 1
        length_s = 0.0
        if self._is_opus and (self._is_tagged or not data.startswith(b"OpusTags", at)):
            length_s = opus_s(data, at)
        self._is_tagged = self._is_opus
        if data.startswith(_OPUS, at):
            self._is_opus = True
        elif data.startswith(VORBIS, at):
            self._vorbis_s = max(self._vorbis_s, vorbis_s(data, at))
        elif self._vorbis_s and not data[at] & 1:  # an odd one is a head
            length_s = max(length_s, self._vorbis_s)
        self.seconds += length_s
        self._longest = max(self._longest, length_s)


def vorbis_s(data: bytes, at: int) -> float:
    """Seconds that a packet adds at most, by the head that begins there: half a long block, since
    blocks overlap. Which packets are long is in the order of the stream's modes, behind all its
    code books, and those are not read: a short one counts as long. Raises struct.error, IndexError
    or ZeroDivisionError."""
    rate, sizes = struct.unpack_from("<I", data, at + 12)[0], data[at + 28]
    return float(2.0 ** max(sizes & 15, sizes >> 4) / 2 / rate)


def opus_s(data: bytes, at: int) -> float:
    """Seconds of the Opus packet that begins there (RFC 6716, section 3.1)."""
    config, code = data[at] >> 3, data[at] & 3
    row = _OPUS_MS[0 if config < 12 else 1 if config < 16 else 2]
    frames = (1, 2, 2)[code] if code < 3 else data[at + 1] & 63
    return min(OPUS_S_MAX, frames * row[config % len(row)] / 1e3)


def seconds(data: bytes, bytes_per_s_min: int) -> float:
    """By the last page's position and by the packets, whichever says more; streams of another codec
    by their bytes. Raises struct.error, ValueError, IndexError or ZeroDivisionError for what cannot
    be told."""
    streams: dict[bytes, _Packets] = {}
    at = 0
    for at, table in _pages(data):
        serial, is_going_on = data[at + 14 : at + 18], bool(data[at + 5] & 1)
        found = streams.setdefault(serial, _Packets())
        if len(streams) > STREAMS_MAX:
            raise ValueError("too many streams")
        found.page(data, at + _HEAD + len(table), table, is_going_on=is_going_on)
    played_s = sum(one.seconds + one.unknown_bytes / bytes_per_s_min for one in streams.values())
    rest = data.find(b"OggS", at + 4)
    if rest > 0:
        played_s *= len(data) / rest
    return max(played_s, _position_s(data))


def _pages(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Where each begins, and the table of its parts (RFC 3533, section 6)."""
    at = data.find(b"OggS")
    for _ in range(PAGES_MAX):
        if at < 0 or at + _HEAD > len(data):
            return
        table = data[at + _HEAD : at + _HEAD + data[at + 26]]
        yield at, table
        at = data.find(b"OggS", at + _HEAD + len(table) + sum(table))


def _position_s(data: bytes) -> float:
    """Opus counts at 48 kHz whatever it was made of (RFC 7845)."""
    at = data.rfind(b"OggS")
    position = struct.unpack_from("<q", data, at + 6)[0]
    if _OPUS in data[:512]:
        return float(position / 48_000)
    vorbis = data.index(VORBIS, 0, 512)
    return float(position / struct.unpack_from("<I", data, vorbis + 12)[0])
