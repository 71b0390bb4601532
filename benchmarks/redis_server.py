"""A throwaway Redis on a free loopback port, ended for certain."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from pathlib import Path

from benchmarks.lifetimes import bound

START_S_MAX = 20.0


class RedisServer:
    """Owns the process; a test may end it and start it again, empty, on the same port."""

    def __init__(self, folder: Path, password: str = "", *, is_bound: bool = False) -> None:
        """`is_bound`: it ends with the thread that starts it."""
        self._folder, self._is_bound = folder, is_bound
        self._more = ["--requirepass", password] if password else []
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = int(free.getsockname()[1])
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start it and wait until it takes connections."""
        found = shutil.which("redis-server")
        assert found is not None
        command = [found, "--port", str(self.port), "--bind", "127.0.0.1", "--save", ""]
        command += ["--appendonly", "no", "--dir", str(self._folder), *self._more]
        command = bound(command) if self._is_bound else command
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        until_s = time.monotonic() + START_S_MAX
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1.0).close()
                return
            except OSError:
                if self._process.poll() is not None or time.monotonic() > until_s:
                    raise
            time.sleep(0.01)

    def stop(self) -> None:
        """End it; what it knew is gone."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait(20.0)
