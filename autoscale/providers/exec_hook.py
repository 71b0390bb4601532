"""Machines through a program of the operator's: one run per request, JSON in, JSON out.

On its standard input the program gets `{"verb": ..., "version": 1, ...}`; on its standard output it
answers one JSON object: `{"offers": [...]}`, `{"machine": {...}}`, `{"machines": [...]}` or `{}`,
or `{"error": {"kind": "short|refused|busy|away", "message": "...", "retry_after_s": 30}}`. It is
killed, with all it started, when its time is over.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
from collections.abc import AsyncIterator, Sequence
from typing import Any, NamedTuple, TypeVar

import msgspec

from autoscale.machines import Create, Kind, Machine, Offer, ProviderError, Tags
from serving.unreadable import UNREADABLE

OUTPUT_BYTES_MAX = 4 << 20
TAIL, TAIL_BYTES = 300, 4096
PIPES_S = 0.5
"""How long a program's output is waited for once it has ended."""
_NAMED = re.compile(
    r"(?i)([\w-]*(?:key|token|secret|passw(?:or)?d|credential|bearer)[\w-]*[\"']?\s*[:=\s]\s*)"
    r"(?:bearer\s+)?[\"']?[^\s\"',;]{6,}"
)
_SHAPED = re.compile(r"\b(?:sk-|gh[a-z]_|AKIA|ASIA|eyJ|hf_)[\w./+=-]{8,}")
T = TypeVar("T")


class _Error(msgspec.Struct, frozen=True):
    kind: Kind = "away"
    message: str = ""
    retry_after_s: float = 0.0


class _Answer(msgspec.Struct, frozen=True):
    offers: tuple[Offer, ...] | None = None
    machine: Machine | None = None
    machines: tuple[Machine, ...] | None = None
    error: _Error | None = None


class ExecHook:
    """`argv` is run as it stands, without a shell, with the controller's environment."""

    def __init__(self, argv: tuple[str, ...], output_bytes_max: int = OUTPUT_BYTES_MAX) -> None:
        self._argv = argv
        self._bytes_max = output_bytes_max

    async def offers(self, tags: Tags, gpu: str, limit_s: float) -> tuple[Offer, ...]:
        """See `Provider`."""
        answer = await self._run("offers", {"tags": tags, "gpu": gpu}, limit_s)
        return self._given(answer.offers, "offers")

    async def create(self, order: Create, limit_s: float) -> Machine:
        """See `Provider`."""
        answer = await self._run("create", {"order": order}, limit_s)
        return self._given(answer.machine, "machine")

    async def list(self, tags: Tags, limit_s: float) -> tuple[Machine, ...]:
        """See `Provider`."""
        answer = await self._run("list", {"tags": tags}, limit_s)
        return self._given(answer.machines, "machines")

    async def terminate(self, machine: str, fence: int, limit_s: float) -> None:
        """See `Provider`."""
        await self._run("terminate", {"machine": machine, "fence": fence}, limit_s)

    def _given(self, part: T | None, name: str) -> T:
        if part is None:
            raise ProviderError("away", f"{self._argv[0]}: its answer has no `{name}`")
        return part

    async def _run(self, verb: str, asked: dict[str, Any], limit_s: float) -> _Answer:
        given = msgspec.json.encode({"verb": verb, "version": 1} | asked)
        async with contextlib.AsyncExitStack() as stack:
            pipes = [await stack.enter_async_context(_pipe()) for _ in range(2)]
            try:
                process = await asyncio.create_subprocess_exec(
                    *self._argv, stdin=asyncio.subprocess.PIPE, stdout=pipes[0].end,
                    stderr=pipes[1].end, start_new_session=True,
                )  # fmt: skip
            except OSError as error:
                raise ProviderError("away", f"{self._argv[0]}: {error.strerror}") from None
            finally:
                for pipe in pipes:
                    os.close(pipe.end)
            try:
                async with asyncio.timeout(limit_s):
                    out, told = await _talk(process, given, pipes, self._bytes_max)
            except TimeoutError:
                raise ProviderError(
                    "away", f"{self._argv[0]} {verb}: no answer within {limit_s:.0f} s"
                ) from None
            finally:
                await _end(process)
        return self._read(verb, process.returncode or 0, out, told)

    def _read(self, verb: str, code: int, out: bytes, told: bytes) -> _Answer:
        words = shown(told.decode("utf-8", "replace"))[-TAIL:]
        if len(out) > self._bytes_max:
            raise ProviderError(
                "away", f"{self._argv[0]} {verb}: answered more than {self._bytes_max} bytes"
            )
        try:
            answer = msgspec.json.decode(out or b"{}", type=_Answer)
        except UNREADABLE as error:
            raise ProviderError("away", f"{self._argv[0]} {verb}: {error}; {words}") from None
        if answer.error is not None:
            error_ = answer.error
            said = shown(error_.message)[:TAIL] or words
            raise ProviderError(error_.kind, said, error_.retry_after_s)
        if code:
            raise ProviderError("away", f"{self._argv[0]} {verb}: exit code {code}: {words}")
        return answer


def shown(text: str) -> str:
    """A program's words on one line, fit for a journal: what looks like a secret is left out. It
    runs with our environment, and shells that trace print what is in it."""
    text = _NAMED.sub(r"\1***", " ".join(text.split()))
    return _SHAPED.sub("***", text)


class _Pipe(NamedTuple):
    reader: asyncio.StreamReader
    end: int
    """Where the program writes."""


@contextlib.asynccontextmanager
async def _pipe() -> AsyncIterator[_Pipe]:
    """One of our own: asyncio's can only be closed by whoever holds the other end."""
    mine, theirs = os.pipe()
    reader = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(mine, "rb", 0)
    )
    try:
        yield _Pipe(reader, theirs)
    finally:
        transport.close()


async def _talk(
    process: asyncio.subprocess.Process, given: bytes, pipes: Sequence[_Pipe], bytes_max: int
) -> tuple[bytes, bytes]:
    """Its standard output and the end of its other one. What it left running is killed when it
    ends, and what escaped that and holds its pipes is not waited for: the answer stands."""
    out, told = bytearray(), bytearray()
    readers = (
        asyncio.create_task(_collect(pipes[0].reader, out, bytes_max)),
        asyncio.create_task(_collect(pipes[1].reader, told, None)),
    )
    ended = asyncio.create_task(process.wait())
    try:
        await _give(process, given)
        await asyncio.wait({ended, readers[0]}, return_when=asyncio.FIRST_COMPLETED)
        if len(out) <= bytes_max:
            await ended
        _kill(process)
        await asyncio.wait(readers, timeout=PIPES_S)
    finally:
        for task in (*readers, ended):
            task.cancel()
    return bytes(out), bytes(told)


async def _give(process: asyncio.subprocess.Process, given: bytes) -> None:
    stdin = process.stdin
    assert stdin is not None
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        stdin.write(given)
        await stdin.drain()
    stdin.close()


async def _collect(pipe: asyncio.StreamReader, into: bytearray, bytes_max: int | None) -> None:
    """Read to the end, or one byte beyond the bound; without one only the end is kept."""
    while piece := await pipe.read(1 << 16):
        into += piece
        if bytes_max is None:
            del into[:-TAIL_BYTES]
        elif len(into) > bytes_max:
            return


def _kill(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


async def _end(process: asyncio.subprocess.Process) -> None:
    """Kill what is left of its process group, and collect it."""
    _kill(process)
    await process.wait()
