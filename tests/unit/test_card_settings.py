"""From a card in the settings to the engine that starts: what it fills in, and what may differ."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from ballast import plan, room
from ballast.cli import app
from ballast.problem import ProblemError
from benchmarks.flag_check.cases import cases
from models import sizing
from models.dialect import template_path
from models.flag import pairs
from models.flags import Refused, Start
from serving.engine.card_spec import RANKED, THOUGHT_TOKENS, gpu_fields, spec_fields
from serving.engine.flags import arguments, environment
from serving.engine.hardware import CpuPlan
from serving.engine.spec import EngineSpec, engine_spec
from serving.settings import Model, Settings, SettingsError, load

KNOWN = sizing.load()
PLAN = CpuPlan("float32", 2)
GIB = 1 << 30


def settings_of(tmp_path: Path, model: dict[str, Any], **more: Any) -> Settings:
    path = tmp_path / "ballast.yaml"
    tree = {"models": [{"name": "m"} | model], "fleet": {"secret_file": str(tmp_path / "s")}}
    path.write_text(yaml.safe_dump(tree | more), "utf-8")
    return load(path, {})


def completed(tmp_path: Path, **model: Any) -> Model:
    return settings_of(tmp_path, model).models[0]


def spec_of(tmp_path: Path, device: str, **model: Any) -> EngineSpec:
    (engine,) = plan.cluster(settings_of(tmp_path, model), plan.Wish(device=device)).engines
    return engine


def last(argv: list[str], name: str) -> str:
    """The value that counts for vLLM."""
    return argv[len(argv) - argv[::-1].index(name)]


def test_a_card_on_a_gpu_needs_no_more_said(tmp_path):
    model = completed(tmp_path, card="qwen3-32b", variant="fp8", gpu="h100-80")
    assert model.engine is not None
    assert (model.layout.tensor, model.layout.data) == (1, 1)
    assert model.profile == "qwen3-32b/fp8@1xh100-80"
    assert model.engine.source == "hf:Qwen/Qwen3-32B-FP8"
    assert model.engine.max_model_len == model.context_tokens == model.layout.context_tokens
    assert model.engine.max_num_seqs == model.layout.sequences
    assert model.engine.max_num_queued_reqs > model.engine.max_num_seqs


def test_the_hub_name_of_a_variant_is_card_and_variant(tmp_path):
    model = completed(tmp_path, card="Qwen/Qwen3-32B-FP8", gpu="h100-80")
    assert (model.card, model.variant) == ("qwen3-32b", "fp8")


def test_what_the_launcher_wrote_down_reads_back_as_the_same(tmp_path):
    said = {"card": "glm-4.5-air", "variant": "fp8", "gpu": "h100-80"}
    settings = settings_of(tmp_path, said)
    again = Settings.model_validate(settings.model_dump(mode="json", exclude_none=True))
    assert again.models == settings.models


def test_the_engine_gets_the_flags_of_the_card(tmp_path):
    spec = spec_of(tmp_path, "gpu", card="glm-4.5-air", variant="fp8", gpu="h100-80")
    argv = arguments(spec, None)
    assert spec.num_gpus == float(last(argv, "--tensor-parallel-size"))
    assert last(argv, "--tool-call-parser") == spec.tool_parser == "glm45"
    assert last(argv, "--reasoning-parser") == "glm45"
    assert last(argv, "--max-num-batched-tokens") == "8192"
    assert last(argv, "--model") == "hf:zai-org/GLM-4.5-Air-FP8"
    assert last(argv, "--served-model-name") == "m"
    assert not spec.enforce_eager
    assert int(environment(spec, None)["VLLM_ENGINE_READY_TIMEOUT_S"]) > 600
    for once in ("--model", "--dtype", "--max-num-seqs", "--load-format", "--max-model-len"):
        assert argv.count(once) == 1, once


def test_what_is_said_beside_a_card_wins(tmp_path):
    spec = spec_of(
        tmp_path, "gpu", card="qwen3-8b", gpu="h100-80", context_tokens=4096,
        engine={"source": "/models/mine", "max_num_seqs": 24, "max_num_queued_reqs": 30,
                "args": ["--kv-cache-dtype", "fp8"], "spec": {"tool_parser": "qwen3_xml"}},
    )  # fmt: skip
    argv = arguments(spec, None)
    assert spec.model_path == "/models/mine"
    assert (spec.max_model_len, spec.max_num_seqs, spec.max_num_queued_reqs) == (4096, 24, 30)
    assert last(argv, "--kv-cache-dtype") == "fp8"
    assert spec.tool_parser == "qwen3_xml"


def test_a_layout_is_taken_as_said(tmp_path):
    spec = spec_of(
        tmp_path, "gpu", card="qwen3-8b", gpu="a100-80",
        layout={"memory_share": 0.5, "features": ["prefix_caching", "lora"]},
    )  # fmt: skip
    assert spec.num_gpus == 0.5
    assert spec.memory_fraction == 0.5
    assert spec.takes_adapters


def test_adapters_get_room_in_memory_and_in_the_engine(tmp_path):
    model = completed(tmp_path, card="qwen3-8b", gpu="a100-80", adapters=[{"name": "tone"}])
    assert "lora" in model.layout.features


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ({"card": "nope"}, "models.0.card: no model 'nope'"),
        ({"card": "qwen3-8b", "variant": "q9"}, "models.0.variant: no 'q9'; qwen3-8b has bf16"),
        ({"card": "qwen3-8b", "gpu": "h1000"}, "models.0.gpu: no GPU 'h1000'; did you mean"),
        ({"card": "glm-5", "gpu": "a100-80"}, "need compute capability 90"),
        ({"card": "qwen3.8-2.4t-a95b", "gpu": "h200-141"}, "128.5 GiB of each GPU - weights 692"),
        ({"card": "qwen3-8b", "gpu": "h100-80", "layout": {"wide": 3}}, "models.0.layout.wide"),
        ({"card": "qwen3-8b", "gpu": "h100-80", "engine": "big"}, "models.0.engine"),
    ],
)
def test_what_cannot_be_is_refused_by_key(tmp_path, model, words):
    with pytest.raises(SettingsError) as caught:
        settings_of(tmp_path, model)
    assert words in str(caught.value)
    assert "Value error" not in str(caught.value)


def test_up_ends_with_3_and_a_remedy_for_an_unknown_card(tmp_path):
    (tmp_path / "c.yaml").write_text("models: [{name: m, card: qwen3-8x}]", "utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "ballast", "up", "--config", str(tmp_path / "c.yaml")],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 3
    assert "models.0.card: no model 'qwen3-8x'" in done.stderr
    assert "what to do:" in done.stderr


def test_a_layout_for_gpus_is_refused_on_a_cpu(tmp_path):
    with pytest.raises(ValueError, match="laid out for h100-80"):
        spec_of(tmp_path, "cpu", card="qwen3-8b", gpu="h100-80")


def test_a_cpu_serves_other_weights_the_way_the_card_says(tmp_path):
    spec = spec_of(
        tmp_path, "cpu", card="qwen3-8b", profile="cpu-embedded", context_tokens=1024,
        engine={"source": "/models/tiny"},
    )  # fmt: skip
    argv = arguments(spec, PLAN)
    assert spec.model_path == "/models/tiny"
    assert last(argv, "--reasoning-parser") == "qwen3"
    assert last(argv, "--tool-call-parser") == spec.tool_parser
    assert last(argv, "--max-model-len") == "1024"
    assert "--tensor-parallel-size" not in argv


def test_a_cpu_without_the_memory_for_a_card_refuses_with_numbers(tmp_path):
    said = {"card": "qwen3-32b", "profile": "cpu-embedded", "engine": {}}
    settings = settings_of(tmp_path, said)
    (finding,) = room.examine(settings, KNOWN, 24 * GIB)
    assert "weights 61 + KV cache 1 + engine 4 = 66.0 GiB, and 24.0 GiB are free" in finding.text
    assert not list(room.examine(settings, KNOWN, 80 * GIB))
    other = settings_of(tmp_path, said | {"engine": {"source": "/models/tiny"}})
    assert not list(room.examine(other, KNOWN, 24 * GIB))


def test_weights_come_from_the_preferred_hub_and_at_the_commit_that_a_card_pins(tmp_path):
    commit = "0123456789abcdef0123456789abcdef01234567"
    cards = tmp_path / "cards"
    cards.mkdir()
    text = yaml.safe_dump({"variants": {"bf16": {"revision": commit}}})
    (cards / "qwen3-8b.yaml").write_text(text, "utf-8")
    said = {"card": "qwen3-8b", "gpu": "h100-80"}
    model = settings_of(tmp_path, said, cards_dir=str(cards)).models[0]
    assert model.engine is not None
    assert model.engine.source == f"hf:Qwen/Qwen3-8B@{commit}"
    there = settings_of(tmp_path, said, weights={"hub": "modelscope"}).models[0]
    assert there.engine is not None
    assert there.engine.source == "modelscope:Qwen/Qwen3-8B"


def test_no_packaged_card_claims_a_commit_that_nobody_has_seen():
    pinned = [
        card.id
        for card in KNOWN.catalog.cards.values()
        if any(variant.revision for variant in card.variants.values())
    ]
    assert pinned == []


def test_a_reranker_gets_its_template_and_documents_to_put_in_order(tmp_path):
    spec = spec_of(tmp_path, "gpu", card="qwen3-reranker-4b", gpu="a100-40")
    path = last(arguments(spec, None), "--chat-template")
    assert path == template_path("qwen3-reranker.jinja")
    assert "<Document>" in Path(path).read_text("utf-8")
    assert spec.probe is not None
    assert (spec.probe.expect, spec.probe.documents) == ("ordered", RANKED)
    assert spec.tool_parser is None
    assert template_path("/etc/mine.jinja") == "/etc/mine.jinja"


def test_an_embedder_is_asked_for_as_many_numbers_as_its_card_says(tmp_path):
    spec = spec_of(tmp_path, "gpu", card="qwen3-embedding-0.6b", gpu="a100-40")
    assert spec.probe is not None
    assert spec.probe.expect == "dimension:1024"
    assert spec.runner == "pooling"


def test_what_clients_may_ask_follows_from_the_card(tmp_path):
    embedder = completed(tmp_path, card="qwen3-embedding-4b", gpu="a100-40")
    assert embedder.surfaces == ("embeddings",)
    assert embedder.weights == "Qwen/Qwen3-Embedding-4B"
    ranker = completed(tmp_path, card="qwen3-reranker-4b", gpu="a100-40", weights="acme/ranker")
    assert (ranker.surfaces, ranker.weights) == (("rerank", "score"), "acme/ranker")
    assert completed(tmp_path, card="qwen3-8b").surfaces == ("chat", "completions")


def test_every_card_has_a_probe_and_fields_that_an_engine_takes(tmp_path):
    cards = KNOWN.catalog.cards
    path = tmp_path / "ballast.yaml"
    said = {"profile": "cpu-embedded", "engine": {"source": "/m"}}
    tree = {"models": [{"name": name, "card": name} | said for name in cards]}
    path.write_text(yaml.safe_dump(tree | {"fleet": {"secret_file": "/s"}}), "utf-8")
    specs = plan.cluster(load(path, {}), plan.Wish(device="cpu")).engines
    for card, spec in zip(cards.values(), specs, strict=True):
        assert spec.probe is not None
        assert spec.reasoning_parser == card.serving.reasoning_parser
        assert spec.tool_parser == card.serving.tool_parser
        if card.thinking.mode == "switchable":
            assert spec.probe.template == card.thinking.off
        if card.thinking.mode == "always":
            assert spec.probe.max_tokens == THOUGHT_TOKENS


def test_flags_that_have_no_field_travel_behind_the_others():
    assert spec_fields(()) == {"tool_parser": None, "reasoning_parser": None, "extra_args": ()}


def test_models_show_knows_the_cards_of_the_settings(tmp_path):
    (tmp_path / "acme-8b.yaml").write_text("extends: qwen3-8b\nname: Acme 8B\n", "utf-8")
    config = tmp_path / "c"
    config.write_text(f"cards_dir: {tmp_path}\nstate_dir: {tmp_path}\n", "utf-8")
    shown = CliRunner().invoke(app, ["models", "--config", str(config), "show", "acme-8b"])
    assert shown.exit_code == 0, shown.output
    assert "Acme 8B" in shown.output


def test_a_wrong_spec_field_beside_a_card_is_named(tmp_path):
    with pytest.raises((ProblemError, ValueError), match="colour"):
        spec_of(tmp_path, "gpu", card="qwen3-8b", gpu="h100-80", engine={"spec": {"colour": "red"}})


def test_the_launcher_says_to_vllm_what_the_catalogue_was_checked_with():
    host = {"--load-format", "--max-lora-rank", "--max-loras", "--max-cpu-loras"}
    for case in itertools.islice(cases(KNOWN), 0, None, 25):
        found = case.flags(Start(path="/m", name="m"))
        if isinstance(found, Refused):
            continue
        fields = {"model_name": "m", "model_path": "/m", "secret_path": "/s"} | gpu_fields(found)
        argv = arguments(engine_spec(fields), None)
        launched = dict(pairs(argv))
        for flag in found.arguments:
            if flag.name in host:
                continue
            value = launched[flag.name]
            assert value == flag.value or json.loads(value or "") == json.loads(flag.value or "")
        assert argv.count("--gpu-memory-utilization") == 1
