"""`ballast models ...`: the catalogue, what fits where, how fast it is and what it costs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from ballast import (
    measuring,
    models_ask,
    models_card,
    models_check,
    models_fit,
    models_flags,
    models_tables,
    overlay,
    quantities,
)
from ballast.messages import Said, say
from ballast.printing import print_json, show
from ballast.problem import ProblemError
from models import measured, report, report_lines
from models.layout import Layout
from models.prices import Terms
from models.rank import Objective, rank
from models.steady import Demand

Guard = Callable[[Callable[..., None]], Callable[..., None]]
group = typer.Typer(help="Models: what clients may call, and what the catalogue knows.")


def _cards_dir(context: typer.Context, given: Path | None) -> Path | None:
    """Else the settings' own, which `ballast models --config` read."""
    return given or context.obj


CardsDir = Annotated[
    Path | None,
    typer.Option(
        "--cards-dir", help="More cards and calibrations; else those of the settings.",
        file_okay=False, callback=_cards_dir,
    ),
]  # fmt: skip
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Kind = Annotated[str, typer.Option(help="Kind of GPU: a100-80, H100, ...")]
Kinds = Annotated[
    list[str] | None, typer.Option("--gpu", help="Kind of GPU; repeat. Else all supported.")
]
Variant = Annotated[str, typer.Option(help="bf16, fp8, ...; else the first of the card.")]
ContextTokens = Annotated[
    int, typer.Option("--context", parser=quantities.tokens, help="Prompt and answer: 8192, 32k.")
]
Tokens = Annotated[int, typer.Option(parser=quantities.tokens)]
Seconds = Annotated[float, typer.Option(parser=quantities.seconds)]


def guarded(guard: Guard) -> typer.Typer:
    """The group, each command wrapped so that a problem is told in words."""
    for info in group.registered_commands:
        if info.callback is not None:
            info.callback = guard(info.callback)
    return group


@group.command("list")
def list_models(
    family: Annotated[str, typer.Option(help="qwen or glm.")] = "",
    task: Annotated[str, typer.Option(help="chat, embedding, rerank, moderation.")] = "",
    cards_dir: CardsDir = None,
    as_json: AsJson = False,
) -> None:
    """List the catalogue: size, context, and the fewest GPUs of each kind that hold each model."""
    known = models_ask.knowledge(cards_dir)
    kinds = models_ask.kinds_of(known, (), untried=False)
    rows = [
        (card, {kind.id: models_ask.fewest(card, kind, card.variants) for kind in kinds})
        for card in known.catalog.cards.values()
        if family in ("", card.family) and task in ("", card.capabilities.task)
    ]
    if as_json:
        print_json([{**card.model_dump(mode="json"), "fewest": fewest} for card, fewest in rows])
    else:
        show(models_tables.catalogue(rows, kinds))


@group.command("show")
def show_model(name: str, cards_dir: CardsDir = None, as_json: AsJson = False) -> None:
    """Show what is known of one model, and how many GPUs of each kind hold each variant."""
    known = models_ask.knowledge(cards_dir)
    card, _ = models_ask.card_of(known, name)
    kinds = models_ask.kinds_of(known, (), untried=True)
    fewest = {
        variant: {kind.id: models_ask.fewest(card, kind, (variant,)) for kind in kinds}
        for variant in card.variants
    }
    if as_json:
        print_json({**card.model_dump(mode="json"), "fewest": fewest})
    else:
        show(models_card.card(card, fewest))


@group.command("fit")
def fit_models(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL...", help="card or card/variant; of several, `:rare` ones may sleep."
        ),
    ],
    gpu: Kind = "h100-80",
    gpus: Annotated[int, typer.Option(help="How many, in one machine.", min=1, max=8)] = 1,
    context: ContextTokens = 8192,
    concurrency: Annotated[int, typer.Option(help="Sequences at once.", min=1)] = 16,
    data: Annotated[int, typer.Option(help="Data-parallel ranks of them.", min=1)] = 1,
    experts: Annotated[bool, typer.Option("--ep", help="Keep experts whole.")] = False,
    feature: Annotated[list[str] | None, typer.Option(help="fp8_kv, speculation, lora.")] = None,
    prompt: Tokens = 1024,
    output: Tokens = 256,
    with_flags: Annotated[bool, typer.Option("--flags", help="vLLM's flags and why.")] = False,
    cards_dir: CardsDir = None,
    as_json: AsJson = False,
) -> None:
    """Say whether a model fits, or several together, with the numbers; ends with 1 if not."""
    known = models_ask.knowledge(cards_dir)
    kind = models_ask.gpu_of(known, gpu)
    if len(names) > 1:
        wishes = models_ask.wishes_of(known, names, context, concurrency)
        models_fit.several(kind, gpus, wishes, as_json)
        return
    wanted = Layout(
        card="",
        variant="",
        gpu=kind.id,
        tensor=max(1, gpus // data),
        data=data,
        is_expert_parallel=experts,
        context_tokens=context,
        sequences=concurrency,
        batched_tokens=kind.vllm.max_num_batched_tokens,
        features=models_ask.features_of(feature or ()),
    )
    card, layout = models_fit.layout_of(known, names[0], wanted)
    if with_flags:
        models_flags.started(known, card, layout, as_json)
        return
    models_fit.one(known, card, layout, Demand(prompt, output, concurrency), as_json)


@group.command("rank")
def rank_gpus(
    name: str,
    ttft: Annotated[float, typer.Option(parser=quantities.seconds, help="2s, 500ms.")] = 2.0,
    tpot: Annotated[float, typer.Option(parser=quantities.seconds, help="50ms.")] = 0.05,
    prompt: Tokens = 1024,
    output: Tokens = 256,
    concurrency: Annotated[int, typer.Option(help="Callers at once.", min=1)] = 32,
    context: ContextTokens = 32_768,
    cached: Annotated[float, typer.Option(help="Share of prompts cached.", min=0, max=1)] = 0.0,
    gpu: Kinds = None,
    untried: Annotated[bool, typer.Option(help="Also GPUs known by arithmetic only.")] = False,
    price: Annotated[
        list[str] | None, typer.Option(help="Yours, CNY a GPU-hour: h20-96=12; repeat.")
    ] = None,
    spot: Annotated[bool, typer.Option(help="Spot prices.")] = False,
    day: Annotated[str, typer.Option(help="Prices of that day; else today's.")] = "",
    cards_dir: CardsDir = None,
    as_json: AsJson = False,
) -> None:
    """Rank kinds and numbers of GPUs by yuan per million tokens within an objective."""
    known = models_ask.knowledge(cards_dir)
    card, _ = models_ask.card_of(known, name)
    objective = Objective(ttft, tpot, prompt, output, concurrency, context, cached)
    terms: Terms = "spot" if spot else "on_demand"
    priced = models_ask.prices_of(known, price or (), terms, models_ask.day_of(day))
    found = rank(known, card, models_ask.kinds_of(known, gpu or (), untried), objective, priced)
    if as_json:
        print_json({"objective": objective, "ranking": found})
    elif found.choices:
        show(models_tables.ranking(card, objective, found))
    else:
        reasons = sorted(
            say("models.excluded_for", layout=models_tables.spelled(one.layout), why=one.reason)
            for one in found.excluded
        )
        raise ProblemError(
            Said("models.nothing_serves", id=card.id, reasons="\n  ".join(dict.fromkeys(reasons))),
            Said("models.relax"),
        )


@group.command("check")
def check_predictions(
    markdown: Annotated[bool, typer.Option(help="The whole page, docs/capacity.md.")] = False,
    cards_dir: CardsDir = None,
) -> None:
    """Hold the predictions against every published measurement."""
    known, published = models_ask.knowledge(cards_dir), measured.load()
    if markdown:
        typer.echo(report.markdown(known, published), nl=False)
    else:
        show(models_check.table(report_lines.lines(known, published)))


@group.command("profile")
def profile_engine(
    url: Annotated[str, typer.Argument(help="http://host:port/v1 of a live engine.")],
    model: Annotated[str, typer.Option(help="As the engine calls it; else its first.")] = "",
    card: Annotated[str, typer.Option(help="card/variant that it runs; needed to write.")] = "",
    gpu: Kind = "",
    tensor: Annotated[int, typer.Option(min=1)] = 1,
    version: Annotated[str, typer.Option(help="Of vLLM, for the record.")] = "unknown",
    into: Annotated[Path | None, typer.Option(help="Folder `cards_dir` to write into.")] = None,
    budget: Seconds = 600.0,
    sequences: Annotated[int, typer.Option(help="Most at once.", min=2, max=1024)] = 64,
    context: ContextTokens = 8192,
    key_env: Annotated[str, typer.Option(help="Variable with the API key.")] = "",
    secret_file: Annotated[Path | None, typer.Option(help="The engines' secret.")] = None,
    cards_dir: CardsDir = None,
    as_json: AsJson = False,
) -> None:
    """Measure a live engine under a small designed load and fit its step times."""
    subject, touched = None, 0.0
    if into is not None or card:
        known = models_ask.knowledge(cards_dir)
        subject = overlay.subject_of(known, card, gpu, tensor, version)
        touched = overlay.touched(known, subject)
    plan = measuring.Plan(url, model, budget, sequences, context, touched, key_env, secret_file)
    learnt = measuring.measure(plan, lambda text: typer.echo(text, err=True))
    if into is not None and subject is not None:
        path = overlay.write(subject, learnt, into, models_ask.day_of(""))
        typer.echo(say("models.written", path=path), err=True)
    if as_json:
        print_json(learnt)
    else:
        show(models_tables.learnt(learnt))
