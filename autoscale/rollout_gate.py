"""Asks the rollout's gate: a program or an address that may say no before the first step. Never
what a caller of an API named: only the settings say what is run.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal

import aiohttp

from models.worded import Worded
from serving.rollout.values import Rollout
from serving.settings_rollout import GateSettings

TOLD_BYTES_MAX = 300


async def ask(gate: GateSettings, row: Rollout, session: aiohttp.ClientSession) -> str:
    """Why not; empty is yes, also where there is no gate."""
    names = {"name": row.id, "old": row.old, "new": row.new}
    if gate.argv:
        argv = [_filled(word, names) for word in gate.argv]
        return await _run(argv, gate.timeout_s)
    if gate.url:
        return await _post(gate, names, session)
    return ""


def _filled(word: str, names: dict[str, str]) -> str:
    for name, value in names.items():
        word = word.replace(f"{{{name}}}", value)
    return word


async def _run(argv: list[str], timeout_s: float) -> str:
    try:
        process = await asyncio.create_subprocess_exec(
            *argv, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    except OSError as error:
        template = "{gate} cannot be run: {why}"
        return Worded("gate.not_run", template, gate=argv[0], why=error.strerror)
    told = b""
    try:
        async with asyncio.timeout(timeout_s):
            assert process.stdout is not None
            while piece := await process.stdout.read(4096):
                told = (told + piece)[-TOLD_BYTES_MAX:]
            code = await process.wait()
    except TimeoutError:
        template = "{gate} gave no answer within {seconds} s"
        return Worded("gate.late", template, gate=argv[0], seconds=f"{timeout_s:.0f}")
    finally:
        if process.returncode is None:  # it and all that it started
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    if code == 0:
        return ""
    template = "{gate} ended with {code}: {told}"
    return Worded("gate.ended", template, gate=argv[0], code=code, told=_line(told))


async def _post(gate: GateSettings, names: dict[str, str], session: aiohttp.ClientSession) -> str:
    timeout = aiohttp.ClientTimeout(total=gate.timeout_s)
    try:
        async with session.post(
            gate.url, json=names, timeout=timeout, allow_redirects=False
        ) as response:
            if 200 <= response.status < 300:
                return ""
            told = await response.content.read(TOLD_BYTES_MAX)
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        return f"{gate.url}: {type(error).__name__}"
    template = "{gate} answered {status}: {told}"
    status = response.status
    return Worded("gate.answered", template, gate=gate.url, status=status, told=_line(told))


def _line(told: bytes) -> str:
    return " ".join(told.decode("utf-8", "replace").split())
