"""One child process: started, read, restarted when it dies, ended for certain."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from ballast.logpipe import LOGS_KEPT, LogPipe
from ballast.plan import Part
from ballast.rotating import shift
from ballast.with_parent import die_with_parent
from serving.settings import EXIT_CODE

LINE_BYTES_MAX = 1 << 20
DEATHS_MAX = 6
"""In a row, each within `STEADY_S` of its start; then the part is given up."""
STEADY_S = 60.0
TAIL_LINES, TAIL_BYTES = 12, 16 << 10

OnEvent = Callable[[str, dict[str, Any]], None]


def restart_delay_s(deaths: int) -> float | None:
    """Seconds before the next start after so many deaths in a row; None gives up."""
    return None if deaths >= DEATHS_MAX else min(10.0, 0.5 * 2.0 ** (deaths - 1))


class Child:
    """Keeps one part running until stopped. Tells `on_event` what it prints and how it fares."""

    def __init__(self, part: Part, log: Path, on_event: OnEvent):
        self.part = part
        self.log = log
        self._pipe = LogPipe(log)
        self._on_event = on_event
        self._process: asyncio.subprocess.Process | None = None
        self._is_stopping = False
        self._with_us = die_with_parent()

    async def run(self) -> int:
        """Run until it ends for good; the last exit code. Its log is whole by then."""
        self.log.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        shift(self.log, LOGS_KEPT)
        await self._pipe.open()
        try:
            return await self._run_again()
        finally:
            await self._pipe.close()

    async def _run_again(self) -> int:
        deaths = 0
        loop = asyncio.get_running_loop()
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
        with os.fdopen(read_end, "rb") as pipe:
            try:
                self._process = process = await self._start(write_end)
            finally:
                os.close(write_end)
            self._tell("started", pid=process.pid)
            reading = asyncio.create_task(self._read(pipe))
            code = await process.wait()
            # A grandchild may hold the pipe open; what the child itself said is read by then.
            await asyncio.wait([reading], timeout=0.5)
            reading.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await reading
            return code

    async def _start(self, stdout: int) -> asyncio.subprocess.Process:
        # Our own pipe: asyncio's would make wait() last until the last grandchild closes it.
        return await asyncio.create_subprocess_exec(
            *self.part.argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=stdout,
            stderr=self._pipe.write_end,
            env=dict(self.part.environ),
            start_new_session=True,
            preexec_fn=self._with_us,
        )

    async def _read(self, pipe: BinaryIO) -> None:
        reader = asyncio.StreamReader(limit=LINE_BYTES_MAX)
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), pipe
        )
        try:
            while line := await _line(reader):
                self._pipe.write(line)
                with contextlib.suppress(msgspec.DecodeError, TypeError, KeyError):
                    fields = msgspec.json.decode(line)
                    self._tell(str(fields.pop("event")), **fields)
        finally:
            transport.close()

    def _tell(self, event: str, **fields: Any) -> None:
        self._on_event(self.part.name, {"event": event} | fields)

    @property
    def pids(self) -> set[int]:
        """The processes that asyncio waits for: its own, once it was started, and its log's."""
        own = None if self._process is None else self._process.pid
        return {pid for pid in (own, self._pipe.pid) if pid is not None}

    @property
    def writer_pid(self) -> int | None:
        """Who writes its log; ends by itself when nobody can write any more."""
        return self._pipe.pid

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
            with self.log.open("rb") as file:
                file.seek(max(0, self.log.stat().st_size - TAIL_BYTES))
                text = file.read().decode("utf-8", "replace")
        except OSError:
            return ""
        return "\n".join(text.splitlines()[-TAIL_LINES:])


async def _line(reader: asyncio.StreamReader) -> bytes:
    """The next line; one longer than `LINE_BYTES_MAX` counts as empty. b"" at the end."""
    try:
        return await reader.readline()
    except ValueError:
        return b"\n"
