"""Writes a random LoRA adapter for a Qwen2- or Llama-like checkpoint.

`python -m benchmarks.adapter CHECKPOINT FOLDER --base NAME`: low-rank noise, strong enough that the
model's text changes visibly, weak enough that it stays a model. For tests of serving adapters; it
teaches the model nothing.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from serving.engine.embedded import write_safetensors
from serving.engine.weights.sources import ADAPTER_CONFIG, ADAPTER_WEIGHTS

MODULES = ("q_proj", "v_proj", "o_proj", "down_proj")


def write(checkpoint: Path, folder: Path, base: str, seed: int = 1, strength: float = 1.0) -> None:
    """An adapter of rank 8 in PEFT's form; `strength` scales its noise."""
    rank = 8
    config = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))
    folder.mkdir(parents=True, exist_ok=True)
    described = {
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": base,
        "r": rank, "lora_alpha": rank, "lora_dropout": 0.0, "bias": "none",
        "fan_in_fan_out": False, "inference_mode": True, "target_modules": list(MODULES),
        "modules_to_save": None,
    }  # fmt: skip
    (folder / ADAPTER_CONFIG).write_text(json.dumps(described, indent=1), encoding="utf-8")
    random = np.random.default_rng(seed)
    tensors = {}
    for layer in range(config["num_hidden_layers"]):
        for module in MODULES:
            rows, columns = _shape(config, module)
            part = "mlp" if module == "down_proj" else "self_attn"
            stem = f"base_model.model.model.layers.{layer}.{part}.{module}"
            down = random.standard_normal((rank, columns)) / np.sqrt(columns)
            up = random.standard_normal((rows, rank)) * strength / np.sqrt(rank)
            tensors[f"{stem}.lora_A.weight"] = down.astype(np.float32)
            tensors[f"{stem}.lora_B.weight"] = up.astype(np.float32)
    write_safetensors(folder / ADAPTER_WEIGHTS, tensors, "float32")


def _shape(config: dict[str, Any], module: str) -> tuple[int, int]:
    """Rows (outputs) and columns (inputs) of a module's weight."""
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    width = config.get("head_dim") or hidden // heads
    return {
        "q_proj": (heads * width, hidden),
        "v_proj": (config["num_key_value_heads"] * width, hidden),
        "o_proj": (hidden, heads * width),
        "down_proj": (hidden, config["intermediate_size"]),
    }[module]


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.adapter")
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--base", required=True, help="name of the model, for its config")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--strength", type=float, default=1.0)
    options = parser.parse_args()
    write(options.checkpoint, options.folder, options.base, options.seed, options.strength)
    return 0


if __name__ == "__main__":
    sys.exit(main())
