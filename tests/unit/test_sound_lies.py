"""Files of sound that say less than they hold: what counts is what a decoder would play."""

from __future__ import annotations

import struct

import pytest

from serving.codecs import flac, ogg, sound, webm


def told(data: bytes) -> float:
    """Seconds."""
    found = sound.read(data)
    assert found is not None
    return found.tokens / 10


def wave(pieces: list[bytes], *, form: int = 1, bits: int = 16, extra: bytes = b"",
         align: int = 2, per_s: int = 32_000) -> bytes:  # fmt: skip
    """16 kHz, mono, by what its head says of itself."""
    head = struct.pack("<HHIIHH", form, 1, 16_000, per_s, align, bits) + extra
    chunks = b"fmt " + struct.pack("<I", len(head)) + head
    for piece in pieces:
        chunks += b"data" + struct.pack("<I", len(piece)) + piece
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks


SECOND = bytes(32_000)


@pytest.mark.parametrize(
    ("data", "seconds"),
    [
        (wave([SECOND * 3], align=65_535, per_s=4_000_000_000), 3.0),
        (wave([SECOND, SECOND]), 2.0),
        (wave([SECOND]).replace(b"data" + struct.pack("<I", 32_000), b"data" + bytes(4)), 1.0),
        (wave([SECOND], form=7, bits=8, per_s=4_000_000_000), 2.0),
        (wave([SECOND], form=0x11, bits=4, per_s=4_000_000_000), 4.0),
        (wave([SECOND], form=0xFFFE, extra=bytes(8) + b"\3\0" + bytes(14), bits=32), 0.5),
        (wave([bytes(7500)], form=0x55, per_s=4_000_000_000), 10.0),
    ],
    ids=["false-sums", "two-pieces", "no-size", "mu-law", "adpcm", "extensible", "mp3-inside"],
)
def test_a_wave_lasts_as_long_as_its_samples(data, seconds):
    assert told(data) == pytest.approx(seconds, abs=0.11)


def frame(number: int, size_code: int = 12, rate_code: int = 5) -> bytes:
    """A FLAC frame of 4096 samples at 16 kHz, unless other codes are given, and its body."""
    head = bytes([0xFF, 0xF8, size_code << 4 | rate_code, 0x08, number % 128])
    if size_code == 6:
        head += b"\xbf"  # 192 samples
    if rate_code == 12:
        head += b"\x08"  # kHz
    crc = 0
    for byte in head:
        crc = flac._CRC[crc ^ byte]
    return head + bytes([crc]) + bytes(50)


def flac_file(frames: list[bytes], hertz: int = 16_000, samples: int = 1) -> bytes:
    packed = hertz << 44 | 15 << 36 | samples
    return b"fLaC" + bytes(4) + bytes(10) + packed.to_bytes(8, "big") + bytes(16) + b"".join(frames)


@pytest.mark.parametrize(
    ("data", "seconds"),
    [
        (flac_file([frame(n) for n in range(40)]), 10.24),
        (flac_file([frame(n) for n in range(40)], hertz=655_350), 10.24),
        (flac_file([frame(n, rate_code=12) for n in range(40)], hertz=16_000), 20.48),
        (flac_file([frame(n, size_code=6) for n in range(1000)]), 12.0),
        (flac_file([frame(n) for n in range(4)], samples=0), 1.024),
        (flac_file([frame(n)[:5] + b"\0" for n in range(40)], samples=160_000), 10.0),
    ],
    ids=["samples", "rate", "frames-rate", "short-blocks", "unknown", "no-frames"],
)
def test_a_flac_lasts_as_long_as_its_frames(data, seconds):
    assert told(data) == pytest.approx(seconds, abs=0.11)


def test_a_long_flac_is_counted_to_its_end():
    data = flac_file([frame(n) for n in range(flac.STEPS_MAX + 5000)])
    assert told(data) == pytest.approx((flac.STEPS_MAX + 5000) * 0.256, rel=1e-3)


def page(packets: list[bytes], *, flags: int = 0, position: int = 1, serial: int = 0) -> bytes:
    table = b"".join(b"\xff" * (len(p) // 255) + bytes([len(p) % 255]) for p in packets)
    head = b"OggS\0" + bytes([flags]) + struct.pack("<q", position)
    head += struct.pack("<III", serial, 0, 0)
    return head + bytes([len(table)]) + table + b"".join(packets)


OPUS = page([b"OpusHead" + bytes(11)], flags=2, position=0) + page([b"OpusTags" + bytes(300)])
VORBIS = b"\x01vorbis" + struct.pack("<IBI", 0, 1, 16_000) + bytes(12) + b"\xb8\x01"
THIN = b"\x01vorbis" + struct.pack("<IBI", 0, 1, 1 << 31) + bytes(12) + b"\x00\x01"


@pytest.mark.parametrize(
    ("data", "seconds"),
    [
        (OPUS + page([b"\x78" + bytes(99)] * 50) * 10, 10.0),
        (OPUS + page([b"\x18" + bytes(9)] * 50), 3.0),
        (OPUS + page([b"\x7b\x06" + bytes(99)] * 25), 3.0),
        (OPUS + page([b"\x7a" + bytes(9)] * 25), 1.0),
        (OPUS + page([bytes(300)] * 20) + page([bytes(1)], flags=1), 0.2),
        (page([VORBIS], flags=2) + page([b"\2" + bytes(60)] * 125), 8.0),
        (page([VORBIS], flags=2) + page([b"\0" + bytes(60)] * 125), 8.0),
        (page([VORBIS], flags=2) + page([b"\3vorbis" + bytes(60)] * 125), 0.1),
        (OPUS + page([b"\x78"], position=480_000), 10.0),
        (OPUS + page([THIN], flags=2, serial=1) + page([b"\x78" + bytes(99)] * 50) * 10, 10.0),
        (OPUS + page([THIN]) + page([b"\x79" + bytes(99)] * 50), 2.04),
        (page([VORBIS], flags=2) + page([THIN]) + page([b"\2" + bytes(60)] * 125), 8.0),
        (page([VORBIS], flags=2) + page([b"OpusHead"]) + page([b"\2" + bytes(60)] * 125), 8.0),
        (OPUS + page([b"OpusTags" + bytes(9)] * 50), 6.0),
        (OPUS + page([b"\x7fFLAC" + bytes(95)] + [bytes(100)] * 149, serial=1), 20.0),
    ],
    ids=["opus-20ms", "opus-60ms", "opus-many-frames", "opus-two-frames", "goes-on",
         "vorbis-long", "vorbis-short", "vorbis-heads", "says-more", "beside-a-thin-stream",
         "vorbis-within-opus", "thinner-again", "opus-within-vorbis", "tags-all-along",
         "beside-another-codec"],
)  # fmt: skip
def test_an_ogg_lasts_as_long_as_its_packets(data, seconds):
    assert told(data) == pytest.approx(seconds, abs=0.11)


def test_an_ogg_of_countless_streams_is_bounded_by_its_bytes():
    data = OPUS + b"".join(page([b"\x78"], serial=n) for n in range(1, ogg.STREAMS_MAX + 9))
    assert told(data) == pytest.approx(len(data) / sound.BYTES_PER_S_MIN, abs=0.11)


def test_a_long_ogg_is_counted_to_its_end():
    one = page([b"\x78"] * 250)
    pages = ogg.PACKETS_MAX // 250 + 100
    assert told(OPUS + one * pages) == pytest.approx(pages * 5.0, rel=1e-3)
    pages = ogg.PAGES_MAX + 1000
    assert told(OPUS + page([b"\x78"] * 5) * pages) == pytest.approx(pages * 0.1, rel=1e-2)


def box(kind: bytes, *inner: bytes) -> bytes:
    body = b"".join(inner)
    return struct.pack(">I4s", 8 + len(body), kind) + body


def esds(code: int) -> bytes:
    """The decoder's own words: AAC at the rate of that code, 15 is 11,000 Hz written out."""
    bits = 2 << 35 | code << 31 | (11_000 << 7 if code == 15 else 0)
    inner = b"\5\x80\x80\5" + bits.to_bytes(5, "big")
    decoder = b"\4\x80\x80" + bytes([13 + len(inner)]) + bytes(13) + inner
    return box(b"esds", bytes(4), b"\3", bytes([3 + len(decoder)]), bytes(3), decoder)


def track(frames: int, kind: bytes = b"mp4a", more: bytes = b"", *, rate: int = 16_000,
          handler: bytes = b"soun") -> bytes:  # fmt: skip
    entry = box(kind, bytes(24), struct.pack(">HH", rate, 0), more)
    return box(
        b"trak",
        box(b"tkhd", bytes(12), struct.pack(">I", 7)),
        box(b"mdia", box(b"mdhd", bytes(12), struct.pack(">II", 1000, 1), bytes(4)),
            box(b"hdlr", bytes(8), handler, bytes(12)),
            box(b"minf", box(b"stbl", box(b"stsd", bytes(4), struct.pack(">I", 1), entry),
                             box(b"stsz", bytes(8), struct.pack(">I", frames))))),
    )  # fmt: skip


def fragment(frames: int, number: int = 7) -> bytes:
    return box(b"moof", box(b"traf", box(b"tfhd", bytes(4), struct.pack(">I", number)),
                            box(b"trun", bytes(4), struct.pack(">I", frames))))  # fmt: skip


def film(*boxes: bytes) -> bytes:
    told_s = box(b"mvhd", bytes(12), struct.pack(">II", 1000, 1), bytes(4))
    first, rest = boxes[0], boxes[1:]
    return box(b"ftyp", b"M4A ") + box(b"moov", told_s, first) + b"".join(rest)


@pytest.mark.parametrize(
    ("data", "seconds"),
    [
        (film(track(250)), 16.0),
        (film(track(250, more=esds(11))), 32.0),
        (film(track(250, more=esds(8), rate=65_535)), 16.0),
        (film(track(250, more=esds(15), rate=65_535)), 23.3),
        (film(track(250, handler=b"vide")), 16.0),
        (film(track(100, b"Opus")), 2.0),
        (film(track(100, b"alac")), 25.6),
        (film(track(0), fragment(125), fragment(125), fragment(999, 8)), 16.0),
        (film(track(9, b"avc1", handler=b"vide")), 0.1),
    ],
    ids=["aac", "aac-8k", "false-rate", "aac-11k", "false-handler", "opus", "alac", "fragments",
         "picture"],
)  # fmt: skip
def test_an_mp4_lasts_as_long_as_its_samples(data, seconds):
    assert told(data) == pytest.approx(seconds, abs=0.11)


@pytest.mark.parametrize("kind", [b"mp4a", b"xxxx"])
def test_an_mp4_of_unknown_frames_is_bounded_by_its_bytes(kind):
    data = film(track(250, kind, rate=0)) + box(b"mdat", bytes(7500))
    assert told(data) == pytest.approx(len(data) / sound.BYTES_PER_S_MIN, abs=0.11)


def test_an_mp4_of_boxes_within_boxes_is_bounded_by_its_bytes():
    inner = b""
    for _ in range(3000):
        inner = box(b"mdia", inner)
    data = film(box(b"trak", inner))
    assert told(data) == pytest.approx(len(data) / sound.BYTES_PER_S_MIN, abs=0.11)


def test_tables_of_times_that_lie_over_each_other_are_not_read_again_and_again():
    table = box(b"stts", bytes(4), struct.pack(">I", 0xFFFF_FFFF))
    head = box(b"mdhd", bytes(12), struct.pack(">II", 1000, 1), bytes(4))
    runs = struct.pack(">II", 1, 1) * 10_000
    data = film(box(b"trak", box(b"mdia", head, table * 50_000, runs)))
    assert told(data) == pytest.approx(len(data) / sound.BYTES_PER_S_MIN, abs=0.11)


def element(kind: bytes, body: bytes) -> bytes:
    return kind + bytes([0x40 | len(body) >> 8, len(body) & 255]) + body


def opus_webm(blocks: list[bytes], *, is_named_first: bool = True) -> bytes:
    """Of a browser: sizes unknown, all times 0."""
    names = [element(b"\xd7", b"\1"), element(b"\x86", b"A_OPUS")]
    entry = element(b"\xae", b"".join(names if is_named_first else names[::-1]))
    endless = b"\x01" + b"\xff" * 7
    inside = element(b"\x16\x54\xae\x6b", entry) + b"\x1f\x43\xb6\x75" + endless
    inside += element(b"\xe7", b"\0") + b"".join(blocks)
    return element(b"\x1a\x45\xdf\xa3", b"webm") + b"\x18\x53\x80\x67" + endless + inside


def recorded(codec: bytes, blocks: list[bytes], more: bytes = b"") -> bytes:
    """Of one track; its entry stands behind the blocks if there is none before."""
    entry = element(b"\xae", element(b"\xd7", b"\1") + element(b"\x86", codec) + more)
    endless = b"\x01" + b"\xff" * 7
    inside = b"".join(blocks) + element(b"\x16\x54\xae\x6b", entry)
    return element(b"\x1a\x45\xdf\xa3", b"webm") + b"\x18\x53\x80\x67" + endless + inside


def block(packet: bytes, *, lacing: int = 0, number: int = 1) -> bytes:
    return element(b"\xa3", bytes([0x80 | number, 0, 0, lacing]) + packet)


@pytest.mark.parametrize(
    ("data", "seconds"),
    [
        (opus_webm([block(b"\x78" + bytes(9))] * 100), 2.0),
        (opus_webm([block(b"\x78" + bytes(9))] * 100, is_named_first=False), 2.0),
        (opus_webm([block(b"\4" + bytes(9), lacing=4)] * 100), 5.0),
        (opus_webm([element(b"\xa0", element(b"\xa1", b"\x81\0\0\0\x78\0"))] * 50), 1.0),
        (opus_webm([block(b"\x78\0"), block(b"\x78\0", number=2)] * 100)[:-1], 2.0),
        (opus_webm([block(b"\x78\0"), element(b"\xa3", b"\x40\1\0\0\0\x78\0") * 99]), 2.0),
    ],
    ids=[
        "blocks",
        "codec-first",
        "laced",
        "groups",
        "another-track-and-cut-short",
        "a-number-longer-than-it-needs",
    ],
)
def test_a_webm_of_opus_lasts_as_long_as_its_packets(data, seconds):
    assert told(data) == pytest.approx(seconds, abs=0.11)


def test_a_long_webm_goes_on_like_its_beginning():
    blocks = webm.ELEMENTS_MAX + 5000
    assert told(opus_webm([block(b"\x78")] * blocks)) == pytest.approx(blocks * 0.02, rel=1e-3)


def heads(first: bytes) -> bytes:
    """A track's private member as Vorbis has it: three heads, of two their sizes."""
    return b"\2" + bytes([len(first)]) + b"\xff\x01" + first + bytes(256) + b"\5vorbis"


LIES = {
    # What one packet holds is not shown: the most.
    "packed": (recorded(b"A_OPUS", [block(b"\x80")] * 50, element(b"\x6d\x80", b"")), 6.0),
    "entry-behind": (recorded(b"A_OPUS", [block(b"\x78" + bytes(9))] * 100), 2.0),
    "vorbis": (
        recorded(b"A_VORBIS", [block(b"\0" + bytes(60))] * 125,
                 element(b"\x63\xa2", heads(VORBIS))),
        8.0,
    ),
    "vorbis-without-head": (recorded(b"A_VORBIS", [block(bytes(147))] * 50), 10.0),
    "aac": (recorded(b"A_AAC", [block(bytes(147))] * 50), 10.0),
    "laced-xiph": (recorded(b"A_OPUS", [
        block(b"\2\x01\xff\x01\x18" + b"\x18" + bytes(255) + b"\x18", lacing=2)] * 10), 1.8),
    "laced-ebml": (recorded(b"A_OPUS", [
        block(b"\2\x82\xc0\x18\0" + b"\x18\0\0" + b"\x18", lacing=6)] * 10), 1.8),
    "laced-beyond-its-end": (recorded(b"A_OPUS", [block(b"\xff\x18", lacing=4)] * 2), 30.7),
}  # fmt: skip


@pytest.mark.parametrize(("data", "seconds"), LIES.values(), ids=LIES)
def test_a_webm_lasts_as_long_as_a_decoder_may_play_it(data, seconds):
    assert told(data) == pytest.approx(seconds, abs=0.25)


def test_pictures_beside_the_sound_add_nothing():
    film = recorded(b"V_VP9", [block(bytes(5000))] * 50)
    assert webm.seconds(film, sound.BYTES_PER_S_MIN) == 0.0


def test_many_laced_packets_are_not_all_looked_at():
    full = block(b"\xff" + b"\x18" * 256, lacing=4)
    data = recorded(b"A_OPUS", [full] * 2000)
    assert told(data) == pytest.approx(2000 * 256 * 0.06, rel=0.02)


def test_sizes_of_laced_packets_are_looked_for_in_their_block_alone():
    class Read(bytes):
        count = 0

        def __getitem__(self, at):
            type(self).count += isinstance(at, int)
            return super().__getitem__(at)

    start = opus_webm([b"\xa3\x85\x81\0\0\2\xfe"] * 30)
    data = Read(start + b"\xff" * (64 << 10))
    played_s = webm.seconds(data, sound.BYTES_PER_S_MIN)
    assert played_s == pytest.approx(30 * 255 * 0.12, rel=1e-3)
    assert Read.count < len(data) / 10
