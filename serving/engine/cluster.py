"""The one-machine cluster in the foreground; prints one JSON line per event on stdout.

`python -m serving.engine.cluster up --state DIR --spec FILE` runs until SIGTERM or SIGINT, then
ends every process it started. `down --state DIR` ends a running `up`. Imports neither ray nor vllm.
"""

import argparse
import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from pathlib import Path

from serving.engine import processes
from serving.engine.spec import ClusterSpec, SpecError, cluster_spec
from serving.engine.supervisor import STOP_GRACE_S, Cluster, ClusterFailedError, Events

STATE_FILE = "cluster.json"
EXIT_BAD_SPEC = 3
EXIT_FAILED = 4


async def up(spec: ClusterSpec, state: Path) -> int:
    """Run the cluster until SIGTERM or SIGINT; the exit code."""
    events = Events()
    processes.become_subreaper()
    running = asyncio.create_task(Cluster(spec, state, events).run())
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, running.cancel)
    code = 0
    try:
        await running
    except asyncio.CancelledError:
        events.emit("stopping")
    except ClusterFailedError as error:
        events.emit("failed", reason=str(error))
        code = EXIT_FAILED
    finally:
        left = await processes.end_tree(STOP_GRACE_S)
        events.emit("stopped", left=left)
    return code


def run_up(state: Path, spec_path: Path) -> int:
    """Check the spec, hold the state folder's lock, run."""
    try:
        spec = cluster_spec(spec_path.read_bytes())
    except (OSError, SpecError) as error:
        sys.stderr.write(f"{spec_path}: {error}\n")
        return EXIT_BAD_SPEC
    state.mkdir(parents=True, exist_ok=True, mode=0o700)
    if (other := read_owner(state)) is not None:
        sys.stderr.write(f"{state} is in use by process {other.pid}\n")
        return EXIT_FAILED
    me = processes.identify(os.getpid())
    (state / STATE_FILE).write_text(json.dumps(me), encoding="utf-8")
    try:
        return asyncio.run(up(spec, state))
    finally:
        (state / STATE_FILE).unlink(missing_ok=True)


def run_down(state: Path, limit_s: float) -> int:
    """End the `up` that holds `state` and wait for it."""
    owner = read_owner(state)
    if owner is None:
        return 0
    with contextlib.suppress(ProcessLookupError):
        os.kill(owner.pid, signal.SIGTERM)
    deadline_s = time.monotonic() + limit_s
    while processes.is_alive(owner):
        if time.monotonic() > deadline_s:
            sys.stderr.write(f"process {owner.pid} has not ended\n")
            return EXIT_FAILED
        time.sleep(0.1)
    return 0


def read_owner(state: Path) -> processes.ProcessIdentity | None:
    """The live process that runs `up` on this state folder."""
    try:
        pid, started = json.loads((state / STATE_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    owner = processes.ProcessIdentity(pid, started)
    return owner if processes.is_alive(owner) else None


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m serving.engine.cluster")
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("up", "down"):
        command = commands.add_parser(name)
        command.add_argument("--state", required=True, type=Path, help="folder of this cluster")
        if name == "up":
            command.add_argument("--spec", required=True, type=Path, help="ClusterSpec as JSON")
    options = parser.parse_args(argv)
    state: Path = options.state.expanduser().resolve()
    if options.command == "down":
        return run_down(state, limit_s=20.0)
    return run_up(state, options.spec)


if __name__ == "__main__":
    sys.exit(main())
