"""Starting servers: processes, waiting until they answer, and ending them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from benchmarks.gateway import processes
from benchmarks.gateway.client import Target
from benchmarks.lifetimes import bound

ROOT = Path(__file__).resolve().parents[2]
READY_S_MAX = 600.0
"""25 to 100 s alone; many times that on a machine that others keep busy."""
ASK_S_MAX, PUT_S_MAX = 10.0, 60.0
STOP_S_MAX = 30.0
TAIL_BYTES = 1500
POLL_S = 0.5
Found = TypeVar("Found")


class NotReady(Exception):  # noqa: N818 - reads as what happened
    """A server did not come up; carries the end of its log."""


class Running(NamedTuple):
    """A process we own, in a session of its own, and where it logs."""

    process: subprocess.Popen[bytes]
    log: Path

    @property
    def pid(self) -> int:
        """Root of its tree."""
        return self.process.pid

    def failure(self, reason: str) -> NotReady:
        """An error with the end of the log."""
        tail = self.log.read_bytes()[-TAIL_BYTES:].decode("utf-8", "replace")
        return NotReady(f"{self.log.stem}: {reason}\n{tail}")

    def stop(self) -> None:
        """Ctrl-C as a person would; then SIGKILL for whatever of the tree is left."""
        members = processes.tree(self.pid)[1:]
        self.process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(STOP_S_MAX)
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for pid in members:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


class Server(NamedTuple):
    """One that answers."""

    name: str
    target: Target
    started: Running
    start_s: float
    """From its command to the model that answers."""


def start(words: Sequence[str], log: Path, environ: Mapping[str, str]) -> Running:
    """A process of this checkout in a session of its own; `environ` over ours."""
    ours = {k: v for k, v in processes.environment().items() if not k.startswith("RAY_")}
    merged = ours | {"PYTHONPATH": str(ROOT), "NO_COLOR": "1", "COLUMNS": "200"} | dict(environ)
    with log.open("ab") as file:
        process = subprocess.Popen(
            bound(words, "TERM"), stdout=file, stderr=file, stdin=subprocess.DEVNULL, cwd=ROOT,
            env=merged, start_new_session=True,
        )  # fmt: skip
    return Running(process, log)


def until(started: Running, look: Callable[[], Found]) -> Found:
    """What `look` finds, once it finds something. Raises NotReady."""
    until_s, why = time.monotonic() + READY_S_MAX, ""
    while time.monotonic() < until_s:
        if started.process.poll() is not None:
            raise started.failure(f"ended with {started.process.returncode}")
        try:
            if found := look():
                return found
        except (OSError, ValueError, LookupError) as error:
            why = f"; last: {error!r}"
        time.sleep(POLL_S)
    raise started.failure(f"not ready in {READY_S_MAX:g} s{why}")


def ask(url: str, key: str, body: object = None) -> Any:
    """GET, or PUT of a body as JSON. Raises OSError, or ValueError for no JSON."""
    data = None if body is None else json.dumps(body).encode()
    asked = urllib.request.Request(
        url, data, {"authorization": f"Bearer {key}", "content-type": "application/json"},
        method="GET" if data is None else "PUT",
    )  # fmt: skip
    timeout = ASK_S_MAX if data is None else PUT_S_MAX
    try:
        with urllib.request.urlopen(asked, timeout=timeout) as answer:
            text = answer.read()
    except urllib.error.HTTPError as error:
        with error:
            said = error.read(TAIL_BYTES).decode("utf-8", "replace")
        raise OSError(f"{error.code} {said}") from error
    return json.loads(text) if text else None


def listed(target: Target) -> dict[str, Any]:
    """The model's row in its list of models. Raises LookupError while it is not there."""
    rows = ask(f"{target.url}/v1/models", target.key)["data"]
    found = [row for row in rows if row["id"] == target.model]
    return dict(found[0])
