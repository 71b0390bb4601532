"""LoRA adapters: what fits, what is loaded, and the internal routes that change it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from serving.engine.adapter_routes import Reply, reply
from serving.engine.adapter_spec import Adapter, LoraLimits, bases_of, unfit
from serving.engine.adapters import AdapterError, Adapters
from serving.engine.flags import arguments
from serving.engine.spec import EngineSpec, SpecError, engine_spec
from serving.engine.weights.verify import sha256_of

CONFIG = {"peft_type": "LORA", "r": 8, "base_model_name_or_path": "Qwen/Qwen3-8B"}
BASES = bases_of("qwen3-8b", "hf:Qwen/Qwen3-8B@main", "/cache/huggingface-qwen-qwen3-8b-0011223344")


@pytest.mark.parametrize(
    ("changes", "base", "words"),
    [
        ({}, "", ""),
        ({"base_model_name_or_path": "/home/me/qwen3-8B/"}, "", ""),
        ({"base_model_name_or_path": "Qwen/Qwen3-4B"}, "", "trained on 'Qwen/Qwen3-4B'"),
        ({"base_model_name_or_path": "Qwen/Qwen3-4B"}, "Qwen/Qwen3-4B", ""),
        ({"base_model_name_or_path": "Qwen/Qwen3-8B"}, "Qwen/Qwen3-4B", "trained on"),
        ({"base_model_name_or_path": None}, "", "names no base model"),
        ({"base_model_name_or_path": None}, "Qwen/Qwen3-8B", ""),
        ({"peft_type": "IA3"}, "", "only LORA"),
        ({"r": 32}, "", "rank 32 is above"),
        ({"rank_pattern": {"q_proj": 64}}, "", "rank 64 is above"),
        ({"r": None}, "", "states no rank"),
        ({"r": 0}, "", "states no rank"),
    ],
)
def test_an_adapter_must_fit_its_engine(changes: dict[str, Any], base: str, words: str) -> None:
    adapter = Adapter(name="a", source="/a", base=base)
    reason = unfit(CONFIG | changes, adapter, BASES, LoraLimits(rank_max=16))
    assert (words in reason) if words else reason == ""


def spec(tmp_path: Path, **changes: Any) -> EngineSpec:
    fields = {
        "model_name": "qwen3-8b", "model_path": "/m", "secret_path": "/s",
        "cache_dir": str(tmp_path / "cache"), "lora": {},
    }  # fmt: skip
    return engine_spec(fields | changes)


def test_room_for_adapters_is_asked_of_vllm(tmp_path: Path) -> None:
    flags = arguments(spec(tmp_path, lora={"rank_max": 64, "kept_max": 1}), None)
    at = flags.index("--enable-lora")
    assert flags[at : at + 7] == [
        "--enable-lora", "--max-lora-rank", "64", "--max-loras", "4", "--max-cpu-loras", "4",
    ]  # fmt: skip
    assert "--enable-lora" not in arguments(spec(tmp_path, lora=None), None)


def test_python_code_needs_a_reason(tmp_path: Path) -> None:
    assert "--trust-remote-code" not in arguments(spec(tmp_path), None)
    trusted = spec(tmp_path, trust_remote_code="its attention is not in vLLM yet")
    assert "--trust-remote-code" in arguments(trusted, None)
    for argument in ("--trust-remote-code", "--trust_remote_code", "--trust-rem"):
        with pytest.raises(SpecError, match="say why in trust_remote_code"):
            spec(tmp_path, extra_args=[argument])


def test_two_models_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="given twice"):
        spec(tmp_path, adapters=[{"name": "qwen3-8b", "source": "/a"}])


class FakeEngine:
    """Loads by name; refuses what it is told to refuse."""

    def __init__(self) -> None:
        self.loaded: dict[str, str] = {}
        self.refusal = ""

    async def load_adapter(self, name: str, folder: str) -> str:
        if not self.refusal:
            self.loaded[name] = folder
        return self.refusal

    async def unload_adapter(self, name: str) -> str:
        if not self.refusal:
            del self.loaded[name]
        return self.refusal

    def adapters(self) -> dict[str, str]:
        return dict(self.loaded)


def write_adapter(folder: Path, **changes: Any) -> Path:
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text(json.dumps(CONFIG | changes))
    head = json.dumps({"t": {"data_offsets": [0, 4]}}).encode()
    file = folder / "adapter_model.safetensors"
    file.write_bytes(len(head).to_bytes(8, "little") + head + b"1234")
    return folder


def ask(adapters: Adapters, method: str, name: str = "", **body: Any) -> Reply:
    return asyncio.run(reply(adapters, method, name, json.dumps(body).encode()))


def test_an_adapter_is_loaded_listed_and_unloaded(tmp_path: Path) -> None:
    engine, folder = FakeEngine(), write_adapter(tmp_path / "lora")
    adapters = Adapters(spec(tmp_path), engine, lambda *_: None)
    sha256 = sha256_of(folder / "adapter_model.safetensors")
    unknown = asyncio.run(reply(adapters, "POST", "", b'{"name": "x", "path": "/x"}'))
    assert (unknown.status, unknown.code) == (400, "adapter_refused")
    loaded = ask_load(adapters, "mine", folder, sha256)
    assert (loaded.status, engine.loaded) == (200, {"mine": str(folder)})
    assert ask_load(adapters, "mine", folder, sha256).status == 200, "again changes nothing"
    assert ask(adapters, "GET").content == {
        "adapters": [{"name": "mine", "source": str(folder), "folder": str(folder)}]
    }
    assert ask(adapters, "DELETE", "mine").status == 200
    assert adapters.names == []
    assert ask(adapters, "DELETE", "mine").status == 404


def ask_load(adapters: Adapters, name: str, folder: Path, sha256: str = "") -> Reply:
    body = json.dumps({"name": name, "source": str(folder), "sha256": sha256}).encode()
    return asyncio.run(reply(adapters, "POST", "", body))


@pytest.mark.parametrize(
    ("case", "status", "words"),
    [
        ("base", 422, "trained on"),
        ("hash", 422, "on record"),
        ("pickle", 422, "adapter_model.bin"),
        ("gone", 422, "no folder"),
        ("vllm", 422, "too large"),
        ("name", 400, "name"),
        ("taken", 409, "name of the base"),
        ("room", 422, "without room"),
    ],
)
def test_what_cannot_be_loaded_says_why(tmp_path: Path, case: str, status: int, words: str) -> None:
    engine, folder = FakeEngine(), write_adapter(
        tmp_path / "lora", **({"base_model_name_or_path": "x/other"} if case == "base" else {})
    )  # fmt: skip
    engine.refusal = "it is too large" if case == "vllm" else ""
    if case == "pickle":
        (folder / "adapter_model.safetensors").unlink()
        (folder / "adapter_model.bin").write_bytes(b"")
    adapters = Adapters(
        spec(tmp_path, lora=None if case == "room" else {}), engine, lambda *_: None
    )
    name = {"name": "UPPER", "taken": "qwen3-8b"}.get(case, "mine")
    where = tmp_path / "nowhere" if case == "gone" else folder
    found = ask_load(adapters, name, where, "0" * 64 if case == "hash" else "")
    assert (found.status, engine.loaded) == (status, {})
    assert words in found.content["message"]


def test_another_source_under_the_same_name_is_refused(tmp_path: Path) -> None:
    adapters = Adapters(spec(tmp_path), FakeEngine(), lambda *_: None)
    ask_load(adapters, "mine", write_adapter(tmp_path / "one"))
    assert ask_load(adapters, "mine", write_adapter(tmp_path / "two")).status == 409


def test_an_unload_that_the_engine_refuses_is_told(tmp_path: Path) -> None:
    engine = FakeEngine()
    engine.loaded["mine"] = "/x"
    engine.refusal = "busy"
    adapters = Adapters(spec(tmp_path), engine, lambda *_: None)
    with pytest.raises(AdapterError, match="busy"):
        asyncio.run(adapters.unload("mine"))


@pytest.mark.parametrize(("method", "name"), [("PUT", ""), ("POST", "x"), ("DELETE", "")])
def test_other_calls_have_no_route(tmp_path: Path, method: str, name: str) -> None:
    adapters = Adapters(spec(tmp_path), FakeEngine(), lambda *_: None)
    assert ask(adapters, method, name).status == 404
