"""How long a file of sound is, read from its bytes."""

from __future__ import annotations

import io
import struct
import wave

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.codecs import sound
from serving.fakes.listening import said


def riff(seconds: float, hertz: int = 16_000, channels: int = 1, width: int = 2) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(channels)
        out.setsampwidth(width)
        out.setframerate(hertz)
        out.writeframes(bytes(int(seconds * hertz) * channels * width))
    return file.getvalue()


def mp3(frames: int, head: bytes = b"\xff\xfb\x90\x00", size: int = 417) -> bytes:
    """MPEG 1, layer III, 128 kbit/s at 44.1 kHz: 1152 samples in 417 bytes."""
    return (head + bytes(size - 4)) * frames


def ogg(pages: int, codec: bytes, rate: int) -> bytes:
    vorbis = b"\x01vorbis" + struct.pack("<IBI", 0, 1, rate) + bytes(14)
    first = vorbis if codec == b"vorbis" else b"OpusHead" + bytes(11)
    made = [b"OggS\0\2" + struct.pack("<q", 0) + bytes(14) + first]
    made += [b"OggS\0\0" + struct.pack("<q", rate * n) + bytes(400) for n in range(1, pages + 1)]
    return b"".join(made)


def flac(samples: int, hertz: int) -> bytes:
    packed = hertz << 44 | 1 << 41 | 15 << 36 | samples
    return b"fLaC" + bytes(4) + bytes(10) + packed.to_bytes(8, "big") + bytes(200)


def box(kind: bytes, *inner: bytes) -> bytes:
    body = b"".join(inner)
    return struct.pack(">I4s", 8 + len(body), kind) + body


def mp4(header_units: int, runs: list[tuple[int, int]]) -> bytes:
    mdhd = box(b"mdhd", bytes(12), struct.pack(">II", 1000, header_units), bytes(4))
    stts = box(b"stts", bytes(4), struct.pack(">I", len(runs)),
               *(struct.pack(">II", *run) for run in runs))  # fmt: skip
    track = box(b"trak", box(b"mdia", mdhd, box(b"minf", box(b"stbl", stts))))
    return box(b"ftyp", b"M4A " + bytes(8)) + box(b"mdat", bytes(500)) + box(b"moov", track)


def webm(duration_ms: float | None, last_ms: int) -> bytes:
    told = b"" if duration_ms is None else b"\x44\x89\x88" + struct.pack(">d", duration_ms)
    cluster = b"\x1f\x43\xb6\x75\x01" + bytes(7) + b"\xe7\x84" + struct.pack(">I", last_ms)
    return b"\x1a\x45\xdf\xa3" + bytes(20) + b"\x2a\xd7\xb1\x83\x0f\x42\x40" + told + cluster


@pytest.mark.parametrize(
    ("data", "container", "seconds"),
    [
        (said("x", 2.5), "wav", 2.5),
        (riff(3.0, 44_100, 2), "wav", 3.0),
        (riff(1.0)[:-16_000], "wav", 0.5),
        (mp3(100), "mp3", 100 * 1152 / 44_100),
        (b"ID3\4\0\0\0\0\0\x0a" + bytes(10) + mp3(50), "mp3", 50 * 1152 / 44_100),
        (mp3(50, b"\xff\xf3\x90\x00", 261), "mp3", 50 * 576 / 22_050),
        (mp3(30) + b"TAG" + bytes(125), "mp3", 30 * 1152 / 44_100),
        (ogg(12, b"opus", 48_000), "ogg", 12.0),
        (ogg(7, b"vorbis", 44_100), "ogg", 7.0),
        (flac(96_000, 32_000), "flac", 3.0),
        (mp4(4000, [(4, 1000)]), "mp4", 4.0),
        (mp4(10, [(9, 1000)]), "mp4", 9.0),
        (webm(8000.0, 2000), "webm", 8.0),
    ],
    ids=["wav", "stereo", "wav-cut-short", "mp3", "id3", "mpeg2", "tag-at-end", "opus", "vorbis",
         "flac", "mp4", "mp4-whose-header-says-less", "webm"],
)  # fmt: skip
def test_a_files_length_is_read_and_rounded_up_to_a_tenth(data, container, seconds):
    found = sound.read(data)
    assert (found.container, found.data) == (container, data)
    assert seconds * 10 - 1e-6 <= found.tokens <= seconds * 10 + 1


def test_a_recording_without_a_length_goes_by_its_last_cluster():
    found = sound.read(webm(None, 61_000))
    assert 610 <= found.tokens <= 611, "and the few bytes that follow it"


def test_a_long_mp3_goes_on_like_its_beginning():
    frames = sound.STEPS_MAX + 5000
    found = sound.read(mp3(frames))
    assert found.tokens == pytest.approx(frames * 11520 / 44_100, rel=1e-3)


@pytest.mark.parametrize(
    "junk", [b"\xff" * 30_000, bytes(1_000_000), b"\xff\xfb" * 15_000], ids=["ff", "0", "half"]
)
def test_junk_among_its_frames_does_not_shorten_an_mp3(junk):
    frames = sound.STEPS_MAX + 5000
    data = mp3(frames)
    found = sound.read(data[:417] + junk + data[417:])
    assert found.tokens >= frames * 11520 / 44_100


@pytest.mark.parametrize("data", [b"", b"ID3", b"%PDF-1.7", b"\x89PNG\r\n\x1a\n", b"<html>" * 9])
def test_what_is_no_sound_is_none_or_bounded_by_its_bytes(data):
    found = sound.read(data)
    assert found is None or found.tokens <= len(data) * 10


@pytest.mark.parametrize("head", [b"RIFF\0\0\0\0WAVE", b"OggS", b"fLaC", b"\x1a\x45\xdf\xa3",
                                  b"\0\0\0\x08ftyp", b"ID3\4\0\0"])  # fmt: skip
@given(rest=st.binary(max_size=400))
def test_no_bytes_break_the_reader(head, rest):
    found = sound.read(head + rest)
    assert found is None or 1 <= found.tokens <= sound.SECONDS_MAX * 10


def test_what_cannot_be_told_is_bounded_by_the_thinnest_codec():
    data = b"fLaC" + bytes(7496)
    assert sound.read(data).tokens == 100
    assert sound.read(data).name == "sound.flac"
