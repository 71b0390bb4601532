"""A wall clock that can be set, for one process: a small library that the linker puts before libc.

It moves CLOCK_REALTIME, `gettimeofday` and `time`, for Python and Rust alike, by the nanoseconds in
a file; CLOCK_MONOTONIC stays, as it does when an administrator or NTP sets a machine's clock.
"""

from __future__ import annotations

import shutil
import struct
import subprocess
from collections.abc import Sequence
from pathlib import Path

SOURCE = r"""
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile int64_t *moved;

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("DRILL_CLOCK");
    int file = path ? open(path, O_RDONLY) : -1;
    if (file < 0) return;
    void *page = mmap(0, 8, PROT_READ, MAP_SHARED, file, 0);
    if (page != MAP_FAILED) moved = page;
    close(file);
}

int clock_gettime(clockid_t which, struct timespec *now) {
    long result = syscall(SYS_clock_gettime, which, now);
    if (result == 0 && moved && (which == CLOCK_REALTIME || which == CLOCK_REALTIME_COARSE)) {
        int64_t at = (int64_t)now->tv_sec * 1000000000 + now->tv_nsec + *moved;
        now->tv_sec = at / 1000000000;
        now->tv_nsec = at % 1000000000;
    }
    return result;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec at;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &at);
    now->tv_sec = at.tv_sec;
    now->tv_usec = at.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *out) {
    struct timespec at;
    clock_gettime(CLOCK_REALTIME, &at);
    if (out) *out = at.tv_sec;
    return at.tv_sec;
}
"""


def wound(command: Sequence[str], folder: Path) -> list[str]:
    """The command, with a clock that `set_by` moves. Needs `cc`."""
    library, offset = folder / "clock.so", folder / "clock"
    if not library.exists():
        source = folder / "clock.c"
        source.write_text(SOURCE, "ascii")
        compiler = shutil.which("cc")
        assert compiler is not None
        build = [compiler, "-O1", "-shared", "-fPIC", "-o", str(library), str(source)]
        subprocess.run(build, check=True, timeout=60)
    if not offset.exists():
        set_by(folder, 0.0)
    return ["env", f"LD_PRELOAD={library}", f"DRILL_CLOCK={offset}", *command]


def set_by(folder: Path, seconds: float) -> None:
    """Processes with this folder's clock are so far ahead of the machine's from now on."""
    path = folder / "clock"
    with path.open("r+b" if path.exists() else "wb") as file:
        file.write(struct.pack("=q", round(seconds * 1e9)))
