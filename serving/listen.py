"""The listening sockets, and the ops server on its own.

`start_ops` gives a server that listens when it returns; the hot wire takes a socket of `bind`.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import Any

import uvicorn
from fastapi import FastAPI

from models.worded import Worded
from serving.settings import SettingsError


class OpsServer(uvicorn.Server):
    """uvicorn without its own signal handlers: the gateway stops it."""

    @contextlib.contextmanager
    def capture_signals(self) -> Any:
        """Leave the process's handlers alone."""
        yield


class Ops:
    """The ops listener and the task that serves it."""

    def __init__(self, app: FastAPI, bound: socket.socket) -> None:
        config = uvicorn.Config(
            app, log_config=None, access_log=False, lifespan="off", ws="none", http="h11"
        )
        self._server = OpsServer(config)
        bound.listen(128)  # so that it is there when the gateway says so
        self._task = asyncio.create_task(self._server.serve([bound]), name="ops")

    async def close(self) -> None:
        """Answer what was asked, and end."""
        self._server.should_exit = True
        await self._task


def bind(host: str, port: int, *, is_shared: bool = False) -> socket.socket:
    """A listening address, shared with our other processes if so told. Raises SettingsError."""
    bound = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if is_shared:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        bound.bind((host, port))
    except OSError as error:
        bound.close()
        template, why = "cannot listen on {host}:{port}: {why}", error.strerror
        said = Worded("settings.listen", template, host=host, port=port, why=why)
        raise SettingsError(said) from None
    return bound
