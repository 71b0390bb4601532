"""The fetcher as a process: its command line, what it tells, and what the cluster makes of it."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from serving import start_record
from serving.engine.prepare import NotPreparedError, Prepared, command, fetch_row, prepare
from serving.engine.probe_spec import Probe
from serving.engine.spec import ClusterSpec, EngineSpec
from serving.engine.supervisor import (
    EMBEDDED_PROBE,
    Cluster,
    ClusterFailedError,
    Events,
    resolved,
)
from serving.engine.weights.resolve import Order
from serving.engine.weights.settings import WeightsSettings


def spec(**changes: Any) -> EngineSpec:
    return EngineSpec(**{"model_name": "m", "model_path": "/m", "secret_path": "/s"} | changes)


def write_model(folder: Path) -> Path:
    folder.mkdir(parents=True)
    head = json.dumps({"t": {"data_offsets": [0, 4]}}).encode()
    (folder / "config.json").write_text("{}")
    file = folder / "model.safetensors"
    file.write_bytes(len(head).to_bytes(8, "little") + head + b"1234")
    return folder


def run(order: Order, owner: EngineSpec) -> Prepared:
    return asyncio.run(prepare(order, owner, lambda *_: None))


def test_weights_are_made_ready_in_a_process_of_its_own(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "m")
    found = run(Order(f"pvc:{folder}", tmp_path / "cache"), spec())
    assert (found.path, found.load, found.is_cold) == (str(folder), "prefetch", False)
    assert found.seconds > 0


def test_what_the_fetcher_complains_of_is_told(tmp_path: Path) -> None:
    offline = spec(weights=WeightsSettings(is_offline=True))
    with pytest.raises(NotPreparedError, match="offline mode forbids"):
        run(Order("Qwen/Qwen3-8B", tmp_path), offline)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["nowhere"], 3, "neither a folder nor a hub id"),
        (["--settings", '{"mirror": 1}', "a/b"], 3, "mirror"),
        (["--settings", '{"wait_s": 0.01}', "pvc:/nowhere/at/all"], 4, "is it mounted"),
    ],
)
def test_the_exit_code_says_whether_trying_again_may_help(
    tmp_path: Path, words: list[str], code: int, said: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "serving.engine.weights", "--cache", str(tmp_path), *words],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert (done.returncode, said in done.stderr) == (code, True), done.stderr


def test_a_person_gets_the_folder_and_nothing_else(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "m")
    done = subprocess.run(
        [sys.executable, "-m", "serving.engine.weights", "--cache", str(tmp_path), str(folder)],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.stdout == f"{folder}\n"


def test_the_command_line_holds_paths_of_credentials_only() -> None:
    weights = WeightsSettings(huggingface_token_file="/run/secrets/hf")
    words = command(
        Order("a/b", Path("/cache"), with_code=True, sums=(("x", "0" * 64),)), spec(weights=weights)
    )
    assert "/run/secrets/hf" in " ".join(words)
    assert "--with-code" in words
    assert words[words.index("--sha256") + 1] == f"x={'0' * 64}"
    assert words[-1] == "a/b"


FETCHED = Prepared("/cache/x", "lazy", True, 10, 12.5)


def test_the_embedded_model_gets_its_own_probe_unless_one_is_given() -> None:
    plain = resolved(spec(model_path="embedded"), FETCHED)
    assert plain.probe == EMBEDDED_PROBE
    assert (plain.model_path, plain.source) == ("/cache/x", "smollm2-135m-instruct")
    own = Probe(prompt="2+2?", expect="contains:4")
    assert resolved(spec(model_path="embedded", probe=own), FETCHED).probe == own
    assert resolved(spec(model_path="embedded", probe=None), FETCHED).probe is None


def test_other_models_keep_what_was_asked_for_and_where_it_came_from() -> None:
    found = resolved(spec(model_path="hf:Qwen/Qwen3-8B@main"), FETCHED)
    assert (found.source, found.model_path, found.load) == (
        "hf:Qwen/Qwen3-8B@main", "/cache/x", "lazy",
    )  # fmt: skip
    assert found.probe == Probe()
    again = resolved(found, FETCHED)
    assert again.source == "hf:Qwen/Qwen3-8B@main"


def test_a_fetch_is_a_stage_of_no_gpu() -> None:
    row = fetch_row("m", FETCHED, 7)
    assert (row.gpu, row.cache, row.stage, row.seconds, row.at_ms) == ("", "cold", "fetch", 12.5, 7)
    assert fetch_row("m", FETCHED._replace(is_cold=False), 7).cache == "warm"


def test_settings_survive_the_way_to_the_fetcher() -> None:
    weights = WeightsSettings(s3_url="http://minio:9000", verify="always")
    words = command(Order("s3://b/m", Path("/c")), spec(weights=weights))
    given = words[words.index("--settings") + 1]
    assert msgspec.json.decode(given, type=WeightsSettings) == weights


def test_an_engine_without_weights_does_not_keep_the_others_down(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here, gone = write_model(tmp_path / "m"), tmp_path / "gone"
    engines = (spec(model_path=str(here)), spec(model_name="n", model_path=str(gone)))

    def cluster(*found: EngineSpec) -> Cluster:
        told = ClusterSpec(engines=found, cache_dir=str(tmp_path / "cache"))
        return Cluster(told, tmp_path, Events())

    ready = asyncio.run(cluster(*engines)._resolve_engines())
    assert [engine.model_name for engine in ready] == ["m"]
    assert ready[0].cache_dir == str(tmp_path / "cache")
    (row,) = start_record.read(tmp_path / "start-times.jsonl")
    assert (row.model, row.stage, row.cache) == ("m", "fetch", "warm")
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    (failed,) = [event for event in events if event["event"] == "failed"]
    assert (failed["model"], "is no folder" in failed["reason"]) == ("n", True)
    with pytest.raises(ClusterFailedError, match="no engine's weights"):
        asyncio.run(cluster(engines[1])._resolve_engines())
