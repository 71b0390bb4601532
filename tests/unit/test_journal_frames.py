"""The journal's wire format: whatever happens to the bytes, exactly the whole frames before it."""

from __future__ import annotations

import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.ledger.frames import FRAME_BYTES_MAX, Stop, frame, frames
from serving.records import Charge, Usage
from serving.rows import AttemptBegin, AttemptEnd, Record


def begin(n: int, pad: str = "") -> AttemptBegin:
    return AttemptBegin(
        f"r{n}", 1, 10, 5, "t", "p", "k", "chat", "m" + pad, "interactive", "local", False, "why",
        7, 8, "", 0, 0,
    )  # fmt: skip


def end(n: int) -> AttemptEnd:
    return AttemptEnd(f"r{n}", 1, 20, "ok", "", Usage(7, 3), Charge(), 4)


FRAMES = [frame((begin(n), end(n)) if n % 2 else (begin(n),)) for n in range(5)]
WHOLE = b"".join(FRAMES)
BORDERS = [sum(map(len, FRAMES[:n])) for n in range(len(FRAMES) + 1)]


def before(at: int) -> tuple[list[Record], int]:
    """The records of the whole frames that end at or before byte `at`, and where they end."""
    border = max(b for b in BORDERS if b <= at)
    return frames(WHOLE[:border]).records, border


def test_frames_read_what_was_written() -> None:
    assert frames(WHOLE) == (
        [begin(0), begin(1), end(1), begin(2), begin(3), end(3), begin(4)], len(WHOLE), Stop.END,
    )  # fmt: skip
    assert frames(b"") == ([], 0, Stop.END)


def test_preallocated_zeros_end_a_journal() -> None:
    for zeros in (1, 7, 8, 5000):
        assert frames(WHOLE + bytes(zeros)) == frames(WHOLE)


def test_every_flipped_bit_ends_reading_at_its_frame() -> None:
    for at in range(len(WHOLE)):
        expected = before(at)
        for bit in range(8):
            broken = bytearray(WHOLE)
            broken[at] ^= 1 << bit
            found = frames(bytes(broken))
            assert (found.records, found.good_bytes) == expected
            assert found.stop is not Stop.END


@given(st.integers(0, len(WHOLE)))
def test_any_prefix_yields_exactly_the_whole_frames(length: int) -> None:
    found = frames(WHOLE[:length])
    assert (found.records, found.good_bytes) == before(length)
    assert (found.stop is Stop.END) == (length in BORDERS)


@given(st.integers(0, len(WHOLE) - 1), st.binary(min_size=1, max_size=64), st.booleans())
def test_any_overwritten_run_yields_exactly_the_frames_before_it(
    at: int, run: bytes, is_last: bool
) -> None:
    broken = WHOLE[:at] + run + (b"" if is_last else WHOLE[at + len(run) :])
    shared = next(
        (n for n, (a, b) in enumerate(zip(broken, WHOLE, strict=False)) if a != b),
        min(len(broken), len(WHOLE)),
    )
    found = frames(broken)
    expected, border = before(shared)
    assert found.records[: len(expected)] == expected
    if found.good_bytes > border:  # what followed happened to be a whole frame: it must be ours
        assert found.records == before(found.good_bytes)[0]


@given(st.binary(max_size=200))
def test_no_bytes_make_reading_fail(data: bytes) -> None:
    found = frames(data)
    assert found.records == []


def test_an_unknown_record_is_corrupt_not_skipped() -> None:
    payload = b"\x91\x92\xa5later\x01"
    alien = struct.pack("<II", len(payload), zlib.crc32(payload, len(payload))) + payload
    assert frames(FRAMES[0] + alien) == ([begin(0)], len(FRAMES[0]), Stop.CORRUPT)


def test_a_frame_too_large_to_read_back_is_refused() -> None:
    with pytest.raises(ValueError, match="journal frame"):
        frame((begin(1, "x" * FRAME_BYTES_MAX),))
