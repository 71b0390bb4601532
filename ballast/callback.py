"""Where the browser comes back to after a login: one page on this machine, for one visit."""

from __future__ import annotations

import queue
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

from ballast.messages import Said
from ballast.problem import ProblemError

PATH = "/callback"
_PAGE = (
    "<!doctype html><meta charset=utf-8><title>Ballast</title>"
    "<p>You may close this page and go back to the terminal.</p>"
    "<p>可以关闭此页面，回到终端。</p>"
).encode()


class Callback:
    """Listens on loopback while it is open."""

    def __init__(self) -> None:
        self._queries: queue.Queue[str] = queue.Queue(1)
        self._server = HTTPServer(("127.0.0.1", 0), _handler(self._queries))
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_port}{PATH}"

    def __enter__(self) -> Callback:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def wait(self, wait_s: float) -> str:
        """The query of the visit. Raises ProblemError."""
        try:
            return self._queries.get(timeout=wait_s)
        except queue.Empty:
            raise ProblemError(
                Said("problem.nobody_logged_in", seconds=f"{wait_s:.0f}"),
                Said("problem.log_in_again"),
            ) from None


def _handler(queries: queue.Queue[str]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = 10

        def do_GET(self) -> None:
            path, _, query = self.path.partition("?")
            is_it = path == PATH and bool(query)
            self.send_response(200 if is_it else 404)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.end_headers()
            if is_it:
                self.wfile.write(_PAGE)
                if queries.empty():
                    queries.put(query)

        def log_message(self, *_: Any) -> None:
            """The query holds a code: it is no line for a log."""

    return Handler
