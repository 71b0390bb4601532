"""Several models on one or two GPUs: seated within the memory, or refused with the numbers."""

from __future__ import annotations

import pytest

from models import catalog, gpu
from models.sharing import SHARE_MAX, NotShared, Shared, Wish, share

CARDS = catalog.load().cards
KINDS = gpu.load()


def wish(name: str, variant: str = "fp8", *, rare: bool = False, **more: int) -> Wish:
    return Wish(CARDS[name], variant, is_rare=rare, **more)


def shared(kind: str, count: int, *wishes: Wish) -> Shared:
    found = share(KINDS.gpu(kind), count, wishes)
    assert isinstance(found, Shared), found
    return found


def claimed(found: Shared, index: int) -> float:
    """Shares of one GPU's memory that are in use together, the largest rare one counted once."""
    here = [seat for seat in found.seats if index in seat.gpus]
    awake = sum(seat.layout.memory_share for seat in here if not seat.wish.is_rare)
    turns = [seat.layout.memory_share for seat in here if seat.wish.is_rare]
    return awake + max(turns, default=0.0)


def test_models_always_wanted_split_the_memory_and_nothing_is_claimed_twice():
    found = shared(
        "h100-80", 1, wish("qwen3-8b", "bf16"), wish("qwen3-embedding-0.6b", "bf16"),
        wish("qwen3-reranker-0.6b", "bf16"),
    )  # fmt: skip
    assert claimed(found, 0) <= SHARE_MAX + 0.001
    assert all(seat.fits.sequences >= seat.wish.sequences for seat in found.seats)
    assert found.host_gib == 0


def test_rare_models_take_turns_in_what_is_left_and_sleep_in_host_memory():
    awake = wish("qwen3-32b")
    pair = [wish("qwen3-14b"), wish("qwen3.5-9b", "bf16")]
    assert isinstance(share(KINDS.gpu("h100-80"), 1, [awake, *pair]), NotShared)
    found = shared(
        "h100-80", 1, awake, wish("qwen3-14b", rare=True), wish("qwen3.5-9b", "bf16", rare=True)
    )
    assert claimed(found, 0) <= SHARE_MAX + 0.001
    assert found.host_gib == pytest.approx(15.2 * 1.02 + 18.0 * 1.02, rel=0.01)
    assert any("hybrid" in text for text in found.cautions)


def test_a_refusal_says_what_each_needs_and_how_much_is_missing():
    found = share(KINDS.gpu("a100-80"), 1, [wish("qwen3-32b"), wish("qwen3-30b-a3b")])
    assert isinstance(found, NotShared)
    (reason,) = found.reasons
    assert "qwen3-32b/fp8 " in reason
    assert "it has 75.2" in reason
    assert "GiB short" in reason


def test_two_gpus_seat_what_one_cannot():
    both = [wish("qwen3-32b"), wish("qwen3-30b-a3b")]
    found = shared("a100-80", 2, *both)
    assert all(claimed(found, index) <= SHARE_MAX + 0.001 for index in (0, 1))
    assert min(found.free_gib) >= 0


def test_a_model_may_lie_over_both_gpus():
    found = shared("a100-80", 2, wish("qwen3-32b", "bf16"))
    (seat,) = found.seats
    assert seat.gpus == (0, 1)
    assert seat.layout.tensor == 2


def test_what_no_kernel_runs_is_refused_before_memory_is_counted():
    found = share(KINDS.gpu("a100-80"), 1, [wish("glm-5.3-flash")])
    assert isinstance(found, NotShared)
    assert any("compute capability 90" in reason for reason in found.reasons)


@pytest.mark.parametrize(("count", "number"), [(3, 1), (0, 1), (1, 7), (1, 0)])
def test_more_than_it_plans_is_refused(count, number):
    with pytest.raises(ValueError, match="plans up to 6 models on 1 to 2 GPUs"):
        share(KINDS.gpu("h100-80"), count, [wish("qwen3-8b")] * number)
