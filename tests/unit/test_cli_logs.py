"""The children's logs: bounded while they grow, whole lines, nothing lost, nobody blocked."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ballast import rotating
from ballast.logpipe import LogPipe
from ballast.rotating import Log, shift


def files_of(log: Path) -> list[Path]:
    """Oldest first."""
    older = sorted(log.parent.glob(f"{log.stem}.[0-9]*.log"), key=lambda p: -int(p.suffixes[0][1:]))
    return [*older, log]


def text_of(log: Path) -> bytes:
    return b"".join(path.read_bytes() for path in files_of(log))


@pytest.mark.parametrize("chunk", [1, 7, 64, 1000])
def test_every_line_is_kept_whole_and_every_file_small(tmp_path: Path, chunk: int) -> None:
    path, text = tmp_path / "x.log", b"".join(b"line %d\n" % n for n in range(200))
    log = Log(path, 100, keep=1000)
    for begin in range(0, len(text), chunk):
        log.write(text[begin : begin + chunk])
    assert text_of(path) == text
    for found in files_of(path):
        assert found.stat().st_size <= 110, "the limit, and at most the rest of one line"
        assert found.read_bytes().endswith(b"\n")


def test_only_so_many_old_files_are_kept_and_they_are_the_newest(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    log = Log(path, 100, keep=2)
    for number in range(200):
        log.write(b"line %d\n" % number)
    lines = text_of(path).decode().splitlines()
    assert len(files_of(path)) == 3
    assert lines == [f"line {number}" for number in range(200 - len(lines), 200)]


def test_a_line_longer_than_a_file_is_whole_unless_it_never_ends(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    log = Log(path, 100, keep=1000)
    log.write(b"short\n" + b"a" * 150 + b"\nshort\n")
    assert [f.read_bytes() for f in files_of(path)] == [b"short\n", b"a" * 150 + b"\n", b"short\n"]
    for _ in range(100):
        log.write(b"b" * 10)
    assert all(found.stat().st_size <= 210 for found in files_of(path))
    assert text_of(path).count(b"b") == 1000


def test_a_folder_that_is_gone_stops_nothing(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "x.log"
    path.parent.mkdir()
    log = Log(path, 10, keep=1)
    path.unlink()
    path.parent.rmdir()
    for _ in range(5):
        log.write(b"line of ten\n")


def test_a_log_moves_one_place_at_each_start(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    for text in ("first", "second", "third", "fourth"):
        path.write_text(text)
        shift(path, 2)
        assert not path.exists()
    assert [f.read_text() for f in (tmp_path / "x.1.log", tmp_path / "x.2.log")] == [
        "fourth", "third",
    ]  # fmt: skip
    assert not (tmp_path / "x.3.log").exists()


def test_a_full_disk_blocks_nobody_and_says_how_much_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    command = [sys.executable, "-I", "-S", rotating.__file__, str(path), "100000", "1"]

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))

    with subprocess.Popen(command, stdin=subprocess.PIPE, preexec_fn=limit) as writer:
        assert writer.stdin is not None
        writer.stdin.write(b"x" * 99 + b"\n")
        for _ in range(200):
            writer.stdin.write(b"y" * 999 + b"\n")
        writer.stdin.flush()
        soft = resource.prlimit(writer.pid, resource.RLIMIT_FSIZE)[1]
        while path.stat().st_size < 1000:
            assert writer.poll() is None
        resource.prlimit(writer.pid, resource.RLIMIT_FSIZE, (soft, soft))
        writer.stdin.write(b"after\n")
    assert writer.returncode == 0
    text = path.read_bytes()
    assert text.endswith(b"after\n")
    assert text.count(b"y") < 200 * 999
    assert b'{"event":"log_bytes_lost","bytes":' in text


def test_what_a_child_and_up_write_is_there_when_the_pipe_is_closed(tmp_path: Path) -> None:
    path, count = tmp_path / "x.log", 20_000
    code = f"import sys\nfor n in range({count}): sys.stderr.write(f'line {{n}}\\n')"

    async def run() -> None:
        pipe = LogPipe(path, bytes_max=50_000, keep=100)
        await pipe.open()
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-c", code, stderr=pipe.write_end
        )
        pipe.write(b"from up\n")
        assert await child.wait() == 0
        await pipe.close()

    asyncio.run(run())
    lines = text_of(path).decode().splitlines()
    lines.remove("from up")
    assert lines == [f"line {number}" for number in range(count)]
    assert len(files_of(path)) > 3
    assert all(found.stat().st_size <= 50_000 for found in files_of(path))


def test_a_writer_that_dies_is_replaced_and_nobody_gets_a_broken_pipe(tmp_path: Path) -> None:
    path = tmp_path / "x.log"

    async def run() -> None:
        pipe = LogPipe(path)
        await pipe.open()
        first = pipe.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        os.write(pipe.write_end, b"while nobody reads\n")
        async with asyncio.timeout(60):  # a busy machine starts the next writer late
            while not path.exists() or path.read_text() != "while nobody reads\n":
                await asyncio.sleep(0.01)
        assert pipe.pid != first
        await pipe.close()

    asyncio.run(run())
    assert path.read_text() == "while nobody reads\n"
