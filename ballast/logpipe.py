"""The pipe into which one child and `up` write, and the process that keeps its end bounded on disk.

`up` holds both ends: should the writer die, nobody gets a broken pipe, and the next writer reads on
where it stopped.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import sys
from pathlib import Path

from ballast import rotating

LOG_BYTES_MAX = 16 << 20
LOGS_KEPT = 3
"""Older files beside the one that grows: 64 MiB for each part, three parts."""
PIPE_BYTES = 1 << 20
"""So much may wait while the disk is slow; Linux gives a user that much unasked."""
CLOSE_S_MAX = 1.0
AGAIN_S = 1.0
BACKLOG_BYTES_MAX = 1 << 20


class LogPipe:
    """Open it, give `write_end` to a child, close it."""

    def __init__(self, log: Path, bytes_max: int = LOG_BYTES_MAX, keep: int = LOGS_KEPT) -> None:
        self._arguments = (str(log), str(bytes_max), str(keep))
        self._writer: asyncio.subprocess.Process | None = None
        self._task: asyncio.Task[None] | None = None
        self._own: asyncio.WriteTransport | None = None
        self._read_end = self.write_end = -1

    @property
    def pid(self) -> int | None:
        """The writer's process id."""
        return None if self._writer is None else self._writer.pid

    async def open(self) -> None:
        """Make the pipe and start the writer."""
        self._read_end, self.write_end = os.pipe()
        with contextlib.suppress(OSError):  # beyond the user's share: the kernel's 64 KiB then
            fcntl.fcntl(self.write_end, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        # A description of its own: ours must not block, while the child's may.
        ours = os.fdopen(os.open(f"/proc/self/fd/{self.write_end}", os.O_WRONLY), "wb", 0)
        self._own, _ = await asyncio.get_running_loop().connect_write_pipe(
            asyncio.BaseProtocol, ours
        )
        await self._start()
        self._task = asyncio.create_task(self._keep_writing())

    def write(self, line: bytes) -> None:
        """Add a line of our own; beyond a megabyte that nobody takes it is dropped."""
        assert self._own is not None
        if self._own.get_write_buffer_size() < BACKLOG_BYTES_MAX:
            self._own.write(line)

    async def close(self) -> None:
        """Let the writer come to the end; it goes on while others still hold the pipe."""
        if self._own is None:
            return
        self._own.close()
        os.close(self.write_end)
        if self._task is not None:
            await asyncio.wait([self._task], timeout=CLOSE_S_MAX)
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        os.close(self._read_end)
        self._own = None

    async def _start(self) -> None:
        self._writer = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", rotating.__file__, *self._arguments),
            stdin=self._read_end,
            env={},
            start_new_session=True,
        )

    async def _keep_writing(self) -> None:
        """Until the writer has read to the end; one that dies is replaced."""
        while self._writer is not None and await self._writer.wait() != 0:
            await asyncio.sleep(AGAIN_S)
            await self._start()
