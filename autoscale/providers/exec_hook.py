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
import signal
from typing import Any, TypeVar

import msgspec

from autoscale.machines import Create, Kind, Machine, Offer, ProviderError, Tags
from serving.unreadable import UNREADABLE

OUTPUT_BYTES_MAX = 4 << 20
TAIL = 300
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

    def __init__(self, argv: tuple[str, ...]) -> None:
        self._argv = argv

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
        try:
            process = await asyncio.create_subprocess_exec(
                *self._argv, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE, start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            raise ProviderError("away", f"{self._argv[0]}: {error.strerror}") from None
        try:
            async with asyncio.timeout(limit_s):
                out, told = await process.communicate(given)
        except TimeoutError:
            raise ProviderError(
                "away", f"{self._argv[0]} {verb}: no answer within {limit_s:.0f} s"
            ) from None
        finally:
            await _end(process)
        return self._read(verb, process.returncode or 0, out, told)

    def _read(self, verb: str, code: int, out: bytes, told: bytes) -> _Answer:
        words = told.decode("utf-8", "replace").strip()[-TAIL:]
        if len(out) > OUTPUT_BYTES_MAX:
            raise ProviderError("away", f"{self._argv[0]} {verb}: answered {len(out)} bytes")
        try:
            answer = msgspec.json.decode(out or b"{}", type=_Answer)
        except UNREADABLE as error:
            raise ProviderError("away", f"{self._argv[0]} {verb}: {error}; {words}") from None
        if answer.error is not None:
            error_ = answer.error
            raise ProviderError(error_.kind, error_.message or words, error_.retry_after_s)
        if code:
            raise ProviderError("away", f"{self._argv[0]} {verb}: exit code {code}: {words}")
        return answer


async def _end(process: asyncio.subprocess.Process) -> None:
    """Kill what is left of its process group, and collect it."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()
