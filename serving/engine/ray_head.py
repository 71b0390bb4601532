"""One Ray head on this machine, as a child process: everything on loopback, behind a token.

Starts it and says when it has died. Never runs `ray stop`, which kills by name and would take
another user's Ray along.
"""

import asyncio
import hashlib
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

from serving.engine.spec import ClusterSpec

LOOPBACK = "127.0.0.1"
TOKEN_FILE = "ray_token"  # noqa: S105 (a file name)
# Ray puts sockets of up to 57 characters below its folder, and a socket path ends at 107.
RAY_DIR_CHARS_MAX = 45


class RayHead:
    """A running `ray start --head --block`, which ends when any of Ray's daemons does."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self._process = process

    @property
    def pid(self) -> int:
        return self._process.pid

    def is_alive(self) -> bool:
        """False once Ray is gone; `ray start --block` looks after its daemons each second."""
        return self._process.poll() is None


def start_ray(spec: ClusterSpec, state: Path, ray_dir: Path, dashboard_port: int) -> RayHead:
    """Start the head; its output goes to `<state>/ray.log`."""
    token_path = ensure_token(state)
    with (state / "ray.log").open("ab") as log:
        process = subprocess.Popen(  # noqa: S603 (our own interpreter and flags)
            ray_command(spec, ray_dir, dashboard_port),
            env=os.environ | ray_environment(spec, token_path),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    return RayHead(process)


def ray_command(spec: ClusterSpec, ray_dir: Path, dashboard_port: int) -> list[str]:
    """The command line of the head."""
    engines_cpus = sum(engine.num_cpus * max(1, engine.num_replicas) for engine in spec.engines)
    cpus = spec.num_cpus or max(os.cpu_count() or 1, int(engines_cpus) + 1)
    flags = {
        "node-ip-address": LOOPBACK,
        "port": 0,
        "dashboard-host": LOOPBACK,
        "dashboard-port": dashboard_port,
        "include-dashboard": "true",
        "dashboard-agent-listen-port": free_port(),
        "num-cpus": cpus,
        "object-store-memory": spec.object_store_mib << 20,
        "temp-dir": ray_dir,
        "include-log-monitor": "false",
    }
    return [
        *(sys.executable, "-m", "serving.engine.ray_main", "start", "--head", "--block"),
        *("--disable-usage-stats", "--no-monitor"),
        *(f"--{name}={value}" for name, value in flags.items()),
    ]


def ray_environment(spec: ClusterSpec, token_path: Path) -> dict[str, str]:
    """Variables every Ray process inherits; most are read once, at import."""
    return {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token_path),
        "RAY_SERVE_ENABLE_DIRECT_INGRESS": "1",
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": str(spec.drain_s_min),
        # A dead engine's replica is killed at once instead of drained for its longest stream.
        "RAY_SERVE_FORCE_STOP_UNHEALTHY_REPLICAS": "1",
        # The raylet aborts if its agent is slow to write a port file, as on small machines.
        "RAY_agent_register_timeout_ms": "180000",
        # Linux clusters otherwise swap 127.0.0.1 for the outer address and listen everywhere.
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_enable_metrics_collection": "0",
        "RAY_DEDUP_LOGS": "0",
        # Three large imports: with their bytecode kept a second start is tens of seconds faster.
        "PYTHONDONTWRITEBYTECODE": "",
    }


def ensure_token(state: Path) -> Path:
    """The file with the token of Ray's REST API and RPC, made at the first call, mode 0600."""
    path = state / TOKEN_FILE
    if not path.exists():
        scratch = path.with_suffix(".new")
        descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(32))
        scratch.rename(path)
    return path


def prepare_ray_dir(state: Path) -> Path:
    """Ray's own folder, emptied of the last run's sessions, mode 0700.

    Below the state folder, or, where that path is too long for sockets, a private one in the
    temporary folder whose name depends on the state folder only.
    """
    folder = state / "ray"
    if len(str(folder)) > RAY_DIR_CHARS_MAX:
        name = hashlib.sha256(str(state).encode()).hexdigest()[:10]
        folder = Path(tempfile.gettempdir()) / f"ballast-ray-{os.getuid()}-{name}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid != os.getuid():
        raise PermissionError(f"{folder} belongs to someone else")
    for entry in folder.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink(missing_ok=True)
    return folder


def free_port() -> int:
    """A TCP port on loopback nobody listens on now."""
    with socket.socket() as sock:
        sock.bind((LOOPBACK, 0))
        return int(sock.getsockname()[1])


async def wait_for_port(port: int, head: RayHead, limit_s: float) -> bool:
    """True once something listens on `port`; False if Ray died or the time is over."""
    for _ in range(int(limit_s / 0.2)):
        if not head.is_alive():
            return False
        try:
            _, writer = await asyncio.open_connection(LOOPBACK, port)
        except OSError:
            await asyncio.sleep(0.2)
            continue
        writer.close()
        return True
    return False
