"""Flags for what a layout asks for beside its sizes: the KV cache, guessing ahead, adapters, sleep.
Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from models.card import Card
from models.flag import Flag, compact
from models.layout import Layout
from models.worded import Worded

GRAPH_TOKENS_MAX: Final = 512
"""vLLM's own limit of CUDA graphs below data-centre Blackwell."""


def cache(card: Card, layout: Layout) -> Iterator[Flag]:
    """How the KV cache is kept, and who goes first."""
    if "fp8_kv" in layout.features:
        dtype = "fp8_ds_mla" if card.shape.attention == "mla_dsa" else "fp8"
        yield Flag(
            "--kv-cache-dtype",
            dtype,
            Worded("flag.fp8_kv", "asked for: twice the tokens, a little accuracy"),
        )
    else:
        yield Flag(
            "--kv-cache-dtype",
            "bfloat16",
            Worded("flag.bf16_kv", "as memory was counted, whatever the weights"),
        )
    if "prefix_caching" in layout.features:
        yield Flag(
            "--enable-prefix-caching",
            None,
            Worded("flag.prefix", "shared beginnings are computed once"),
        )
    else:
        yield Flag(
            "--no-enable-prefix-caching",
            None,
            Worded("flag.no_prefix", "not asked for, or known to go wrong here"),
        )
    yield Flag(
        "--enable-chunked-prefill",
        None,
        Worded("flag.chunked", "long prompts must not stop running answers"),
    )
    template = "first come, first served: who goes first is the gateway's to say"
    yield Flag("--scheduling-policy", "fcfs", Worded("flag.fcfs", template))
    if card.shape.is_hybrid:
        tokens = min(GRAPH_TOKENS_MAX, per_rank(layout) * (1 + guessed(card, layout)))
        template = "no graph for more sequences than there are recurrent states (#34571)"
        yield Flag("--max-cudagraph-capture-size", str(tokens), Worded("flag.graphs", template))


def features(card: Card, layout: Layout, lora: tuple[int, int, int]) -> Iterator[Flag]:
    """What was asked for beside; `lora` is a rank, adapters in one step, and those kept."""
    speculation = card.serving.speculation
    if speculation is not None and "speculation" in layout.features:
        config = {"method": speculation.method, "num_speculative_tokens": speculation.tokens}
        yield Flag(
            "--speculative-config",
            compact(config),
            Worded("flag.guesses", "the model's own head guesses ahead"),
        )
    if "lora" in layout.features:
        rank, batch, kept = lora
        yield Flag(
            "--enable-lora", None, Worded("flag.lora", "adapters are served beside the model")
        )
        yield Flag(
            "--max-lora-rank", str(rank), Worded("flag.lora_room", "room reserved for each adapter")
        )
        yield Flag("--max-loras", str(batch), Worded("flag.lora_step", "adapters in one step"))
        yield Flag(
            "--max-cpu-loras",
            str(max(batch, kept)),
            Worded("flag.lora_kept", "adapters kept in host memory"),
        )
    if "sleep" in layout.features:
        yield Flag(
            "--enable-sleep-mode",
            None,
            Worded("flag.sleep", "it gives its GPU memory back while it rests"),
        )


def per_rank(layout: Layout) -> int:
    """Sequences at once of each data-parallel rank."""
    return -(-layout.sequences // layout.data)


def guessed(card: Card, layout: Layout) -> int:
    """Tokens that a sequence guesses ahead in a step."""
    speculation = card.serving.speculation
    return speculation.tokens if speculation and "speculation" in layout.features else 0
