"""KV memory in blocks, as vLLM 0.32 lays it out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import catalog
from models.pool import Pool, Split, kv_bytes_per_gpu, pool_of
from models.shape import Linear, Shape

GIB = 1 << 30
CPU_BLOCK = 128
"""Tokens, vLLM's default on a CPU."""
CARDS = catalog.load().cards
TINY_HYBRID = Shape(
    attention="gdn_hybrid",
    layers=4,
    attention_layers=1,
    hidden=64,
    heads=4,
    kv_heads=2,
    head_dim=256,
    linear=Linear(
        layers=3, key_heads=2, value_heads=4, key_dim=128, value_dim=128, conv_kernel=4,
        state_dtype="float32",
    ),
    state_bytes_per_sequence=3 * 4 * 128 * 128 * 4,
    source="test",
)  # fmt: skip


def embedded(kv_heads: int = 3, layers: int = 30) -> Shape:
    """The shape of the model that ships with us."""
    return Shape(
        attention="gqa", layers=layers, attention_layers=layers, hidden=576, heads=9,
        kv_heads=kv_heads, head_dim=64, source="test",
    )  # fmt: skip


def tiny(kv_heads: int | None, width: int) -> Shape:
    """Two layers with `kv_heads`, or with a latent of that width."""
    return Shape(
        attention="gqa" if kv_heads else "mla", layers=2, attention_layers=2, hidden=64, heads=4,
        kv_heads=kv_heads or 1, head_dim=width, source="test",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("card", "tensor", "expected_kib"),
    [
        ("qwen3-32b", 1, 256),
        ("qwen3-32b", 2, 128),
        ("qwen3-32b", 8, 32),
        ("qwen3.5-35b-a3b", 1, 20),
        ("qwen3.5-35b-a3b", 2, 10),
        ("qwen3.5-35b-a3b", 8, 10),  # two heads: copies beyond TP 2
        ("glm-4.7-flash", 4, 52.875),  # a latent lies whole on each GPU
    ],
)
def test_kv_of_a_token_is_shared_out_by_heads_and_latents_are_copied(card, tensor, expected_kib):
    found = kv_bytes_per_gpu(CARDS[card].shape, Split(tensor=tensor))
    assert found / 1024 == pytest.approx(expected_kib)


def test_fp8_halves_the_kv_and_a_sparse_latent_keeps_656_of_1152_bytes():
    assert kv_bytes_per_gpu(CARDS["qwen3-32b"].shape, Split(is_fp8=True)) == 128 * 1024
    glm = CARDS["glm-5"].shape
    latent = kv_bytes_per_gpu(glm, Split(is_fp8=True)) - glm.indexer_bytes_per_token
    assert latent == pytest.approx(78 * 656)


REPORTED = {
    # vLLM 0.32 on a CPU, VLLM_CPU_KVCACHE_SPACE=1, BF16: what it logged as `CPU KV cache size`.
    "the embedded model": (embedded(), 2048, 46_592),
    "Qwen3, tiny": (tiny(2, 128), 1024, 524_288),
    "GLM-4.7-Flash, tiny": (tiny(None, 576), 1024, 466_032),
    "Qwen3-Next, tiny": (TINY_HYBRID, 1024, 209_715),
}


@pytest.mark.parametrize(("shape", "context", "logged"), REPORTED.values(), ids=REPORTED)
def test_the_tokens_are_those_that_vllm_logged_on_a_cpu(shape, context, logged):
    pool = pool_of(shape, Split(alignment=CPU_BLOCK))
    assert pool.reported(GIB, context) == pytest.approx(logged, rel=1e-3)


def test_a_hybrid_s_block_holds_one_recurrent_state():
    pool = pool_of(TINY_HYBRID, Split(alignment=32))
    state = 4 * 128 * 128 * 4 + 3 * 1024 * 2  # FP32 state and BF16 convolution of one layer
    assert pool.block_tokens == 160
    assert pool.block_bytes == 160 * 2048 >= state > 128 * 2048
    assert pool.state_blocks == 3 * 2


def test_a_hybrid_holds_one_state_more_for_the_prefix_cache_and_for_each_guessed_token():
    without = pool_of(TINY_HYBRID, Split(has_prefix_cache=False))
    guessing = pool_of(TINY_HYBRID, Split(has_prefix_cache=False, speculated=2))
    assert (without.state_blocks, guessing.state_blocks) == (3, 9)


def test_the_27b_takes_144_mib_of_state_and_blocks_of_about_800_tokens():
    pool = pool_of(CARDS["qwen3.5-27b"].shape, Split(has_prefix_cache=False))
    assert pool.state_blocks == 3
    assert pool.state_blocks * pool.block_bytes == pytest.approx(144 * (1 << 20), rel=0.04)


@given(st.integers(0, 1 << 36), st.integers(1, 300_000), st.integers(0, 6))
def test_sequences_never_hold_more_than_the_budget(budget, context, states):
    pool = Pool(block_tokens=16, block_bytes=4096, state_blocks=states)
    count = pool.sequences(budget, context)
    assert count * pool.needed(context) * pool.block_bytes <= budget
    assert (count + 1) * pool.needed(context) > pool.blocks(budget) or count > 0 or not budget
    assert pool.tokens(budget, count) <= pool.blocks(budget) * 16
