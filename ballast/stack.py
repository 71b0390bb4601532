"""The one-machine stack: starts the parts, watches them, ends all of them for certain.

Order up: gateway (it answers at once), engine, controller. Order down: gateway and controller
together, so that open streams end while their engine lives, then the engine, then whatever is left.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ballast.board import Board
from ballast.child import Child
from ballast.messages import Said
from ballast.plan import Part
from ballast.problem import ProblemError
from serving.engine import processes
from serving.settings import EXIT_CODE

LEFTOVER_S_MAX, WRITERS_S_MAX = 3.0, 1.0
REAP_S = 2.0

OnListening = Callable[[str], None]


class Stack:
    """The running parts."""

    def __init__(self, parts: list[Part], logs: Path, board: Board, on_listening: OnListening):
        self._children = [Child(p, logs / f"{p.name}.log", self._on_event) for p in parts]
        self._board = board
        self._on_listening = on_listening
        self._gateway_up = asyncio.Event()
        self._stop = asyncio.Event()
        self._was_ready = False
        self._signals = 0
        self._url = ""

    async def run(self) -> None:
        """Run until a signal, or until an essential part ends. Raises ProblemError then."""
        processes.become_subreaper()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._on_signal)
        tasks: dict[str, asyncio.Task[int]] = {}
        reaper = asyncio.create_task(self._reap())
        try:
            await self._run(tasks)
        finally:
            reaper.cancel()
            await self._end(tasks)

    async def _run(self, tasks: dict[str, asyncio.Task[int]]) -> None:
        stopping = asyncio.create_task(self._stop.wait())
        pending: set[asyncio.Task[Any]] = {stopping}
        for child in self._children:
            tasks[child.part.name] = asyncio.create_task(child.run())
            pending.add(tasks[child.part.name])
            if child.part.is_essential:
                listening = asyncio.create_task(self._gateway_up.wait())
                await asyncio.wait(
                    {listening, stopping, tasks[child.part.name]},
                    return_when=asyncio.FIRST_COMPLETED,
                )
                listening.cancel()
                if self._stop.is_set() or tasks[child.part.name].done():
                    break
        while not self._stop.is_set():
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            for child in self._children:
                if tasks[child.part.name] in done and not self._stop.is_set():
                    self._check_ended(child, tasks[child.part.name].result())

    def _check_ended(self, child: Child, code: int) -> None:
        if code == EXIT_CODE:
            raise ProblemError(
                Said("up.refused_settings", part=child.part.name, tail=child.tail()),
                Said("up.mend_and_start"),
                exit_code=EXIT_CODE,
            )
        if child.part.is_essential:
            raise ProblemError(
                Said("up.keeps_ending", part=child.part.name, code=code, tail=child.tail()),
                Said("up.its_log", log=child.log),
            )

    def _on_event(self, name: str, event: dict[str, Any]) -> None:
        self._board.update(name, event)
        if event["event"] == "listening" and name == "gateway":
            self._gateway_up.set()
            if not self._url:
                self._url = str(event.get("url", ""))
                self._on_listening(self._url)
        if self._board.is_ready() and not self._was_ready:
            self._was_ready = True
            self._board.finish()
            self._board.tell(Said("up.all_up"))

    def _on_signal(self) -> None:
        self._signals += 1
        if self._signals == 1:
            self._board.finish()
            self._board.tell(Said("up.stopping"))
        else:
            for child in self._children:
                child.kill()
        self._stop.set()

    async def _end(self, tasks: dict[str, asyncio.Task[int]]) -> None:
        """Stop the parts in order, then every process that still descends from us."""
        self._board.finish()
        first = [c for c in self._children if c.part.name != "engine"]
        last = [c for c in self._children if c.part.name == "engine"]
        for group in (first, last):
            await asyncio.gather(*(self._end_one(child, tasks) for child in group))
        left = await self._sweep()
        if left:
            raise ProblemError(Said("up.do_not_end", pids=left), Said("up.kill_9"))

    async def _end_one(self, child: Child, tasks: dict[str, asyncio.Task[int]]) -> None:
        task = tasks.get(child.part.name)
        if task is None:
            return
        child.terminate()
        if not child.is_running:
            task.cancel()  # it waits between two starts
        _, late = await asyncio.wait({task}, timeout=0 if self._signals > 1 else child.part.stop_s)
        if late:
            child.kill()
            await asyncio.wait({task}, timeout=LEFTOVER_S_MAX)
        self._board.update(child.part.name, {"event": "stopped"})

    async def _sweep(self) -> list[int]:
        """Kill what is left; the ids of what survived even that."""
        loop = asyncio.get_running_loop()
        writers_until_s = loop.time() + WRITERS_S_MAX
        until_s = loop.time() + LEFTOVER_S_MAX
        writers = {child.writer_pid for child in self._children}
        while True:
            left = processes.descendants(os.getpid())
            for pid in left:
                # A log's writer ends by itself once those that could write are gone.
                if pid not in writers or loop.time() > writers_until_s:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
            reap_adopted(self._own_pids())
            if not left or loop.time() > until_s:
                return left
            await asyncio.sleep(0.05)

    async def _reap(self) -> None:
        while True:
            await asyncio.sleep(REAP_S)
            reap_adopted(self._own_pids())

    def _own_pids(self) -> set[int]:
        return set().union(*(child.pids for child in self._children))


def reap_adopted(own: set[int]) -> None:
    """Collect dead orphans that came to us as subreaper, leaving our own children to asyncio."""
    task = Path(f"/proc/self/task/{os.getpid()}/children")
    with contextlib.suppress(OSError):
        for pid in map(int, task.read_text("ascii").split()):
            if pid not in own:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)
