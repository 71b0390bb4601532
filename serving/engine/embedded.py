"""Rewrites SmolLM2-135M-Instruct from GGUF into a checkpoint vLLM can serve.

GGUF's llama architecture becomes Qwen2: the same function once the attention biases that Qwen2 has
and Llama lacks are zero (bias 0 adds nothing), so the rest of the stack meets the architecture it
serves in production. llama.cpp stores q and k rows permuted for its rope; that is undone here.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from gguf import GGUFReader, dequantize

Array: TypeAlias = Any  # a numpy array; numpy's own types are not checked here

# GGUF's name of a tensor inside a block -> Qwen2's name inside a layer.
LAYER_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
TOP_NAMES = {"token_embd": "model.embed_tokens", "output_norm": "model.norm"}
BIASED = ("attn_q", "attn_k", "attn_v")
TOKEN_IS_CONTROL = 3

# SmolLM2's own template, with three additions that leave plain chats as they were: a `tools`
# section and tool turns in Hermes form, and message content that is null or a list of text parts.
CHAT_TEMPLATE = """\
{%- macro text(content) -%}
{%- if content is string -%}{{ content }}
{%- elif content is iterable and content is not mapping -%}
{%- for part in content -%}{{ part.text if part.text is defined else '' }}{%- endfor -%}
{%- endif -%}
{%- endmacro -%}
{%- set default = 'You are a helpful AI assistant named SmolLM, trained by Hugging Face' -%}
{%- if tools -%}
{{- '<|im_start|>system\\n' -}}
{{- text(messages[0].content) if messages[0].role == 'system' else default -}}
{{- '\\n\\nYou may call these functions, given as JSON between <tools> and </tools>:\\n<tools>' -}}
{%- for tool in tools -%}{{ '\\n' + (tool | tojson) }}{%- endfor -%}
{{- '\\n</tools>\\nTo call one, answer only\\n<tool_call>\\n{"name": <name>, ' -}}
{{- '"arguments": <object>}\\n</tool_call><|im_end|>\\n' -}}
{%- elif messages[0].role != 'system' -%}
{{- '<|im_start|>system\\n' + default + '<|im_end|>\\n' -}}
{%- endif -%}
{%- for message in messages -%}
{%- if not (tools and loop.first and message.role == 'system') -%}
{%- if message.role == 'tool' -%}
{{- '<|im_start|>user\\n<tool_response>\\n' + text(message.content) -}}
{{- '\\n</tool_response><|im_end|>\\n' -}}
{%- else -%}
{{- '<|im_start|>' + message.role + '\\n' + text(message.content) -}}
{%- for call in message.tool_calls or [] -%}
{%- set function = call.function -%}
{{- '\\n<tool_call>\\n{"name": "' + function.name + '", "arguments": ' -}}
{{- function.arguments if function.arguments is string else function.arguments | tojson -}}
{{- '}\\n</tool_call>' -}}
{%- endfor -%}
{{- '<|im_end|>\\n' -}}
{%- endif -%}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}{%- endif -%}
"""


def convert(source: Path, folder: Path, dtype: str) -> None:
    """Write config, tokenizer and weights of `source` into the existing, empty `folder`."""
    reader = GGUFReader(str(source))
    facts = {name: field.contents() for name, field in reader.fields.items()}
    if facts["general.architecture"] != "llama" or facts["tokenizer.ggml.model"] != "gpt2":
        raise ValueError(f"{source.name} is not a llama model with a byte-level BPE tokenizer")
    for name, content in {
        "config.json": model_config(facts, dtype),
        "generation_config.json": generation_config(facts),
        "tokenizer.json": tokenizer(facts),
        "tokenizer_config.json": tokenizer_config(facts),
        "special_tokens_map.json": _special_tokens(facts),
    }.items():
        text = json.dumps(content, ensure_ascii=False, indent=None if "nizer.j" in name else 1)
        (folder / name).write_text(text, encoding="utf-8")
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE, encoding="utf-8")
    write_safetensors(folder / "model.safetensors", dict(_tensors(reader, facts)), dtype)


def model_config(facts: dict[str, Any], dtype: str) -> dict[str, Any]:
    """A Qwen2 `config.json` with the sizes the GGUF states."""
    theta = float(facts["llama.rope.freq_base"])
    return {
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
        "hidden_act": "silu",
        "hidden_size": facts["llama.embedding_length"],
        "intermediate_size": facts["llama.feed_forward_length"],
        "num_hidden_layers": facts["llama.block_count"],
        "num_attention_heads": facts["llama.attention.head_count"],
        "num_key_value_heads": facts["llama.attention.head_count_kv"],
        "max_position_embeddings": facts["llama.context_length"],
        "rms_norm_eps": round(float(facts["llama.attention.layer_norm_rms_epsilon"]), 10),
        "rope_theta": theta,
        "rope_parameters": {"rope_type": "default", "rope_theta": theta},
        "vocab_size": facts["llama.vocab_size"],
        "tie_word_embeddings": True,
        "use_sliding_window": False,
        "attention_dropout": 0.0,
        "initializer_range": 0.02,
        "use_cache": True,
        "torch_dtype": dtype,
        "bos_token_id": facts["tokenizer.ggml.bos_token_id"],
        "eos_token_id": facts["tokenizer.ggml.eos_token_id"],
        "pad_token_id": facts["tokenizer.ggml.padding_token_id"],
    }


def generation_config(facts: dict[str, Any]) -> dict[str, Any]:
    """Stops at <|im_end|>; sampling values are left to the request."""
    return {
        "bos_token_id": facts["tokenizer.ggml.bos_token_id"],
        "eos_token_id": facts["tokenizer.ggml.eos_token_id"],
        "pad_token_id": facts["tokenizer.ggml.padding_token_id"],
    }


def tokenizer(facts: dict[str, Any]) -> dict[str, Any]:
    """A `tokenizer.json`: byte-level BPE, digits split one by one (llama.cpp's "smollm")."""
    tokens: list[str] = facts["tokenizer.ggml.tokens"]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": index, "content": tokens[index], **_ADDED} for index in _control_ids(facts)
        ],
        "normalizer": None,
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [
                {"type": "Digits", "individual_digits": True},
                {**byte_level, "use_regex": True},
            ],
        },
        "post_processor": None,
        "decoder": {**byte_level, "add_prefix_space": True, "use_regex": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "vocab": {token: index for index, token in enumerate(tokens)},
            "merges": facts["tokenizer.ggml.merges"],
        },
    }


_ADDED = {
    "single_word": False,
    "lstrip": False,
    "rstrip": False,
    "normalized": False,
    "special": True,
}


def tokenizer_config(facts: dict[str, Any]) -> dict[str, Any]:
    """Class, special tokens and context length; the template has a file of its own."""
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": facts["llama.context_length"],
        "clean_up_tokenization_spaces": False,
        "add_prefix_space": False,
        **_special_tokens(facts),
    }


def _special_tokens(facts: dict[str, Any]) -> dict[str, str]:
    tokens = facts["tokenizer.ggml.tokens"]
    names = {"bos_token": "bos", "eos_token": "eos", "pad_token": "padding", "unk_token": "unknown"}
    return {key: tokens[facts[f"tokenizer.ggml.{name}_token_id"]] for key, name in names.items()}


def _control_ids(facts: dict[str, Any]) -> list[int]:
    types = facts["tokenizer.ggml.token_type"]
    return [index for index, kind in enumerate(types) if kind == TOKEN_IS_CONTROL]


def _tensors(reader: GGUFReader, facts: dict[str, Any]) -> Iterator[tuple[str, Array]]:
    heads = {
        "attn_q": facts["llama.attention.head_count"],
        "attn_k": facts["llama.attention.head_count_kv"],
    }
    for tensor in reader.tensors:
        values: Array = dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        parts = tensor.name.split(".")
        if parts[0] != "blk":
            yield f"{TOP_NAMES[parts[0]]}.weight", values
            continue
        _, layer, name, _ = parts
        if name in heads:
            values = unpermute(values, heads[name])
        stem = f"model.layers.{layer}.{LAYER_NAMES[name]}"
        yield f"{stem}.weight", values
        if name in BIASED:
            yield f"{stem}.bias", np.zeros(values.shape[0], np.float32)


def unpermute(weight: Array, heads: int) -> Array:
    """Undo llama.cpp's interleaving of the two halves of each head's rows."""
    rows = weight.shape[0]
    return weight.reshape(heads, rows // heads // 2, 2, -1).swapaxes(1, 2).reshape(weight.shape)


def write_safetensors(path: Path, tensors: dict[str, Array], dtype: str) -> None:
    """Write float32 arrays in the safetensors format, as F32 or rounded to BF16."""
    raw = {name: (a if dtype == "float32" else to_bfloat16(a)) for name, a in tensors.items()}
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, array in raw.items():
        end = offset + array.nbytes
        kind = "F32" if dtype == "float32" else "BF16"
        header[name] = {"dtype": kind, "shape": array.shape, "data_offsets": [offset, end]}
        offset = end
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)
    with path.open("wb") as file:
        file.write(len(head).to_bytes(8, "little") + head)
        for array in raw.values():
            array.tofile(file)


def to_bfloat16(values: Array) -> Array:
    """The upper halves of float32 values, rounded to nearest even, as uint16 bit patterns."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    rounded: Array = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    return rounded
