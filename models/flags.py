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
from models.flag import Flag, Variable, collect, pairs
from models.flag_features import cache, features, guessed, per_rank
from models.gpu import NATIVE_FP8_SM, Gpu
from models.layout import Layout
from models.memory import DoesNotFit, fit
from models.worded import Worded

VLLM: Final = "0.32.0"
"""The release these flags are for; cards that need a later one are refused."""
LOAD: Final = ("--load-format", "safetensors")
READY_S_MIN: Final = 600
"""vLLM's own wait for its core."""
READ_GIB_PER_S: Final = 0.25
"""ASSUMED of a cold network volume, for the longest wait; remembered starts are shorter."""


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
    always = Worded("flag.always", "{card} starts like that everywhere", card=card.id)
    return collect(
        (
            *_weights(card, layout, start),
            *_sizes(card, gpu, layout),
            *_spread(card, layout),
            *cache(card, layout),
            *features(card, layout, start.lora),
            *dialect(card, layout),
            *_kernels(card, gpu, layout),
            *(Flag(name, value, always) for name, value in pairs(card.serving.args)),
            *_mended(card, gpu, layout),
        )
    )


def _refusals(card: Card, layout: Layout) -> Iterator[str]:
    if _release(card.serving.vllm_min) > _release(VLLM):
        template, least = "it needs vLLM {least}; ours is {ours}", card.serving.vllm_min
        yield Worded("flag.release", template, least=least, ours=VLLM)
    per_step = per_rank(layout) * (1 + guessed(card, layout))
    if layout.batched_tokens < per_step:
        template = "{tokens} tokens a step are fewer than the {needed} that {count} sequences take"
        tokens, count = layout.batched_tokens, per_rank(layout)
        yield Worded("flag.step", template, tokens=tokens, needed=per_step, count=count)


def _weights(card: Card, layout: Layout, start: Start) -> Iterator[Flag]:
    variant = card.variants[layout.variant]
    path = start.path or variant.huggingface
    yield Flag("--model", path, f"{card.name}, {variant.format}")
    if path == variant.huggingface and variant.revision is not None:
        yield Flag(
            "--revision",
            variant.revision,
            Worded("flag.revision", "the commit that the card was checked against"),
        )
    yield Flag(
        "--served-model-name", start.name or card.id, Worded("flag.name", "what requests call it")
    )
    for name, value in pairs(start.load):
        yield Flag(
            name, value, Worded("flag.safe", "how the host reads weights; never pickle files")
        )
    if card.serving.trust_remote_code is not None:
        yield Flag("--trust-remote-code", None, card.serving.trust_remote_code)
    yield Flag("--dtype", "bfloat16", _why_dtype(variant.format))


def _why_dtype(weights: str) -> str:
    if weights == "bf16":
        return Worded("flag.plain", "as the weights are")
    template = "of activations; that weights are {format} stands in the repository's config.json"
    return Worded("flag.dtype", template, format=weights)


def _sizes(card: Card, gpu: Gpu, layout: Layout) -> Iterator[Flag]:
    native, most, ranks, states = card.context.native, per_rank(layout), "", ""
    if layout.data > 1:
        template = " on each of {count} data-parallel ranks"
        ranks = Worded("flag.ranks", template, count=layout.data)
    if card.shape.is_hybrid:
        states = Worded("flag.states", ", as far as recurrent states leave room")
    template = "prompt and answer; native are {native}"
    yield Flag("--max-model-len", str(layout.context_tokens),
               Worded("flag.context", template, native=native))  # fmt: skip
    guess = _guess(gpu, gpu.vllm.max_num_seqs)
    template = "at once{ranks}{states}; {guess}"
    said = Worded("flag.sequences", template, ranks=ranks, states=states, guess=guess)
    yield Flag("--max-num-seqs", str(most), said)
    guess = _guess(gpu, gpu.vllm.max_num_batched_tokens)
    yield Flag("--max-num-batched-tokens", str(layout.batched_tokens),
               Worded("flag.tokens", "of one step; {guess}", guess=guess))  # fmt: skip
    template = "share of each GPU's memory that the layout was counted with"
    yield Flag("--gpu-memory-utilization", f"{layout.memory_share:g}",
               Worded("flag.share", template))  # fmt: skip


def _guess(gpu: Gpu, count: int) -> str:
    template = "vLLM would guess {count} from the name {gpu}, and otherwise where it sees no GPU"
    return Worded("flag.guess", template, count=count, gpu=repr(gpu.name))


def _spread(card: Card, layout: Layout) -> Iterator[Flag]:
    yield Flag("--tensor-parallel-size", str(layout.tensor),
               Worded("flag.tensor", "GPUs that share each layer"))  # fmt: skip
    yield Flag("--data-parallel-size", str(layout.data),
               Worded("flag.copies", "copies of the attention; experts are shared"))  # fmt: skip
    if card.is_moe:
        whole = layout.is_expert_parallel
        name = "--enable-expert-parallel" if whole else "--no-enable-expert-parallel"
        yield Flag(name, None, Worded("flag.whole", "experts lie whole on GPUs")
                   if whole else Worded("flag.cut", "experts are cut"))  # fmt: skip
    template = "one machine, whose GPUs Ray has given to this one process"
    yield Flag("--distributed-executor-backend", "mp" if layout.tensor > 1 else "uni",
               Worded("flag.one_machine", template))  # fmt: skip


def _kernels(card: Card, gpu: Gpu, layout: Layout) -> Iterator[Flag]:
    is_fp8 = card.variants[layout.variant].format.startswith("fp8")
    if card.is_moe and is_fp8 and gpu.sm < NATIVE_FP8_SM:
        template = "no other kernel takes FP8 experts below {least} (#54318)"
        yield Flag("--moe-backend", "marlin",
                   Worded("flag.marlin", template, least=NATIVE_FP8_SM))  # fmt: skip


def _mended(card: Card, gpu: Gpu, layout: Layout) -> Iterator[Flag]:
    for args, reason in gates.added(card, gpu, layout):
        for name, value in pairs(args):
            yield Flag(name, value, reason)


def _environment(card: Card, layout: Layout) -> tuple[Variable, ...]:
    said = card.serving.env
    always = Worded("flag.always", "{card} starts like that everywhere", card=card.id)
    weights_gib = card.variants[layout.variant].weights_gib
    longest_s = READY_S_MIN + weights_gib / READ_GIB_PER_S
    ready_s = max(int(said.get("VLLM_ENGINE_READY_TIMEOUT_S", 0)), round(longest_s))
    template = "{most} s are too few for weights of {gib} GiB from a cold volume"
    return (
        Variable("VLLM_ENGINE_READY_TIMEOUT_S", str(ready_s),
                 Worded("flag.ready", template, most=READY_S_MIN, gib=f"{weights_gib:g}")),
        *(
            Variable(name, value, always)
            for name, value in said.items()
            if name != "VLLM_ENGINE_READY_TIMEOUT_S"
        ),
    )  # fmt: skip


def _release(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))
