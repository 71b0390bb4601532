"""The loader of cards: inheritance, overlays, look-ups, and what it says about wrong files."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest

from models.catalog import FOLDER, CatalogError, UnknownModelError, load
from models.inherit import FILE_BYTES_MAX

PACKAGED = load()


def write(folder: Path, **files: str) -> Path:
    """YAML files by name; `_` in a keyword is `-` in the file's name."""
    for name, text in files.items():
        (folder / f"{name.replace('_', '-')}.yaml").write_text(dedent(text), encoding="utf-8")
    return folder


def faults(folder: Path) -> list[str]:
    with pytest.raises(CatalogError) as caught:
        load(folder)
    return [line.removeprefix(f"{folder}/") for line in str(caught.value).splitlines()]


def test_a_file_in_the_overlay_folder_adds_a_card(tmp_path):
    write(tmp_path, mine="{extends: qwen3-8b, name: Mine, notes: ours}")
    mine = load(tmp_path).card("mine")
    assert mine.id == "mine"
    assert mine.shape == PACKAGED.card("qwen3-8b").shape
    assert mine.notes == ("ours",)


def test_a_file_of_the_same_name_lies_over_the_packaged_card(tmp_path):
    write(
        tmp_path,
        qwen3_8b="""
        variants:
          bf16: {weights_gib: 15.26, is_measured: true, source: scale}
          awq: null
        sources: {scale: {title: Read off the files, date: 2026-11-22}}
        """,
    )
    laid, packaged = load(tmp_path).card("qwen3-8b"), PACKAGED.card("qwen3-8b")
    assert laid.variants["bf16"].weights_gib == 15.26
    assert laid.variants["bf16"].huggingface == packaged.variants["bf16"].huggingface
    assert laid.variants["fp8"] == packaged.variants["fp8"]
    assert "awq" in packaged.variants
    assert "awq" not in laid.variants


def test_a_base_may_be_laid_over_and_reaches_all_its_cards(tmp_path):
    (tmp_path / "_qwen3-2504.yaml").write_text("{serving: {vllm_min: 0.31.0}}")
    catalog = load(tmp_path)
    assert {catalog.card(f"qwen3-{size}").serving.vllm_min for size in ("4b", "8b")} == {"0.31.0"}
    assert catalog.card("qwen3.5-9b") == PACKAGED.card("qwen3.5-9b")


def test_lists_are_replaced_and_named_traps_are_merged(tmp_path):
    write(
        tmp_path,
        mine="""
        extends: qwen3.5-27b
        notes: [one]
        known_bad:
          sleep: null
          ours: {issue: ours, what: it smells, when: {}, action: warn}
        """,
    )
    mine, base = load(tmp_path).card("mine"), PACKAGED.card("qwen3.5-27b")
    assert mine.notes == ("one",)
    assert len(mine.known_bad) == len(base.known_bad)
    assert [bad.what for bad in mine.known_bad][-1] == "it smells"
    assert not any(bad.when.features == ("sleep",) for bad in mine.known_bad)


def test_off_is_a_key_and_a_bare_day_a_date(tmp_path):
    write(
        tmp_path,
        mine="""
        extends: qwen3-8b
        thinking: {mode: switchable, off: {enable_thinking: false}}
        life: {released: 2026-11-22}
        """,
    )
    mine = load(tmp_path).card("mine")
    assert mine.thinking.off == {"enable_thinking": False}
    assert mine.life.released == "2026-11-22"


def test_the_modelscope_id_follows_from_the_owner_or_is_said(tmp_path):
    write(
        tmp_path,
        mine="""
        extends: glm-4-9b-0414
        variants:
          bf16: {huggingface: me/mine}
          other:
            {huggingface: me/o, modelscope: we/o, format: bf16, weights_gib: 1, source: arith}
        """,
    )
    mine = load(tmp_path).card("mine")
    assert mine.variants["bf16"].modelscope is None
    assert mine.variants["other"].modelscope == "we/o"
    assert PACKAGED.card("glm-5").variants["fp8"].modelscope == "ZhipuAI/GLM-5-FP8"
    assert PACKAGED.card("qwen3-8b").variants["awq"].modelscope == "Qwen/Qwen3-8B-AWQ"


def test_a_card_is_found_by_its_id_and_by_the_hub_id_of_any_variant():
    assert PACKAGED.card("qwen3-8b").name == "Qwen3-8B"
    assert PACKAGED.card("QWEN3-8b").name == "Qwen3-8B"
    assert PACKAGED.variant("qwen/qwen3-8B-awq") == (PACKAGED.card("qwen3-8b"), "awq")
    assert PACKAGED.variant("ZhipuAI/GLM-4.5-Air-FP8") == (PACKAGED.card("glm-4.5-air"), "fp8")


def test_an_unknown_model_is_answered_with_near_names():
    with pytest.raises(UnknownModelError, match=r"did you mean Qwen/Qwen3-8B.*ballast models list"):
        PACKAGED.card("Qwen/Qwen3-8")
    with pytest.raises(UnknownModelError, match="no model 'llama' in the catalogue; `ballast"):
        PACKAGED.card("llama")


def test_a_repository_that_two_cards_serve_is_no_answer(tmp_path):
    write(tmp_path, mine="{extends: qwen3-8b, name: Mine}")
    with pytest.raises(UnknownModelError, match="served by several cards: mine, qwen3-8b"):
        load(tmp_path).card("Qwen/Qwen3-8B")


WRONG = {
    "{extends: qwen3-8b, colour: red}": "colour: Extra inputs are not permitted",
    "{extends: qwen3-8b, shape: {layers: many}}": "shape.layers: Input should be a valid integer",
    # Pydantic places a rule over several keys at their block.
    "{extends: qwen3-8b, shape: {attention_layers: 99}}": (
        "shape: Value error, attention_layers: more of them than layers"
    ),
    "{extends: qwen3-8b, shape: {attention_layers: 9}}": (
        "shape: Value error, attention: a hybrid has fewer attention_layers than layers, no other"
    ),
    "{extends: qwen3-8b, shape: {kv_heads: null}}": (
        "shape: Value error, kv_heads: needed, or kv_bytes_per_token"
    ),
    "{extends: qwen3.5-27b, shape: {linear: {value_heads: 32}}}": (
        "shape: Value error, state_bytes_per_sequence: `linear` gives 100663296"
    ),
    "{extends: qwen3.5-27b, shape: {linear: {layers: 47}}}": (
        "shape: Value error, linear.layers: must be layers - attention_layers"
    ),
    "{extends: qwen3-8b, context: {stretched: null}}": (
        "context: Value error, `stretch` says how to reach `stretched`: both or neither"
    ),
    "{extends: qwen3-8b, context: {stretched: 1000}}": (
        "context: Value error, stretched: must be more than native"
    ),
    "{extends: qwen3-8b, thinking: {mode: never}}": (
        "thinking: Value error, `off` says how to turn thinking off, if and only if it is"
        " switchable"
    ),
    "{extends: nobody}": "extends: no file 'nobody'; a base is named without `.yaml`",
    "{extends: [qwen3-8b]}": "extends: no file ['qwen3-8b']; a base is named without `.yaml`",
    "{extends: mine}": "extends: goes in a circle: mine -> mine",
    "{extends: qwen3-8b, id: other}": "id: 'other', but the file is named mine.yaml",
    "{extends: qwen3-8b, life: {successor: nobody}}": "life.successor: no card 'nobody'",
    "{extends: qwen3-8b, life: {released: soon}}": "life.released: String should match pattern",
    "{extends: qwen3-8b, size: {source: hearsay}}": (
        "size.source: 'hearsay' is neither in sources.yaml nor in the card's own `sources`"
    ),
    "{extends: qwen3-8b, probe: {expect: 'matches:('}}": (
        "probe: Value error, expect: no regular expression"
    ),
    "{extends: qwen3.5-27b, known_bad: {sleep: {drop: sleep}}}": (
        "known_bad.sleep: Value error, `drop` says which, if and only if the action is drop_feature"
    ),
    "{extends: qwen3.5-27b, known_bad: {sleep: {args: [--x]}}}": (
        "known_bad.sleep: Value error, `args` says what to add, if and only if the action is"
        " add_args"
    ),
    "{extends: qwen3-8b, 1: x}": "1: Keys should be strings",
    "{extends: qwen3-8b, name: a, name: b}": "name: given twice, again in line 1",
    "[a, list]": "holds no mapping `key: value`",
    "": "holds no mapping `key: value`",
    "[" * 60_000: "nested too deeply",
    "- " * 30_000: "nested too deeply",
    "name: &a {b: *a}": "an alias, *a, is not read; use `extends`",
    "a: " + "x" * FILE_BYTES_MAX: f"larger than {FILE_BYTES_MAX} bytes",
}


@pytest.mark.parametrize("text", WRONG, ids=[text[:70] for text in WRONG])
def test_a_wrong_file_is_told_by_file_and_key(tmp_path, text):
    write(tmp_path, mine=text)
    (told,) = faults(tmp_path)
    assert told.startswith(f"mine.yaml: {WRONG[text]}")


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"a: b: c", b"{unclosed", b"!!python/x y"])
def test_a_file_that_is_no_yaml_is_named_and_nothing_else_happens(tmp_path, content):
    (tmp_path / "mine.yaml").write_bytes(content)
    assert faults(tmp_path)[0].startswith("mine.yaml: ")


def test_all_faults_of_all_files_are_told_at_once(tmp_path):
    write(
        tmp_path,
        one="""
        extends: qwen3-8b
        colour: red
        size: {total_b: -1, source: hearsay}
        life: {successor: _qwen3}
        """,
        two="{extends: nobody}",
        three="{name: Bare}",
    )
    (tmp_path / "four.yml").write_text("{}")
    (tmp_path / "Five.yaml").write_text("{extends: qwen3-8b}")
    (tmp_path / "_six.yaml").write_text("{}")
    told = faults(tmp_path)
    assert "one.yaml: colour: Extra inputs are not permitted" in told
    assert "one.yaml: size.total_b: Input should be greater than 0" in told
    assert "one.yaml: life.successor: no card '_qwen3'" in told
    assert any(line.startswith("one.yaml: size.source: 'hearsay' is neither") for line in told)
    assert "two.yaml: extends: no file 'nobody'; a base is named without `.yaml`" in told
    assert "three.yaml: licence: Field required" in told
    assert "four.yml: name it four.yaml" in told
    assert any(line.startswith("Five.yaml: the file's name is the card's id") for line in told)
    assert "_six.yaml: no file extends it" in told


def test_a_circle_is_told_of_its_files_and_not_of_those_that_lead_there(tmp_path):
    write(tmp_path, a="{extends: b}", b="{extends: c}", c="{extends: b}")
    assert faults(tmp_path) == [
        "c.yaml: extends: goes in a circle: b -> c -> b",
        "b.yaml: extends: goes in a circle: c -> b -> c",
    ]


def test_a_fault_that_a_base_says_is_told_once_and_of_the_base(tmp_path):
    (tmp_path / "_base.yaml").write_text("{extends: qwen3-8b, shape: {hidden: wide}}")
    write(tmp_path, mine="{extends: _base}", other="{extends: _base}")
    (told,) = faults(tmp_path)
    assert told.startswith("_base.yaml: shape.hidden: Input should be a valid integer")


def test_an_overlay_of_a_card_may_not_move_it_to_another_base(tmp_path):
    write(tmp_path, qwen3_8b="{extends: qwen3-4b}")
    assert faults(tmp_path) == [
        f"qwen3-8b.yaml: extends: it already lies over {FOLDER / 'qwen3-8b.yaml'}; leave this out"
    ]


def test_a_folder_that_is_not_there_is_told(tmp_path):
    with pytest.raises(CatalogError, match="gone: no such folder"):
        load(tmp_path / "gone")
