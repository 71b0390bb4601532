"""Flags of every card on every supported layout: what must hold of all, and the known traps."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache

import msgspec
import pytest

from benchmarks.flag_check.cases import Case, cases
from models import gates, sizing
from models.card import KnownBad, When
from models.choose import Given, choose
from models.dialect import default_sample, hf_overrides
from models.flag import Flag, collect, pairs, plain
from models.flags import READY_S_MIN, Flags, Refused, Start, flags
from models.layout import Layout
from models.memory import DoesNotFit, fit

KNOWN = sizing.load()
ALWAYS = {
    "--model", "--served-model-name", "--load-format", "--dtype", "--max-model-len",
    "--max-num-seqs", "--max-num-batched-tokens", "--gpu-memory-utilization",
    "--tensor-parallel-size", "--data-parallel-size", "--distributed-executor-backend",
    "--kv-cache-dtype", "--enable-prefix-caching", "--enable-chunked-prefill",
    "--scheduling-policy", "--runner",
}  # fmt: skip
JSON = {
    "--hf-overrides", "--speculative-config", "--limit-mm-per-prompt", "--engram-config",
    "--override-generation-config", "--default-chat-template-kwargs",
}  # fmt: skip


@cache
def answered() -> tuple[tuple[Case, Flags | Refused], ...]:
    return tuple((case, case.flags()) for case in cases(KNOWN))


def started() -> Iterator[tuple[Case, Flags]]:
    return ((case, found) for case, found in answered() if isinstance(found, Flags))


def asked(card: str, variant: str, gpu: str, tensor: int = 1, *features: str) -> Flags | Refused:
    kind = KNOWN.gpus.gpu(gpu)
    layout = Layout(
        card=card,
        variant=variant,
        gpu=kind.id,
        tensor=tensor,
        features=frozenset(features),  # type: ignore[arg-type]
        batched_tokens=kind.vllm.max_num_batched_tokens,
    )
    return flags(KNOWN.catalog.card(card), kind, layout)


def starts(*given: object) -> Flags:
    found = asked(*given)  # type: ignore[arg-type]
    assert isinstance(found, Flags), found
    return found


def test_every_card_starts_somewhere_unless_one_machine_cannot_hold_it():
    somewhere = {case.card.id for case, _ in started()}
    assert set(KNOWN.catalog.cards) - somewhere == {"qwen3.8-2.4t-a95b"}
    assert len(list(started())) > 8000


def test_nothing_is_left_for_vllm_to_guess():
    for case, found in started():
        names = {plain(flag.name) for flag in found.arguments}
        assert names >= ALWAYS, (case.name, ALWAYS - names)


def test_no_flag_is_said_twice_and_each_has_its_reason_on_one_line():
    for case, found in started():
        names = [plain(flag.name) for flag in found.arguments]
        assert len(set(names)) == len(names), case.name
        for part in (*found.arguments, *found.environment):
            assert part.reason.strip(), (case.name, part)
            assert "\n" not in part.reason


def test_values_that_are_json_can_be_read():
    for case, found in started():
        for flag in found.arguments:
            assert (flag.name in JSON) == (flag.value or "").startswith("{"), (case.name, flag)
            if flag.name in JSON:
                json.loads(flag.value or "")


def test_hybrids_never_cache_prefixes_while_they_guess_ahead():
    both = 0
    for case, found in started():
        if case.card.shape.attention.startswith("gdn") and "speculation" in case.asked.features:
            both += 1
            assert not (found.value("--speculative-config") and cached(found)), case.name
    assert both > 100


def test_hybrids_do_not_guess_ahead_on_ampere_but_keep_their_prefix_cache():
    found = starts("qwen3.5-122b-a10b", "fp8", "a100-80", 4, "prefix_caching", "speculation")
    assert found.value("--speculative-config") is None
    assert cached(found)
    assert any("without speculation" in caution for caution in found.cautions)


def test_plain_models_guess_ahead_and_cache_prefixes():
    found = starts("glm-4.5-air", "fp8", "h100", 4, "prefix_caching", "speculation")
    guess = json.loads(found.value("--speculative-config") or "")
    assert guess == {"method": "mtp", "num_speculative_tokens": 1}
    assert cached(found)


def test_states_bound_the_sequences_and_the_graphs_of_hybrids():
    for case, found in started():
        fits = fit(case.card, case.gpu, found.layout)
        assert not isinstance(fits, DoesNotFit)
        ranks = found.layout.data
        at_once = int(found.value("--max-num-seqs") or 0)
        assert at_once * ranks <= fits.sequences_max + ranks - 1, case.name
        graph = found.value("--max-cudagraph-capture-size")
        assert (graph is not None) == case.card.shape.is_hybrid
        if graph is not None:
            assert int(graph) <= at_once * (1 + guessed(found)), case.name


def test_a_step_has_room_for_every_sequence_and_its_guesses():
    for case, found in started():
        at_once = int(found.value("--max-num-seqs") or 0)
        per_step = at_once * (1 + guessed(found))
        assert int(found.value("--max-num-batched-tokens") or 0) >= per_step, case.name


def test_ampere_gets_marlin_for_fp8_experts_and_no_fp8_cache():
    experts = 0
    for case, found in started():
        if case.gpu.sm >= 89:
            continue
        assert found.value("--kv-cache-dtype") == "bfloat16", case.name
        is_fp8 = case.card.variants[case.asked.variant].format.startswith("fp8")
        if case.card.is_moe and is_fp8:
            experts += 1
            assert found.value("--moe-backend") == "marlin", case.name
    assert experts > 200
    refused = asked("qwen3-32b", "bf16", "a100-80", 2, "fp8_kv")
    assert isinstance(refused, Refused)
    assert "FP8 KV cache" in refused.reasons[0]


def test_sparse_latent_attention_is_refused_below_hopper():
    for card in ("glm-5", "glm-5.1", "glm-5.2", "glm-5.3", "glm-5.3-flash"):
        found = asked(card, "fp8", "a100-80", 8)
        assert isinstance(found, Refused)
        assert any("90" in reason or "9.0" in reason for reason in found.reasons)
    assert starts("glm-4.7-flash", "bf16", "a100-80", 2)  # dense latent attention has a kernel


def test_experts_too_narrow_for_their_scales_must_lie_whole():
    cut = asked("qwen3.8-flash-next", "fp8", "h200", 8)
    assert isinstance(cut, Refused)
    assert "spread the experts" in cut.reasons[0]
    whole = [
        found for case, found in started()
        if case.card.id == "qwen3.8-flash-next" and case.asked.is_expert_parallel
        and (case.asked.tensor, case.asked.data, case.asked.variant) == (8, 1, "fp8")
    ]  # fmt: skip
    assert whole
    assert all("--enable-expert-parallel" in found.argv for found in whole)


def test_flash_next_starts_with_its_switches_on_hopper():
    found = starts("qwen3.8-flash-next", "fp8", "h200", 4, "speculation")
    assert json.loads(found.value("--engram-config") or "") == {"cpu_offload": True}
    assert found.value("--moe-backend") == "triton"
    assert "--no-enable-flashinfer-autotune" in found.argv
    assert found.value("--speculative-config") is None


def test_glm_5_reads_content_as_text():
    for card in ("glm-5", "glm-5.1"):
        found = starts(card, "fp8", "h200", 8, "fp8_kv")
        assert found.value("--chat-template-content-format") == "string"
        assert found.value("--kv-cache-dtype") == "fp8_ds_mla"


def test_rerankers_and_embeddings_pool_and_do_not_parse():
    found = starts("qwen3-reranker-0.6b", "bf16", "a100-40")
    assert found.value("--runner") == "pooling"
    overrides = json.loads(found.value("--hf-overrides") or "")
    assert overrides["classifier_from_token"] == ["no", "yes"]
    names = {flag.name for flag in found.arguments}
    assert not names & {"--tool-call-parser", "--reasoning-parser", "--generation-config"}


def test_pictures_are_limited_or_left_out():
    shown = starts("qwen3-vl-8b-instruct", "bf16", "h100", 2)
    assert json.loads(shown.value("--limit-mm-per-prompt") or "") == {"image": 4, "video": 0}
    assert shown.value("--mm-encoder-tp-mode") == "data"
    blind = starts("qwen3.6-27b", "fp8", "h100", 1, "text_only")
    assert "--language-model-only" in blind.argv
    assert blind.value("--limit-mm-per-prompt") is None


def test_a_long_context_is_stretched_and_a_short_one_is_not():
    card = KNOWN.catalog.card("qwen3-32b")
    assert hf_overrides(card, card.context.native) == {}
    stretched = hf_overrides(card, card.context.native + 1)
    assert stretched["max_position_embeddings"] == card.context.stretched
    assert stretched["rope_parameters"]["rope_type"] == "yarn"


def test_vendor_sampling_follows_whether_the_model_thinks_by_default():
    thinks = KNOWN.catalog.card("qwen3-32b")
    assert thinks.sampling is not None
    assert default_sample(thinks) == thinks.sampling.thinking
    plain_speaker = KNOWN.catalog.card("qwen3-4b-instruct-2507")
    assert plain_speaker.sampling is not None
    assert default_sample(plain_speaker) == plain_speaker.sampling.plain
    assert default_sample(KNOWN.catalog.card("qwen3-embedding-8b")) is None


def test_sequences_are_shared_out_over_data_parallel_ranks():
    found = next(
        found for case, found in started()
        if case.asked.data == 8 and case.gpu.id == "h200-141" and case.asked.sequences == 256
    )  # fmt: skip
    assert found.value("--max-num-seqs") == "32"
    assert found.value("--data-parallel-size") == "8"


def test_the_host_says_where_weights_lie_and_what_they_are_called():
    card, kind = KNOWN.catalog.card("qwen3-8b"), KNOWN.gpus.gpu("h100")
    start = Start(path="somewhere/8b", name="chat", load=("--load-format", "runai_streamer"))
    layout = Layout("qwen3-8b", "bf16", kind.id, features=frozenset({"lora"}))
    found = flags(card, kind, layout, start)
    assert isinstance(found, Flags)
    assert found.argv[:4] == ["--model", "somewhere/8b", "--served-model-name", "chat"]
    assert found.value("--load-format") == "runai_streamer"
    assert found.value("--max-lora-rank") == "16"
    assert found.value("--revision") is None


def test_large_weights_get_longer_to_be_ready():
    small, large = starts("qwen3-0.6b", "bf16", "h100"), starts("glm-5", "fp8", "h200", 8)
    assert ready_s(small) - READY_S_MIN < 60
    assert ready_s(large) > 3000


def test_a_card_for_a_later_vllm_is_refused():
    card = KNOWN.catalog.card("qwen3-8b")
    later = card.model_copy(
        update={"serving": card.serving.model_copy(update={"vllm_min": "0.33.0"})}
    )
    found = flags(later, KNOWN.gpus.gpu("h100"), Layout("qwen3-8b", "bf16", "h100-80"))
    assert found == Refused(("it needs vLLM 0.33.0; ours is 0.32.0",))


def test_too_few_tokens_for_a_step_are_refused_with_numbers():
    found = flags(
        KNOWN.catalog.card("glm-4.5-air"),
        KNOWN.gpus.gpu("h100"),
        Layout("glm-4.5-air", "fp8", "h100-80", tensor=4, sequences=200, batched_tokens=256,
               features=frozenset({"speculation"})),
    )  # fmt: skip
    assert found == Refused(("256 tokens a step are fewer than the 400 that 200 sequences take",))


def test_a_rule_about_one_feature_goes_before_a_rule_about_a_pair():
    card = KNOWN.catalog.card("qwen3.5-27b")
    pair = next(bad for bad in card.known_bad if len(bad.when.features) == 2)
    single = KnownBad(
        issue="#1", what="Never.", when=When(features=("speculation",)),
        action="drop_feature", drop="speculation",
    )  # fmt: skip
    reordered = card.model_copy(update={"known_bad": (pair, single)})
    layout = Layout(
        card.id, "fp8", "h100-80", features=frozenset({"prefix_caching", "speculation"})
    )
    found = gates.settled(reordered, KNOWN.gpus.gpu("h100"), layout)
    assert found.layout.features == {"prefix_caching"}
    assert found.dropped == ("without speculation: Never (#1)",)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ((), []),
        (("--a",), [("--a", None)]),
        (("--a", "--b", "1", "--c=2=3"), [("--a", None), ("--b", "1"), ("--c", "2=3")]),
        (("--json", '{"x": 1}'), [("--json", '{"x": 1}')]),
    ],
    ids=["nothing", "a switch", "values", "json"],
)
def test_words_are_read_as_flags(words: tuple[str, ...], expected: list[object]):
    assert list(pairs(words)) == expected


@pytest.mark.parametrize("words", [("stray",), ("--a", "1", "2"), ("--a=1", "2")])
def test_a_word_of_no_flag_is_refused(words: tuple[str, ...]):
    with pytest.raises(ValueError, match="follows no flag"):
        list(pairs(words))


def test_the_later_flag_stands_where_the_earlier_was_said():
    said = [Flag("--enable-x", None, "a"), Flag("--y", "1", "b"), Flag("--no-enable-x", None, "c")]
    assert collect(said) == (Flag("--no-enable-x", None, "c"), Flag("--y", "1", "b"))


def test_the_fewest_gpus_that_hold_a_card_are_chosen():
    card, kind = KNOWN.catalog.card("qwen3-32b"), KNOWN.gpus.gpu("h100")
    found = choose(card, kind, Given())
    assert isinstance(found, Layout)
    assert (found.variant, found.tensor, found.batched_tokens) == ("bf16", 2, 8192)
    quantised = choose(card, kind, Given(variant="fp8"))
    assert isinstance(quantised, Layout)
    assert quantised.tensor == 1


def test_what_is_said_of_a_layout_is_kept():
    card, kind = KNOWN.catalog.card("qwen3-30b-a3b"), KNOWN.gpus.gpu("h200")
    said = Given(
        variant="fp8", gpus=4, data=4, is_expert_parallel=True, context_tokens=8192,
        sequences=64, batched_tokens=4096, memory_share=0.8,
    )  # fmt: skip
    found = choose(card, kind, said)
    assert isinstance(found, Layout)
    kept = msgspec.structs.asdict(found)
    assert {k: kept[k] for k in ("tensor", "data", "sequences", "memory_share")} == {
        "tensor": 1, "data": 4, "sequences": 64, "memory_share": 0.8,
    }  # fmt: skip
    assert found.is_expert_parallel
    assert found.context_tokens == 8192


@pytest.mark.parametrize(
    ("card", "given", "words"),
    [
        ("qwen3-8b", Given(variant="fp4"), "no variant 'fp4'; qwen3-8b has bf16, fp8, awq"),
        ("qwen3-8b", Given(gpus=2, data=2), "no way to lie on 2 GPUs"),
        ("glm-4.5", Given(variant="bf16", gpus=2), "the weights do not fit"),
    ],
    ids=["variant", "split", "memory"],
)
def test_a_layout_that_cannot_be_is_refused_with_the_reason(card: str, given: Given, words: str):
    found = choose(KNOWN.catalog.card(card), KNOWN.gpus.gpu("h100"), given)
    assert isinstance(found, DoesNotFit)
    assert words in found.reasons[0]


def cached(found: Flags) -> bool:
    return "--enable-prefix-caching" in found.argv


def guessed(found: Flags) -> int:
    said = found.value("--speculative-config")
    return int(json.loads(said)["num_speculative_tokens"]) if said else 0


def ready_s(found: Flags) -> int:
    return next(int(v.value) for v in found.environment if v.name == "VLLM_ENGINE_READY_TIMEOUT_S")
