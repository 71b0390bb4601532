"""The journal: order, space, sudden death, ownership."""

from __future__ import annotations

import contextlib
import errno
import inspect
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.journal import Disk, Journal, JournalFull
from serving.ledger.frames import Stop, frames
from serving.ledger.segments import JournalLocked, put_aside, segments
from serving.records import Charge, Usage
from serving.rows import AttemptBegin, AttemptEnd, Record

SEGMENT = 64 << 10
RESERVE = 16 << 10


def begin(n: int, pad: str = "") -> AttemptBegin:
    return AttemptBegin(
        f"r{n}", 1, 10, 5, "t", "p", "k", "chat", "m" + pad, "interactive", "local", False, "why",
        7, 8, "", 0, 0,
    )  # fmt: skip


def end(n: int) -> AttemptEnd:
    return AttemptEnd(f"r{n}", 1, 20, "ok", "", Usage(7, 3), Charge(), 4)


def read(folder: Path) -> list[Record]:
    """All records of a folder, in order; every segment must be clean."""
    records: list[Record] = []
    for segment in segments(folder):
        found = frames(segment.path.read_bytes())
        assert found.stop is Stop.END
        records += found.records
    return records


def test_records_appended_together_are_one_write(tmp_path: Path) -> None:
    writes: list[int] = []

    def write(fd: int, data: bytes) -> int:
        writes.append(len(data))
        return os.write(fd, data)

    journal = Journal.open(tmp_path / "0", SEGMENT, RESERVE, Disk(write=write))
    journal.append_end(begin(1), end(1))
    assert len(writes) == 1
    assert journal.tail.offset_bytes == writes[0]
    journal.close()
    assert read(tmp_path / "0") == [begin(1), end(1)]


def test_rotates_at_the_segment_size_and_keeps_order(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path / "0", SEGMENT, RESERVE)
    for n in range(2000):
        journal.append(begin(n))
    journal.close()
    found = segments(tmp_path / "0")
    assert len(found) >= 3
    assert all(s.path.stat().st_size <= SEGMENT for s in found)
    assert read(tmp_path / "0") == [begin(n) for n in range(2000)]


def test_a_new_life_starts_behind_the_old_one(tmp_path: Path) -> None:
    for n in range(3):
        journal = Journal.open(tmp_path / "0", SEGMENT, RESERVE)
        journal.append(begin(n))
        journal.close()
    assert read(tmp_path / "0") == [begin(0), begin(1), begin(2)]
    assert len({s.life for s in segments(tmp_path / "0")}) == 3


class SmallDisk:
    """A disk with `free` bytes: preallocated blocks are paid for, others are taken as written."""

    def __init__(self, free: int) -> None:
        self.free = free
        self.paid: dict[str, int] = {}

    def calls(self) -> Disk:
        return Disk(write=self.write, allocate=self.allocate)

    def allocate(self, fd: int, offset: int, size: int) -> None:
        if size > self.free:
            raise OSError(errno.ENOSPC, "no space")
        os.posix_fallocate(fd, offset, size)
        self.free -= size
        self.paid[_name(fd)] = size

    def write(self, fd: int, data: bytes) -> int:
        at = os.lseek(fd, 0, os.SEEK_CUR)
        paid = self.paid.get(_name(fd), 0)
        fits = max(0, paid - at) + self.free
        if fits == 0:
            raise OSError(errno.ENOSPC, "no space")
        part = data[:fits]
        self.free -= max(0, at + len(part) - max(paid, at))
        self.paid[_name(fd)] = max(paid, at + len(part))
        return os.write(fd, part)


def _name(fd: int) -> str:
    return os.readlink(f"/proc/self/fd/{fd}")


def fill(journal: Journal) -> int:
    """Begin until refused; how many began."""
    count = 0
    while journal.can_begin:
        try:
            journal.append(begin(count))
        except JournalFull:
            break
        count += 1
    return count


def test_a_full_disk_refuses_new_work_ends_open_work_and_recovers(tmp_path: Path) -> None:
    disk = SmallDisk(RESERVE + 5_000)
    journal = Journal.open(tmp_path / "0", SEGMENT, RESERVE, disk.calls())
    began = fill(journal)
    assert 10 < began < 100
    assert not journal.can_begin
    journal.probe()
    assert not journal.can_begin
    with pytest.raises(JournalFull):
        journal.append(begin(9999))
    for n in range(began):
        journal.append_end(end(n))
    disk.free += RESERVE + 1_000
    journal.probe()
    assert journal.can_begin
    journal.append(begin(5000))
    journal.close()
    expected = [*map(begin, range(began)), *map(end, range(began)), begin(5000)]
    assert read(tmp_path / "0") == expected


def test_a_used_up_reserve_says_so_and_keeps_what_it_took(tmp_path: Path) -> None:
    disk = SmallDisk(RESERVE + 2_000)
    journal = Journal.open(tmp_path / "0", SEGMENT, RESERVE, disk.calls())
    began = fill(journal)
    kept = 0
    with contextlib.suppress(JournalFull):
        while kept < 10_000:
            journal.append_end(end(kept))
            kept += 1
    for _ in range(50):
        with pytest.raises(JournalFull):
            journal.append_end(end(kept))
    assert 100 < kept < 10_000
    assert len(segments(tmp_path / "0")) <= 3
    disk.free += 1_000
    journal.append_end(end(kept))
    journal.close()
    assert read(tmp_path / "0") == [*map(begin, range(began)), *map(end, range(kept + 1))]


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.sampled_from(["begin", "end", "free", "probe"]), max_size=300), st.integers(0, 9000)
)
def test_whatever_happens_to_space_accepted_records_are_all_there(
    tmp_path_factory: pytest.TempPathFactory, steps: list[str], free: int
) -> None:
    folder = tmp_path_factory.mktemp("journal") / "0"
    disk = SmallDisk(free)
    journal = Journal.open(folder, 2_048, 1_024, disk.calls())
    kept: list[Record] = []
    for n, step in enumerate(steps):
        record = begin(n) if step == "begin" else end(n)
        try:
            if step == "begin":
                journal.append(record)
            elif step == "end":
                journal.append_end(record)
            else:
                disk.free += 300 if step == "free" else 0
                journal.probe()
                continue
        except JournalFull:
            assert not journal.can_begin
        else:
            kept.append(record)
    journal.close()
    assert read(folder) == kept


def test_starts_full_when_the_reserve_does_not_fit(tmp_path: Path) -> None:
    disk = SmallDisk(1_000)
    journal = Journal.open(tmp_path / "0", SEGMENT, RESERVE, disk.calls())
    assert not journal.can_begin
    disk.free += RESERVE
    journal.probe()
    assert journal.can_begin
    journal.close()


def test_a_short_write_that_can_go_on_is_completed(tmp_path: Path) -> None:
    def write(fd: int, data: bytes) -> int:
        return os.write(fd, data[:10])

    journal = Journal.open(tmp_path / "0", SEGMENT, RESERVE, Disk(write=write))
    journal.append(begin(1))
    assert journal.can_begin
    journal.close()
    assert read(tmp_path / "0") == [begin(1)]


CHILD = """
import os, resource
from pathlib import Path
from serving.journal import *
from serving.records import *
from serving.rows import *
from serving.ledger.segments import JournalLocked
SEGMENT, RESERVE, folder = {segment}, {reserve}, Path({folder!r})
"""


def child(folder: Path, code: str) -> list[str]:
    """A process with this file's builders, without the weight of the test libraries."""
    head = CHILD.format(segment=SEGMENT, reserve=RESERVE, folder=str(folder))
    builders = "".join(inspect.getsource(function) for function in (begin, end, fill))
    return [sys.executable, "-c", f"from __future__ import annotations\n{head}{builders}{code}"]


def test_a_file_size_limit_refuses_new_work_and_loses_no_record(tmp_path: Path) -> None:
    code = """
journal = Journal.open(folder, 1 << 20, RESERVE)
resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, resource.RLIM_INFINITY))
began = fill(journal)
assert not journal.can_begin
for n in range(began):
    journal.append_end(end(n))
resource.setrlimit(resource.RLIMIT_FSIZE, (RESERVE - 1, resource.RLIM_INFINITY))
journal.probe()
assert not journal.can_begin, "a reserve cannot be made below the limit"
resource.setrlimit(resource.RLIMIT_FSIZE, (-1, resource.RLIM_INFINITY))
journal.probe()
assert journal.can_begin
journal.append(begin(5000))
journal.close()
print(began)
"""
    done = subprocess.run(child(tmp_path / "0", code), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    began = int(done.stdout)
    assert began > 100
    expected = [*map(begin, range(began)), *map(end, range(began)), begin(5000)]
    assert read(tmp_path / "0") == expected


def test_kill_9_in_the_middle_of_writing_loses_no_accepted_record(tmp_path: Path) -> None:
    code = """
journal = Journal.open(folder, SEGMENT, RESERVE)
n = 0
while True:
    journal.append(begin(n))
    os.write(1, b"%d\\n" % n)
    n += 1
"""
    with subprocess.Popen(child(tmp_path / "0", code), stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        accepted = 0
        for line in process.stdout:
            accepted = int(line) + 1
            if accepted == 3000:
                process.send_signal(signal.SIGKILL)
    records = [r for s in segments(tmp_path / "0") for r in frames(s.path.read_bytes()).records]
    assert len(records) in (accepted, accepted + 1)
    assert records == [begin(n) for n in range(len(records))]


def test_two_processes_never_share_a_folder(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path / "0", SEGMENT, RESERVE)
    code = """
try:
    Journal.open(folder, SEGMENT, RESERVE)
except JournalLocked as error:
    print(error)
"""
    command = child(tmp_path / "0", code)
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert "in use by another process" in done.stdout
    journal.close()
    Journal.open(tmp_path / "0", SEGMENT, RESERVE).close()


def test_two_journals_of_one_process_never_share_a_folder(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path / "0", SEGMENT, RESERVE)
    with pytest.raises(JournalLocked):
        Journal.open(tmp_path / "0", SEGMENT, RESERVE)
    journal.close()


def test_damaged_segments_kept_for_inspection_are_few(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path / "0", SEGMENT, RESERVE)
    for n in range(10):
        journal.append(begin(n))
        journal.rotate()
    for segment in segments(tmp_path / "0")[:-2]:
        put_aside(segment)
    kept = sorted(path.name[:10] for path in (tmp_path / "0").glob("*.corrupt"))
    assert kept == [f"{n:010d}" for n in (7, 8, 9, 10)]
    journal.close()
