"""One child process: started, read, restarted when it dies, ended for certain."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from ballast.plan import Part
from serving.settings import EXIT_CODE

PR_SET_PDEATHSIG = 1
LINE_BYTES_MAX = 1 << 20
DEATHS_MAX = 6
"""In a row, each within `STEADY_S` of its start; then the part is given up."""
STEADY_S = 60.0
TAIL_LINES = 12

OnEvent = Callable[[str, dict[str, Any]], None]


def restart_delay_s(deaths: int) -> float | None:
    """Seconds before the next start after so many deaths in a row; None gives up."""
    return None if deaths >= DEATHS_MAX else min(10.0, 0.5 * 2.0 ** (deaths - 1))


class Child:
    """Keeps one part running until stopped. Tells `on_event` what it prints and how it fares."""

    def __init__(self, part: Part, log: Path, environ: Mapping[str, str], on_event: OnEvent):
        self.part = part
        self.log = log
        self._environ = environ
        self._on_event = on_event
        self._process: asyncio.subprocess.Process | None = None
        self._is_stopping = False
        self._libc = ctypes.CDLL(None)

    async def run(self) -> int:
        """Run until it ends for good; the last exit code."""
        deaths = 0
        loop = asyncio.get_running_loop()
        rotate(self.log)
        while True:
            started_s = loop.time()
            code = await self._run_once()
            if self._is_stopping or code == EXIT_CODE:
                return code
            deaths = 1 if loop.time() - started_s > STEADY_S else deaths + 1
            delay_s = restart_delay_s(deaths)
            if delay_s is None:
                self._tell("given_up", code=code)
                return code
            self._tell("died", code=code, again_in_s=delay_s)
            await asyncio.sleep(delay_s)

    async def _run_once(self) -> int:
        read_end, write_end = os.pipe()
        with self.log.open("ab") as log, os.fdopen(read_end, "rb") as pipe:
            try:
                self._process = process = await self._start(write_end, log)
            finally:
                os.close(write_end)
            self._tell("started", pid=process.pid)
            reading = asyncio.create_task(self._read(pipe, log))
            code = await process.wait()
            # A grandchild may hold the pipe open; what the child itself said is read by then.
            await asyncio.wait([reading], timeout=0.5)
            reading.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await reading
            return code

    async def _start(self, stdout: int, log: BinaryIO) -> asyncio.subprocess.Process:
        # Our own pipe: asyncio's would make wait() last until the last grandchild closes it.
        return await asyncio.create_subprocess_exec(
            *self.part.argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=stdout,
            stderr=log,
            env=dict(self._environ),
            start_new_session=True,
            preexec_fn=self._die_with_parent,
        )

    def _die_with_parent(self) -> None:
        """Runs between fork and exec: SIGTERM for the child should we be killed."""
        self._libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)

    async def _read(self, pipe: BinaryIO, log: BinaryIO) -> None:
        reader = asyncio.StreamReader(limit=LINE_BYTES_MAX)
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), pipe
        )
        try:
            while line := await _line(reader):
                log.write(line)
                log.flush()
                with contextlib.suppress(msgspec.DecodeError, TypeError, KeyError):
                    fields = msgspec.json.decode(line)
                    self._tell(str(fields.pop("event")), **fields)
        finally:
            transport.close()

    def _tell(self, event: str, **fields: Any) -> None:
        self._on_event(self.part.name, {"event": event} | fields)

    @property
    def pid(self) -> int | None:
        """Its process id, once it was started."""
        return None if self._process is None else self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether its process lives now."""
        return self._process is not None and self._process.returncode is None

    def terminate(self) -> None:
        """Ask it to end, and do not start it again."""
        self._is_stopping = True
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """End its whole process group now."""
        self._is_stopping = True
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        process = self._process
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if number is signal.SIGKILL:
                os.killpg(process.pid, number)
            else:
                os.kill(process.pid, number)

    def tail(self) -> str:
        """The last lines of its log."""
        try:
            text = self.log.read_text("utf-8", errors="replace")
        except OSError:
            return ""
        return "\n".join(text.splitlines()[-TAIL_LINES:])


async def _line(reader: asyncio.StreamReader) -> bytes:
    """The next line; one longer than `LINE_BYTES_MAX` counts as empty. b"" at the end."""
    try:
        return await reader.readline()
    except ValueError:
        return b"\n"


def rotate(log: Path) -> None:
    """Start a log anew and keep one old."""
    log.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if log.exists():
        log.replace(log.with_suffix(".old.log"))
