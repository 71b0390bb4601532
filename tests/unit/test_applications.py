"""Engines of a settings file, put onto a Ray cluster that runs already."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, ClassVar

import msgspec
import pytest

from ballast.applications import EVERYWHERE, changes, counted, put, wanted
from ballast.problem import ProblemError
from serving.settings import Settings

MODEL = {"name": "chat", "card": "qwen3-8b", "variant": "bf16", "gpu": "a100-80"}


def settings(folder: Path, url: str = "http://127.0.0.1:1", **more: Any) -> Settings:
    (folder / "token").write_text("t0ken\n")
    (folder / "secret").write_text("x" * 64)
    fleet = {"serve_url": url, "ray_token_file": folder / "token",
             "secret_file": folder / "secret"}  # fmt: skip
    tree = {"models": [MODEL | more], "fleet": fleet, "cache_dir": "/var/cache/ballast"}
    return Settings.model_validate(tree)


def running(engines: Any, replicas: int = 3) -> dict[str, Any]:
    """As Serve tells of engines that were put so."""
    return {"applications": {
        e.model_name: {
            "deployed_app_config": {"args": json.loads(msgspec.json.encode(e))},
            "deployments": {"EngineReplica": {"target_num_replicas": replicas}},
        } for e in engines
    }}  # fmt: skip


def test_engines_fetch_their_weights_where_they_run(tmp_path: Path) -> None:
    (engine,) = wanted(settings(tmp_path), "gpu")
    assert engine.cache_dir == "/var/cache/ballast"
    assert engine.device == "gpu"
    assert engine.model_path.startswith("hf:Qwen/")


def test_what_runs_as_wanted_is_left_alone(tmp_path: Path) -> None:
    engines = wanted(settings(tmp_path), "gpu")
    assert changes(engines, running(engines)) == {}
    assert changes(engines, {"applications": {}}) == {"chat": "new"}


def test_a_changed_engine_keeps_its_number_of_replicas(tmp_path: Path) -> None:
    before = wanted(settings(tmp_path), "gpu")
    after = wanted(settings(tmp_path, layout={"sequences": 8}), "gpu")
    assert changes(after, running(before)) == {"chat": "changed"}
    assert counted(after, running(before))[0].num_replicas == 3
    assert counted(after, {"applications": {}})[0].num_replicas == 1


def test_an_engine_that_nobody_names_is_removed(tmp_path: Path) -> None:
    engines = wanted(settings(tmp_path), "gpu")
    assert changes((), running(engines)) == {"chat": "removed"}


class Head(BaseHTTPRequestHandler):
    """A Ray head's REST API, as far as applications go."""

    details: ClassVar[dict[str, Any]] = {}
    was_put: ClassVar[list[Any]] = []

    def _answer(self, status: int, body: Any) -> None:
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def do_GET(self) -> None:
        good = self.headers["authorization"] == "Bearer t0ken"
        self._answer(200 if good else 401, self.details)

    def do_PUT(self) -> None:
        length = int(self.headers["content-length"])
        self.was_put.append(json.loads(self.rfile.read(length)))
        self._answer(200, None)

    def log_message(self, *_: Any) -> None:
        """Quiet."""


@pytest.fixture
def head() -> Iterator[tuple[str, type[Head]]]:
    class Own(Head):
        details: ClassVar[dict[str, Any]] = {"applications": {}}
        was_put: ClassVar[list[Any]] = []

    listener = ThreadingHTTPServer(("127.0.0.1", 0), Own)
    thread = Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.01}, name="head")
    thread.start()
    yield f"http://127.0.0.1:{listener.server_address[1]}", Own
    listener.shutdown()
    thread.join()
    listener.server_close()


def test_engines_are_put_once_and_reachable_from_other_pods(
    head: tuple[str, type[Head]], tmp_path: Path
) -> None:
    url, server = head
    given = settings(tmp_path, url)
    assert asyncio.run(put(given, "gpu", 0.0)) == {"chat": "new"}
    (config,) = server.was_put
    assert config["http_options"]["host"] == EVERYWHERE
    (app,) = config["applications"]
    assert app["external_scaler_enabled"] is True
    assert "x" * 64 not in json.dumps(config), "the secret's path travels, never the secret"
    server.details = running(wanted(given, "gpu"))
    assert asyncio.run(put(given, "gpu", 0.0)) == {}
    assert len(server.was_put) == 1


def test_a_cluster_that_stays_away_is_named(tmp_path: Path) -> None:
    with pytest.raises(ProblemError, match=r"127\.0\.0\.1:1"):
        asyncio.run(put(settings(tmp_path), "gpu", 0.0))


def test_without_a_cluster_nothing_can_be_put(tmp_path: Path) -> None:
    with pytest.raises(ProblemError, match="no cluster is named"):
        asyncio.run(put(Settings(), "gpu", 0.0))
