"""`quantization_config` of a quantised repository, by the format of its weights. Pure.

As vendors write it: block-FP8 with 128 x 128 scales, GLM's FP8 per channel in the form of
compressed-tensors, AWQ and GPTQ with groups of 128. What they leave in BF16 differs from repository
to repository; here it is what none of them quantises: head, routers, gates, small projections of
linear attention, vision tower. Of Flash-Next the shared experts too: its recipe cuts them in four,
which their width in FP8 blocks would not allow.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from models.card import Card, Variant

Config = dict[str, Any]
GROUP: Final = 128
BLOCK: Final = [128, 128]
PLAIN: Final = (
    "lm_head", "mlp.gate", "mlp.shared_expert_gate", "linear_attn.in_proj_a",
    "linear_attn.in_proj_b", "linear_attn.in_proj_ba", "linear_attn.conv1d", "visual",
)  # fmt: skip
TOWER: Final = ("attn.qkv", "attn.proj", "mlp.linear_fc1", "mlp.linear_fc2")
TOWER_LAYERS: Final = 27
INTEGERS: Config = {"num_bits": 4, "type": "int", "strategy": "group", "group_size": GROUP}
BUT_EXPERTS: Final = (
    "re:.*self_attn.*", "re:.*shared_experts.*", "re:.*[.]mlp[.](gate|up|down|gate_up)_proj$",
)  # fmt: skip


def quantisation(card: Card, variant: Variant) -> Config:
    """What a variant's `config.json` says beside the sizes; empty for BF16."""
    value: Config
    match variant.format:
        case "bf16":
            return {}
        case "fp8_block":
            value = {
                "quant_method": "fp8",
                "activation_scheme": "dynamic",
                "fmt": "e4m3",
                "weight_block_size": BLOCK,
                "modules_to_not_convert": list(_plain(card)),
            }
        case "awq_int4":
            value = {
                "quant_method": "awq",
                "bits": 4,
                "group_size": GROUP,
                "version": "gemm",
                "zero_point": True,
            }
        case "gptq_int4":
            value = {
                "quant_method": "gptq",
                "bits": 4,
                "group_size": GROUP,
                "desc_act": False,
                "sym": True,
                "dynamic": {rf"-:.*{name.replace('.', '[.]')}($|[.])": {} for name in PLAIN},
            }
        case "fp8_channel":
            value = _compressed("float-quantized", {"num_bits": 8, "strategy": "channel"}, ())
        case "w4a8":
            # Only the experts, as the repository's size says.
            value = _compressed("pack-quantized", INTEGERS, BUT_EXPERTS)
    return {"quantization_config": value}


def _plain(card: Card) -> tuple[str, ...]:
    """Full names, as block-FP8 repositories list them."""
    vision = card.capabilities.vision is not None and card.family == "qwen"
    inner = "model.language_model.layers" if vision else "model.layers"
    named = [name for name in PLAIN if name not in ("lm_head", "visual")]
    if card.shape.attention == "gdn_sparse_hybrid":
        named += [f"mlp.shared_expert.{part}_proj" for part in ("gate", "up", "down")]
    layers = (f"{inner}.{i}.{name}" for i in range(card.shape.layers) for name in named)
    return "lm_head", *layers, *(f"model.visual.{name}" for name in _tower())


def _tower() -> Iterator[str]:
    """Of the largest of Qwen's vision towers."""
    for i in range(TOWER_LAYERS):
        yield from (f"blocks.{i}.{name}" for name in TOWER)
    for merger in ("merger", *(f"deepstack_merger_list.{i}" for i in range(3))):
        yield from (f"{merger}.linear_fc1", f"{merger}.linear_fc2")


def _compressed(form: str, weights: Config, ignored: tuple[str, ...]) -> Config:
    weights = {"type": "float", "symmetric": True, "dynamic": False, **weights}
    inputs = {
        "num_bits": 8, "type": "float", "strategy": "token", "symmetric": True, "dynamic": True,
    }  # fmt: skip
    return {
        "quant_method": "compressed-tensors",
        "format": form,
        "config_groups": {
            "group_0": {"targets": ["Linear"], "weights": weights, "input_activations": inputs}
        },
        "ignore": [
            "re:.*lm_head", "re:.*[.]mlp[.]gate$", "re:.*visual.*", "re:.*eh_proj", *ignored,
        ],
        "quantization_status": "compressed",
    }  # fmt: skip
