"""How sources are written, which files are wanted, and folders that others fill."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from serving.engine.loading import Load, load_flags, load_of
from serving.engine.weights import errors, folder
from serving.engine.weights.pins import parse_sums
from serving.engine.weights.resolve import Order, Outside, Resolved, resolve
from serving.engine.weights.settings import WeightsSettings, completed
from serving.engine.weights.sources import (
    Bucket,
    Embedded,
    Folder,
    Kind,
    Repository,
    Source,
    canonical,
    is_wanted,
    parse,
    slug,
)
from serving.engine.weights.verify import sha256_of


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("embedded", Embedded()),
        ("/models/x", Folder("/models/x")),
        ("./x", Folder("./x")),
        ("~/x", Folder("~/x")),
        ("pvc:/mnt/x", Folder("/mnt/x", is_volume=True)),
        ("pvc:///mnt/x", Folder("/mnt/x", is_volume=True)),
        ("Qwen/Qwen3-8B", Repository("huggingface", "Qwen/Qwen3-8B")),
        ("hf:Qwen/Qwen3-8B@main", Repository("huggingface", "Qwen/Qwen3-8B", "main")),
        ("modelscope:ZhipuAI/GLM-4.6", Repository("modelscope", "ZhipuAI/GLM-4.6")),
        ("ms:ZhipuAI/GLM-4.6", Repository("modelscope", "ZhipuAI/GLM-4.6")),
        ("s3://models/a/b/", Bucket("models", "a/b/")),
        ("s3://models", Bucket("models", "")),
    ],
)
def test_reads_every_kind_of_source(text: str, source: Source) -> None:
    assert parse(text) == source
    assert parse(canonical(source)) == source


def test_a_bare_id_is_looked_for_at_the_hub_of_the_settings() -> None:
    assert parse("Qwen/Qwen3-8B", "modelscope") == Repository("modelscope", "Qwen/Qwen3-8B")


@pytest.mark.parametrize(
    "text",
    ["justaname", "a/b/c", "hf:a", "a/../b", "a/b@", "a/b@x y", "gs://b/k", "s3:/b", "s3://UP/x",
     "pvc:relative", "https://huggingface.co/a/b", ""],
)  # fmt: skip
def test_what_is_no_source_is_refused_with_the_forms(text: str) -> None:
    with pytest.raises(errors.SourceError, match=r"owner/name|s3://bucket|pvc:"):
        parse(text)


def test_names_in_the_cache_are_safe_and_different() -> None:
    texts = ["Qwen/Qwen3-8B", "Qwen/Qwen3-8b", "modelscope:Qwen/Qwen3-8B", "Qwen/Qwen3-8B@main",
             "s3://qwen/qwen3-8b", "/Qwen/Qwen3-8B", "/模型"]  # fmt: skip
    names = [slug(parse(text)) for text in texts]
    assert len(set(names)) == len(names)
    assert all(name == Path(name).name and name[0] not in ".-" for name in names)


@pytest.mark.parametrize(
    ("path", "kind", "wanted"),
    [
        ("model.safetensors", "model", True),
        ("tokenizer.model", "model", True),
        ("1_Pooling/config.json", "model", True),
        ("2_Dense/model.safetensors", "model", True),
        ("other/model.safetensors", "model", False),
        ("onnx/config.json", "model", False),
        ("pytorch_model.bin", "model", False),
        ("model.py", "model", False),
        (".cache.json", "model", False),
        ("adapter_model.safetensors", "adapter", True),
        ("adapter_model.bin", "adapter", False),
        ("tokenizer.json", "adapter", False),
    ],
)
def test_knows_which_files_an_engine_reads(path: str, kind: Kind, wanted: bool) -> None:
    assert is_wanted(path, kind) is wanted


def test_reads_what_sha256sum_writes() -> None:
    text = f"{'a' * 64}  a.json\n{'B' * 64} *./b c.json\n\n"
    assert parse_sums(text, "SUMS") == {"a.json": "a" * 64, "b c.json": "b" * 64}
    with pytest.raises(errors.SourceError, match="SUMS:1"):
        parse_sums("not a sum", "SUMS")


@pytest.mark.parametrize(
    ("load", "source", "chosen"),
    [
        ("auto", "/models/x", "lazy"),
        ("auto", "pvc:/models/x", "prefetch"),
        ("auto", "s3://models/x", "lazy"),
        ("auto", "Qwen/Qwen3-8B", "lazy"),
        ("runai_streamer", "s3://models/x", "runai_streamer"),
    ],
)
def test_the_load_follows_the_place(load: Load, source: str, chosen: Load) -> None:
    assert load_of(load, parse(source)) == chosen


def test_no_load_falls_back_to_pickles() -> None:
    loads: tuple[Load, ...] = ("auto", "lazy", "prefetch", "eager", "runai_streamer")
    for load in loads:
        assert load_flags(load, "cpu")[1] in ("safetensors", "runai_streamer")
    assert load_flags("prefetch", "gpu")[2:] == ["--safetensors-load-strategy", "prefetch"]
    assert load_flags("fastsafetensors", "gpu") == ["--load-format", "fastsafetensors"]
    with pytest.raises(errors.SourceError, match="GPUs only"):
        load_flags("fastsafetensors", "cpu")


def write_model(where: Path, shards: int = 2, cut: int = 0) -> None:
    """A folder of a model; `cut` bytes are missing from its last shard."""
    where.mkdir(parents=True, exist_ok=True)
    names = [f"model-{i}.safetensors" for i in range(shards)]
    (where / "config.json").write_text("{}")
    index = {"weight_map": {str(i): name for i, name in enumerate(names)}}
    (where / "model.safetensors.index.json").write_text(json.dumps(index))
    head = json.dumps({"t": {"data_offsets": [0, 100]}}).encode()
    for name in names:
        (where / name).write_bytes(len(head).to_bytes(8, "little") + head + b"x" * 100)
    if cut:
        last = where / names[-1]
        last.write_bytes(last.read_bytes()[:-cut])


def use(source: str, cache: Path, **settings: Any) -> Resolved:
    order = Order(source, cache)
    return asyncio.run(resolve(order, WeightsSettings(**settings), Outside({})))


def test_a_local_folder_is_used_where_it_lies(tmp_path: Path) -> None:
    write_model(tmp_path / "m")
    before = sorted(p.name for p in (tmp_path / "m").iterdir())
    found = use(str(tmp_path / "m"), tmp_path / "cache")
    assert found == Resolved(str(tmp_path / "m"), "lazy")
    assert sorted(p.name for p in (tmp_path / "m").iterdir()) == before


def test_a_folder_that_changes_after_its_first_use_is_refused(tmp_path: Path) -> None:
    write_model(tmp_path / "m")
    use(str(tmp_path / "m"), tmp_path / "cache")
    use(str(tmp_path / "m"), tmp_path / "cache", is_offline=True)
    (tmp_path / "m/config.json").write_text("[]")
    with pytest.raises(errors.WrongBytesError, match=r"config\.json.*on record"):
        use(str(tmp_path / "m"), tmp_path / "cache")
    (tmp_path / "m/config.json").unlink()
    with pytest.raises(errors.IncompleteError, match=r"no config\.json"):
        use(str(tmp_path / "m"), tmp_path / "cache")


def test_a_folder_is_held_against_its_own_sums(tmp_path: Path) -> None:
    write_model(tmp_path / "m")
    right = sha256_of(tmp_path / "m/config.json")
    (tmp_path / "m/SHA256SUMS").write_text(f"{right}  config.json\n")
    use(str(tmp_path / "m"), tmp_path / "cache")
    (tmp_path / "m/SHA256SUMS").write_text(f"{'0' * 64}  config.json\n")
    with pytest.raises(errors.WrongBytesError, match="0000"):
        use(str(tmp_path / "m"), tmp_path / "other-cache")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ("cut", "bytes"),
        ("shard", "1 of 2 shards are missing"),
        ("pickle", "only as model.bin"),
        ("gone", "is no folder"),
        ("header", "no safetensors header"),
    ],
)
def test_half_a_model_is_refused(tmp_path: Path, damage: str, words: str) -> None:
    where = tmp_path / "m"
    if damage != "gone":
        write_model(where, cut=10 if damage == "cut" else 0)
    if damage == "shard":
        (where / "model-1.safetensors").unlink()
    elif damage == "header":
        (where / "model-1.safetensors").write_bytes(b"<html>")
    elif damage == "pickle":
        for path in where.glob("*.safetensors"):
            path.unlink()
        (where / "model.bin").write_bytes(b"")
    with pytest.raises(errors.WeightsError, match=words):
        use(str(where), tmp_path / "cache")


class Clock:
    """Time that passes by sleeping only; `at` runs what happens meanwhile."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.at: dict[float, Any] = {}

    def __call__(self) -> float:
        return self.now_s

    async def sleep(self, seconds: float) -> None:
        self.now_s += seconds
        for when in [w for w in self.at if w <= self.now_s]:
            self.at.pop(when)()


def test_a_volume_may_be_mounted_and_filled_late(tmp_path: Path) -> None:
    clock = Clock()
    where = tmp_path / "mnt"
    clock.at = {10.0: lambda: write_model(where, cut=50), 30.0: lambda: write_model(where)}
    asyncio.run(folder.wait_for(where, "model", 60.0, clock, clock.sleep))
    assert 30.0 <= clock.now_s < 35.0


def test_a_volume_is_not_waited_for_without_end(tmp_path: Path) -> None:
    clock = Clock()
    with pytest.raises(errors.LateError, match="waited 60 s for the volume") as caught:
        asyncio.run(folder.wait_for(tmp_path / "mnt", "model", 60.0, clock, clock.sleep))
    assert caught.value.is_passing
    assert 60.0 <= clock.now_s < 65.0


def test_a_volume_of_pickles_is_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    clock = Clock()
    with pytest.raises(errors.UnsafeError):
        asyncio.run(folder.wait_for(tmp_path, "model", 60.0, clock, clock.sleep))
    assert clock.now_s == 0.0


def test_what_settings_leave_open_is_taken_from_the_environment() -> None:
    environ = {
        "HF_ENDPOINT": "https://mirror.example", "VLLM_USE_MODELSCOPE": "1", "HF_HUB_OFFLINE": "1",
        "AWS_ENDPOINT_URL": "http://minio:9000", "AWS_REGION": "cn-north-1",
        "MODELSCOPE_DOMAIN": "www.modelscope.example",
    }  # fmt: skip
    found = completed(WeightsSettings(), environ)
    assert (found.hub, found.is_offline, found.s3_region) == ("modelscope", True, "cn-north-1")
    assert found.huggingface_url == "https://mirror.example"
    assert found.modelscope_url == "https://www.modelscope.example"
    assert found.s3_url == "http://minio:9000"
    given = WeightsSettings(
        hub="huggingface", is_offline=False, huggingface_url="https://a.example"
    )
    kept = completed(given, environ)
    assert (kept.hub, kept.is_offline) == ("huggingface", False)
    assert kept.huggingface_url == "https://a.example"


def test_an_empty_environment_leaves_the_hubs_themselves() -> None:
    found = completed(WeightsSettings(), {})
    assert (found.hub, found.is_offline, found.s3_url) == ("huggingface", False, None)
    assert found.huggingface_url == "https://huggingface.co"
    with pytest.raises(errors.SourceError, match="huggingface_url"):
        completed(WeightsSettings(), {"HF_ENDPOINT": "not a url"})


def test_what_hugging_faces_tools_have_brought_is_used_and_checked(tmp_path: Path) -> None:
    repo = tmp_path / "hf" / "models--a--b"
    write_model(repo / "snapshots" / "c0ffee")
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text("c0ffee")
    environ = {"HF_HUB_CACHE": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "1"}

    def run(source: str) -> Resolved:
        order = Order(source, tmp_path / "cache")
        return asyncio.run(resolve(order, WeightsSettings(), Outside(environ)))

    folder = repo / "snapshots" / "c0ffee"
    for source in ("a/b", "a/b@c0ffee"):
        assert run(source).path == str(folder)
    (folder / "config.json").write_text("[]")
    with pytest.raises(errors.WrongBytesError, match="on record"):
        run("a/b")
    (folder / "model-1.safetensors").unlink()
    with pytest.raises(errors.OfflineError):
        run("a/b")


def test_a_folder_is_one_however_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_model(tmp_path / "owner" / "name")
    assert use("owner/name", tmp_path / "cache").path == str(tmp_path / "owner" / "name")


def test_no_weights_are_wanted_for_dummies(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    order = Order(str(tmp_path), tmp_path / "cache", load="dummy")
    found = asyncio.run(resolve(order, WeightsSettings(), Outside({})))
    assert (found.load, load_flags("dummy", "cpu")) == ("dummy", ["--load-format", "dummy"])
    with pytest.raises(errors.SourceError, match="dummy needs a folder"):
        asyncio.run(resolve(order._replace(source="a/b"), WeightsSettings(), Outside({})))
