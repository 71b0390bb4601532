"""The layout of a card when only a part of it was said: the fewest GPUs, one way that fits. Pure.

`rank` looks for the cheapest within an objective; this is for who already knows the GPU and wants
an engine that starts.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from models.card import Card
from models.gates import settled
from models.gpu import NODE_GPUS, Gpu
from models.layout import Feature, Layout
from models.memory import DoesNotFit, fit
from models.sizing import within_states

CONTEXT_TOKENS = 32_768
SEQUENCES = 256
COUNTS = tuple(1 << power for power in range(NODE_GPUS.bit_length()))


class Given(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What of a layout somebody has said; zero or None leaves it to `choose`."""

    variant: str = ""
    """Empty: the card's first."""
    gpus: int = 0
    """Of the engine; 0: the fewest."""
    tensor: int = 0
    data: int = 0
    is_expert_parallel: bool | None = None
    context_tokens: int = 0
    sequences: int = 0
    batched_tokens: int = 0
    memory_share: float = 0.92
    features: frozenset[Feature] = frozenset({"prefix_caching"})


def choose(card: Card, gpu: Gpu, given: Given) -> Layout | DoesNotFit:
    """The first layout that fits, of those that agree with `given`; else why the last did not."""
    if given.variant and given.variant not in card.variants:
        has = ", ".join(card.variants)
        return DoesNotFit((f"no variant {given.variant!r}; {card.id} has {has}",))
    why = DoesNotFit((f"no way to lie on {given.gpus or NODE_GPUS} GPUs agrees with what is said",))
    for layout in _ways(card, gpu, given):
        wanted = settled(card, gpu, layout).layout
        if not given.sequences:
            wanted = within_states(card, gpu, wanted)
        found = fit(card, gpu, wanted)
        if not isinstance(found, DoesNotFit):
            return msgspec.structs.replace(layout, sequences=wanted.sequences)
        why = found
    return why


def splits(card: Card, count: int) -> Iterator[tuple[int, int, bool]]:
    """(tensor, data, experts whole) on so many GPUs: plain first, then what only experts can."""
    yield count, 1, False
    if not card.is_moe or count == 1:
        return
    for data in (n for n in COUNTS if n <= count):
        for whole in (True, False):
            if data > 1 or whole:
                yield count // data, data, whole


def _ways(card: Card, gpu: Gpu, given: Given) -> Iterator[Layout]:
    batched = given.batched_tokens or gpu.vllm.max_num_batched_tokens
    speculation = card.serving.speculation
    guessed = speculation.tokens if speculation and "speculation" in given.features else 0
    most = min(SEQUENCES, gpu.vllm.max_num_seqs, batched // (1 + guessed))
    for count in (given.gpus,) if given.gpus else COUNTS:
        for tensor, data, whole in splits(card, count):
            if (
                given.tensor in (0, tensor)
                and given.data in (0, data)
                and given.is_expert_parallel in (None, whole)
            ):
                yield Layout(
                    card=card.id,
                    variant=given.variant or next(iter(card.variants)),
                    gpu=gpu.id,
                    tensor=tensor,
                    data=data,
                    is_expert_parallel=whole,
                    context_tokens=given.context_tokens or context_of(card),
                    sequences=given.sequences or most,
                    batched_tokens=batched,
                    memory_share=given.memory_share,
                    features=given.features,
                )


def context_of(card: Card) -> int:
    """Tokens of context that an engine takes when nobody says."""
    return min(CONTEXT_TOKENS, card.context.offered_max or card.context.native)
