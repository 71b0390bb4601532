"""Follows docs/add-a-model.md: writes its files, reads them as it says, and sees what comes out."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from ballast.cli import app
from models import gpu as gpus
from models.catalog import Catalog, CatalogError, load
from models.flags import Flags, flags
from models.layout import Layout
from models.memory import Fits, fit
from serving.settings import load as load_settings

PAGE = (Path(__file__).resolve().parents[2] / "docs/add-a-model.md").read_text("utf-8")
FILES = dict(re.findall(r"```yaml\n# (\S+)\n(.*?)```", PAGE, re.S))
COMMANDS = re.findall(r"```console\n(.*?)```", PAGE, re.S)[0].splitlines()
TOLD = re.findall(r"```text\n(.*?)```", PAGE, re.S)[0].splitlines()
NEW = ("acme-support-8b", "qwen2.5-7b-instruct")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The page's files, in a folder from which `ballast` is started."""
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def catalog(folder: Path) -> Catalog:
    cards_dir = load_settings(folder / "ballast.yaml", {}).cards_dir
    assert cards_dir is not None
    return load(cards_dir)


def test_the_page_adds_the_models_that_it_writes(catalog):
    assert set(catalog.cards) - set(load().cards) == set(NEW)
    cards = {"cards/qwen3-8b.yaml", *(f"cards/{n}.yaml" for n in NEW)}
    assert set(FILES) == {"ballast.yaml", "serve.yaml", "try.yaml", *cards}


def test_a_model_like_one_we_know_inherits_what_it_leaves_out(catalog):
    tuned, known = catalog.card("acme-support-8b"), catalog.card("qwen3-8b")
    assert tuned.shape == known.shape
    assert tuned.serving == known.serving
    assert list(tuned.variants) == ["bf16"]
    assert tuned.variants["bf16"].huggingface == "acme/support-8b"
    assert catalog.variant("acme/support-8b") == (tuned, "bf16")


def test_a_model_like_none_is_no_less_a_card(catalog):
    card = catalog.card("Qwen/Qwen2.5-7B-Instruct")
    assert card.shape.kv_bytes == 2 * 28 * 4 * 128 * 2
    assert card.variants["bf16"].modelscope == "Qwen/Qwen2.5-7B-Instruct"


def test_a_measured_number_lies_over_the_packaged_one(catalog):
    laid = catalog.card("qwen3-8b").variants["bf16"]
    assert laid.weights_gib == 15.26
    assert laid.is_measured
    assert laid.huggingface == load().card("qwen3-8b").variants["bf16"].huggingface


@pytest.mark.parametrize("name", NEW)
@pytest.mark.parametrize("kind", ["a100-40", "a100-80", "h100-80", "h200-141"])
def test_the_new_models_fit_one_gpu_of_each_kind(catalog, name, kind):
    layout = Layout(card=name, variant="bf16", gpu=kind)
    found = fit(catalog.card(name), gpus.load().gpu(kind), layout)
    assert isinstance(found, Fits), found
    assert found.kv_tokens > layout.context_tokens


def test_a_wrong_file_is_told_as_the_page_says(folder):
    path = folder / "cards/acme-support-8b.yaml"
    wrong = yaml.safe_load(path.read_text("utf-8"))
    wrong["colour"] = "red"
    wrong["life"]["successor"] = "qwen9"
    path.write_text(yaml.safe_dump(wrong), "utf-8")
    with pytest.raises(CatalogError) as caught:
        load(Path("cards"))
    assert str(caught.value).splitlines() == TOLD


@pytest.mark.parametrize("command", COMMANDS)
def test_the_commands_of_the_page_answer(folder, command):
    result = CliRunner().invoke(app, command.split()[1:])
    assert result.exit_code == 0, result.output
    assert "Acme Support 8B" in result.output


@pytest.mark.parametrize("name", NEW)
def test_the_new_models_start_with_their_own_weights_and_parsers(catalog, name):
    card, kind = catalog.card(name), gpus.load().gpu("h100-80")
    found = flags(card, kind, Layout(card=name, variant="bf16", gpu=kind.id))
    assert isinstance(found, Flags), found
    assert found.value("--model") == card.variants["bf16"].huggingface
    assert found.value("--served-model-name") == name
    assert found.value("--tool-call-parser") == "hermes"
    assert found.value("--reasoning-parser") == card.serving.reasoning_parser


def test_the_new_model_is_served_as_the_page_says(folder):
    (model,) = load_settings(folder / "serve.yaml", {}).models
    assert (model.card, model.variant, model.gpu) == ("acme-support-8b", "bf16", "a100-40")
    assert model.engine is not None
    assert model.engine.source == "hf:acme/support-8b"
    assert model.profile == "acme-support-8b/bf16@1xa100-40"


def test_a_card_is_tried_with_small_weights_as_the_page_says(folder):
    (model,) = load_settings(folder / "try.yaml", {}).models
    assert model.engine is not None
    assert (model.engine.source, model.engine.max_model_len) == ("/models/tiny-qwen3", 2048)
