"""How vLLM starts a card on GPUs: every flag and variable with its reason, or a refusal. Pure.

What vLLM would guess from the GPU's name (`--max-num-seqs`, `--max-num-batched-tokens`) is always
said: a process that sees no GPU guesses for the wrong one. Flags of vLLM 0.32; its own parser and
configuration are asked about every one of them (`docs/engine-flags.md`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec

from models import gates
from models.card import Card
from models.dialect import dialect
from models.flag import Flag, Variable, collect, compact, pairs
from models.gpu import NATIVE_FP8_SM, Gpu
from models.layout import Layout
from models.memory import DoesNotFit, fit

VLLM: Final = "0.32.0"
"""The release these flags are for; cards that need a later one are refused."""
LOAD: Final = ("--load-format", "safetensors")
READY_S_MIN: Final = 600
"""vLLM's own wait for its core."""
READ_GIB_PER_S: Final = 0.25
"""ASSUMED of a cold network volume, for the longest wait; remembered starts are shorter."""
GRAPH_TOKENS_MAX: Final = 512
"""vLLM's own limit of CUDA graphs below data-centre Blackwell."""


class Start(msgspec.Struct, frozen=True):
    """What the host of an engine decides."""

    path: str = ""
    """Folder of the weights; empty: the variant's name on Hugging Face."""
    name: str = ""
    """What requests call it; empty: the card's id."""
    load: tuple[str, ...] = LOAD
    """Flags of the way the weights are read."""
    lora: tuple[int, int, int] = (16, 4, 16)
    """Highest rank, adapters in one step, adapters kept in host memory."""


class Flags(msgspec.Struct, frozen=True):
    """How it starts."""

    arguments: tuple[Flag, ...]
    environment: tuple[Variable, ...]
    layout: Layout
    """With the features that may stay."""
    cautions: tuple[str, ...] = ()

    @property
    def argv(self) -> list[str]:
        """As on vLLM's command line."""
        return [word for flag in self.arguments for word in flag.words]

    def value(self, name: str) -> str | None:
        """Of the flag with that name; None when it has none or is not given."""
        return next((flag.value for flag in self.arguments if flag.name == name), None)


class Refused(msgspec.Struct, frozen=True):
    """It cannot start like that."""

    reasons: tuple[str, ...]


def flags(card: Card, gpu: Gpu, layout: Layout, start: Start | None = None) -> Flags | Refused:
    """Flags of an engine. Raises KeyError when the card has no such variant."""
    settled = gates.settled(card, gpu, layout)
    layout = settled.layout
    fits = fit(card, gpu, layout)
    reasons = [*fits.reasons] if isinstance(fits, DoesNotFit) else []
    reasons += _refusals(card, layout)
    if reasons or isinstance(fits, DoesNotFit):
        return Refused(tuple(reasons))
    return Flags(
        arguments=said(card, gpu, layout, start or Start()),
        environment=_environment(card, layout),
        layout=layout,
        cautions=(*settled.dropped, *fits.cautions),
    )


def said(card: Card, gpu: Gpu, layout: Layout, start: Start) -> tuple[Flag, ...]:
    """The flags of a settled layout, whether or not it can start."""
    always = f"{card.id} starts like that everywhere"
    return collect(
        (
            *_weights(card, layout, start),
            *_sizes(card, gpu, layout),
            *_spread(card, layout),
            *_cache(card, layout),
            *_features(card, layout, start),
            *dialect(card, layout),
            *_kernels(card, gpu, layout),
            *(Flag(name, value, always) for name, value in pairs(card.serving.args)),
            *_mended(card, gpu, layout),
        )
    )


def _refusals(card: Card, layout: Layout) -> Iterator[str]:
    if _release(card.serving.vllm_min) > _release(VLLM):
        yield f"it needs vLLM {card.serving.vllm_min}; ours is {VLLM}"
    per_step = _per_rank(layout) * (1 + _guessed(card, layout))
    if layout.batched_tokens < per_step:
        yield (
            f"{layout.batched_tokens} tokens a step are fewer than the {per_step} that "
            f"{_per_rank(layout)} sequences take"
        )


def _weights(card: Card, layout: Layout, start: Start) -> Iterator[Flag]:
    variant = card.variants[layout.variant]
    path = start.path or variant.huggingface
    yield Flag("--model", path, f"{card.name}, {variant.format}")
    if path == variant.huggingface and variant.revision is not None:
        yield Flag("--revision", variant.revision, "the commit that the card was checked against")
    yield Flag("--served-model-name", start.name or card.id, "what requests call it")
    for name, value in pairs(start.load):
        yield Flag(name, value, "how the host reads weights; never pickle files")
    if card.serving.trust_remote_code is not None:
        yield Flag("--trust-remote-code", None, card.serving.trust_remote_code)
    yield Flag("--dtype", "bfloat16", _why_dtype(variant.format))


def _why_dtype(weights: str) -> str:
    if weights == "bf16":
        return "as the weights are"
    return f"of activations; that weights are {weights} stands in the repository's config.json"


def _sizes(card: Card, gpu: Gpu, layout: Layout) -> Iterator[Flag]:
    guess = f"vLLM would guess %d from the name {gpu.name!r}, and otherwise where it sees no GPU"
    yield Flag("--max-model-len", str(layout.context_tokens),
               f"prompt and answer; native are {card.context.native}")  # fmt: skip
    states = ", as far as recurrent states leave room" if card.shape.is_hybrid else ""
    ranks = f" on each of {layout.data} data-parallel ranks" if layout.data > 1 else ""
    yield Flag("--max-num-seqs", str(_per_rank(layout)),
               f"at once{ranks}{states}; {guess % gpu.vllm.max_num_seqs}")  # fmt: skip
    yield Flag("--max-num-batched-tokens", str(layout.batched_tokens),
               f"of one step; {guess % gpu.vllm.max_num_batched_tokens}")  # fmt: skip
    yield Flag("--gpu-memory-utilization", f"{layout.memory_share:g}",
               "share of each GPU's memory that the layout was counted with")  # fmt: skip


def _spread(card: Card, layout: Layout) -> Iterator[Flag]:
    yield Flag("--tensor-parallel-size", str(layout.tensor),
               "GPUs that share each layer")  # fmt: skip
    yield Flag("--data-parallel-size", str(layout.data),
               "copies of the attention; experts are shared")  # fmt: skip
    if card.is_moe:
        whole = layout.is_expert_parallel
        name = "--enable-expert-parallel" if whole else "--no-enable-expert-parallel"
        yield Flag(name, None, "experts lie whole on GPUs" if whole else "experts are cut")
    yield Flag("--distributed-executor-backend", "mp" if layout.tensor > 1 else "uni",
               "one machine, whose GPUs Ray has given to this one process")  # fmt: skip


def _cache(card: Card, layout: Layout) -> Iterator[Flag]:
    if "fp8_kv" in layout.features:
        dtype = "fp8_ds_mla" if card.shape.attention == "mla_dsa" else "fp8"
        yield Flag("--kv-cache-dtype", dtype, "asked for: twice the tokens, a little accuracy")
    else:
        yield Flag("--kv-cache-dtype", "bfloat16", "as memory was counted, whatever the weights")
    if "prefix_caching" in layout.features:
        yield Flag("--enable-prefix-caching", None, "shared beginnings are computed once")
    else:
        yield Flag("--no-enable-prefix-caching", None, "not asked for, or known to go wrong here")
    yield Flag("--enable-chunked-prefill", None, "long prompts must not stop running answers")
    yield Flag("--scheduling-policy", "fcfs",
               "first come, first served: who goes first is the gateway's to say")  # fmt: skip
    if card.shape.is_hybrid:
        tokens = min(GRAPH_TOKENS_MAX, _per_rank(layout) * (1 + _guessed(card, layout)))
        reason = "no graph for more sequences than there are recurrent states (#34571)"
        yield Flag("--max-cudagraph-capture-size", str(tokens), reason)


def _features(card: Card, layout: Layout, start: Start) -> Iterator[Flag]:
    speculation = card.serving.speculation
    if speculation is not None and "speculation" in layout.features:
        config = {"method": speculation.method, "num_speculative_tokens": speculation.tokens}
        yield Flag("--speculative-config", compact(config), "the model's own head guesses ahead")
    if "lora" in layout.features:
        rank, batch, kept = start.lora
        yield Flag("--enable-lora", None, "adapters are served beside the model")
        yield Flag("--max-lora-rank", str(rank), "room reserved for each adapter")
        yield Flag("--max-loras", str(batch), "adapters in one step")
        yield Flag("--max-cpu-loras", str(max(batch, kept)), "adapters kept in host memory")
    if "sleep" in layout.features:
        yield Flag("--enable-sleep-mode", None, "it gives its GPU memory back while it rests")


def _kernels(card: Card, gpu: Gpu, layout: Layout) -> Iterator[Flag]:
    is_fp8 = card.variants[layout.variant].format.startswith("fp8")
    if card.is_moe and is_fp8 and gpu.sm < NATIVE_FP8_SM:
        yield Flag("--moe-backend", "marlin",
                   f"no other kernel takes FP8 experts below {NATIVE_FP8_SM} (#54318)")  # fmt: skip


def _mended(card: Card, gpu: Gpu, layout: Layout) -> Iterator[Flag]:
    for args, reason in gates.added(card, gpu, layout):
        for name, value in pairs(args):
            yield Flag(name, value, reason)


def _environment(card: Card, layout: Layout) -> tuple[Variable, ...]:
    said = card.serving.env
    longest_s = READY_S_MIN + card.variants[layout.variant].weights_gib / READ_GIB_PER_S
    ready_s = max(int(said.get("VLLM_ENGINE_READY_TIMEOUT_S", 0)), round(longest_s))
    return (
        Variable("VLLM_ENGINE_READY_TIMEOUT_S", str(ready_s),
                 f"{READY_S_MIN} s are too few for weights of "
                 f"{card.variants[layout.variant].weights_gib:g} GiB from a cold volume"),
        *(
            Variable(name, value, f"{card.id} starts like that everywhere")
            for name, value in said.items()
            if name != "VLLM_ENGINE_READY_TIMEOUT_S"
        ),
    )  # fmt: skip


def _per_rank(layout: Layout) -> int:
    return -(-layout.sequences // layout.data)


def _guessed(card: Card, layout: Layout) -> int:
    speculation = card.serving.speculation
    return speculation.tokens if speculation and "speculation" in layout.features else 0


def _release(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))
