"""docs/engine-flags.md as text: what the catalogue proposes and what vLLM's own code says. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

import msgspec

from benchmarks.flag_check.tally import Tally, plain
from models.card import KnownBad
from models.flags import VLLM
from models.markdown import code, section, table
from serving.engine.paper.check import STAGES, Verdict

KINDS: Final = ("a100-40", "a100-80", "h100-80", "h200-141")
HEAD: Final = """\
# Engine flags

Written by `python -m benchmarks.flag_check docs/engine-flags.md` (needs the extra `cpu` or `gpu`
and no GPU); the stage to stop at, such as `configuration`, may follow. The flags of one layout:
`ballast models fit MODEL --gpu KIND --flags`.

Every card x variant x supported kind of GPU x 1, 2, 4 or 8 of them x way to spread it (tensor,
data, experts whole or cut) x feature (none, speculation, FP8 KV, LoRA, text only) is put to
`models.flags`, which answers with flags or refuses with a reason. What it accepts goes to the
pinned vLLM {vllm}, whose own code is told that it runs on that GPU (`serving/engine/paper`):

1. **arguments**: the argument parser of `vllm serve`, and what it checks about them together.
2. **parsers**: the tool and reasoning parsers exist under these names.
3. **configuration**: `AsyncEngineArgs.create_engine_config`, with a `config.json` of the model's
   real size.
4. **model**: rank 0 of the model, and of the head that guesses ahead, built with tensors that have
   no bytes: weights are cut for the ranks, every layer chooses its kernels for that GPU. Done once
   for cases that build the same layers.
5. **cache**: vLLM lays keys, values and recurrent states out in the memory that the catalogue
   leaves for them.
"""
UNCHECKED: Final = """\
- That anything *runs*: no kernel is started, no process group made, no CUDA graph captured, nothing
  compiled. A kernel that is chosen here and fails there is not found.
- Memory that only a run shows: activations, CUDA graphs, NCCL, fragmentation. The catalogue counts
  a reserve for them, and vLLM's own profiling run decides.
- Ranks other than 0, and how ranks talk (NVLink, custom all-reduce, symmetric memory, DeepEP).
- Autotuning files and warm-up of kernels, which depend on the GPU's exact name.
- Kernels' compiled parts: the CPU build lacks them. Whether one was compiled for a capability is
  answered as the sources of vLLM's CUDA 12 wheel say; FlashInfer and DeepGEMM's own checks are not.
- The vendors' files. `config.json` is written from the card and from what transformers' class of
  the architecture presumes; hubs cannot be reached from where this is made, so an odd field of a
  repository (another quantisation scheme, another list of unquantised layers) is not met. The
  tokenizer is a stand-in with the special tokens; chat templates and weights' names are not read.
- Speed, and whether answers are right.
"""


class Judged(msgspec.Struct, frozen=True):
    """vLLM's answers to all questions."""

    digest: str
    """Of the questions."""
    verdicts: Sequence[Verdict]
    built: frozenset[str]
    """Questions that went as far as they can, by name."""


def render(tally: Tally, judged: Judged) -> str:
    """The page."""
    lines = [
        HEAD.format(vllm=VLLM),
        *section("What is proposed and what vLLM says", _totals(tally, judged)),
        *section("Refused by us, first reason", _refusals(tally)),
        *section("Refused by vLLM", _refused(judged.verdicts)),
        *section("Known trouble that is gated", _gates(tally.gated)),
        *section("Kernels that vLLM chose", _kernels(judged.verdicts)),
        *section("By model", _models(tally, judged.verdicts)),
        *section("What cannot be checked without a GPU", [UNCHECKED.rstrip()]),
    ]
    return "\n".join(lines) + "\n"


def known_part(text: str) -> str:
    """The part of a page that needs no vLLM, as a test compares it."""
    own = ("Refused by us", "Known trouble", "What cannot")
    parts = text.split("\n## ")
    return "\n## ".join(part for part in parts if part.startswith((*own, "# Engine")))


def _totals(tally: Tally, judged: Judged) -> Iterator[str]:
    passed = _by_kind(verdict.id for verdict in judged.verdicts if not verdict.refused)
    heads = ("", *KINDS, "all")
    asked, accepted = tally.asked, tally.accepted
    rows: list[tuple[str, Mapping[str, int]]] = [
        ("combinations", {kind: tally.of(asked, kind=kind) for kind in KINDS}),
        ("refused by us",
         {k: tally.of(asked, kind=k) - tally.of(accepted, kind=k) for k in KINDS}),
        ("with flags", {kind: tally.of(accepted, kind=kind) for kind in KINDS}),
        ("of these vLLM takes", passed),
        ("built, of which others differ in sizes only", _by_kind(judged.built)),
    ]  # fmt: skip
    yield from table(heads, (_row(name, counts) for name, counts in rows))
    stages = Counter(stage for verdict in judged.verdicts for stage in verdict.passed)
    said = ", ".join(f"{stage} {stages[stage]}" for stage in STAGES)
    yield f"\nPassed by stage: {said}. The questions' digest is `{judged.digest}`; a test compares"
    yield "it with the questions of today's catalogue."
    if not stages["model"]:
        yield ""
        yield "Stages model and cache were not run: **nothing here says that a model was built**."


def _row(name: str, counts: Mapping[str, int]) -> list[str]:
    cells = [counts.get(kind, 0) for kind in KINDS]
    return [name, *map(str, cells), str(sum(cells))]


def _by_kind(names: Iterable[str]) -> Counter[str]:
    return Counter(name.split(" ")[2] for name in names)


def _refusals(tally: Tally) -> Iterator[str]:
    rows = (
        [str(count), f"{code(tally.example[kind][0])}: {tally.example[kind][1]}"]
        for kind, count in sorted(tally.refused.items(), key=lambda item: (-item[1], item[0]))
    )
    return table(("combinations", "for instance"), rows)


def _refused(verdicts: Iterable[Verdict]) -> Iterator[str]:
    found: dict[str, list[Verdict]] = {}
    for verdict in sorted(verdicts, key=lambda v: v.id):
        if verdict.refused:
            found.setdefault(plain(verdict.refused), []).append(verdict)
    if not found:
        yield "Nothing: what vLLM refused on the way here became a rule, a card's fact or a flag."
        return
    yield from table(
        ("combinations", "stage", "vLLM's words", "for instance"),
        (
            [str(len(alike)), STAGES[len(alike[0].passed)], _cell(alike[0].refused),
             code(alike[0].id)]
            for alike in found.values()
        ),
    )  # fmt: skip


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "/").split())


def _gates(gated: Counter[KnownBad]) -> Iterator[str]:
    does = {"refuse": "refuse", "add_args": "add", "drop_feature": "switch off"}
    rows = (
        [str(count), bad.issue, bad.what,
         f"{does[bad.action]} {code(' '.join(bad.args) or bad.drop or '')}".replace(" ``", "")]
        for bad, count in sorted(gated.items(), key=lambda item: (-item[1], item[0].issue))
    )  # fmt: skip
    yield "Rules that hold for all cards are among the refusals above."
    yield ""
    yield from table(("combinations", "issue", "what would happen", "what we do"), rows)


def _kernels(verdicts: Iterable[Verdict]) -> Iterator[str]:
    counts: dict[str, Counter[str]] = {}
    for verdict in verdicts:
        for kernel in verdict.built.kernels if verdict.built else ():
            counts.setdefault(kernel, Counter())[verdict.id.split(" ")[2]] += 1
    if not counts:
        yield "None: this page was made up to the configuration, and nothing was built for it."
        return
    yield "Engines that were built, by backend of attention, then of experts."
    yield ""
    rows = (_row(code(kernel), by_kind) for kernel, by_kind in sorted(counts.items()))
    yield from table(("", *KINDS, "all"), rows)


def _models(tally: Tally, verdicts: Iterable[Verdict]) -> Iterator[str]:
    passed: Counter[tuple[str, str]] = Counter()
    for verdict in verdicts:
        if not verdict.refused:
            model, _, kind = verdict.id.split(" ")[:3]
            passed[model.partition("/")[0], kind] += 1
    yield "Combinations that vLLM takes / that we propose; `-`: none of ours starts there."
    yield ""
    rows = (
        [code(card), ", ".join(variants), *(_share(tally, passed, card, kind) for kind in KINDS)]
        for card, variants in sorted(tally.variants.items())
    )
    yield from table(("model", "variants", *KINDS), rows)


def _share(tally: Tally, passed: Counter[tuple[str, str]], card: str, kind: str) -> str:
    offered = tally.accepted[card, kind]
    return f"{passed[card, kind]} / {offered}" if offered else "-"
