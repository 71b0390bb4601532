"""Tables of `ballast models ...`: values in, rich renderables out; no facts and no decisions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from ballast.messages import Said, named, say, tell
from ballast.messages.chosen import spoken
from ballast.wide import Wide, table
from models.card import Card
from models.gpu import Gpu
from models.layout import Layout
from models.learn import Learnt
from models.markdown import tokens
from models.memory import DoesNotFit, Fits
from models.rank import FIRST_TOKEN_ERROR, Choice, Objective, Ranking
from models.sharing import NotShared, Shared
from models.sizing import Sized

CHOICES_SHOWN = 12


def catalogue(rows: Iterable[tuple[Card, dict[str, str]]], kinds: Iterable[Gpu]) -> Wide:
    """One line a model; for each kind of GPU the fewest that hold it."""
    columns = ("model", ">B", ">active B", ">context", "task", "released", *(k.id for k in kinds))
    lines = [
        (
            card.id,
            f"{card.size.total_b:g}",
            f"{card.size.active_b:g}",
            tokens(card.context.offered_max or card.context.native),
            card.capabilities.task,
            card.life.released,
            *fewest.values(),
        )
        for card, fewest in rows
    ]
    return Wide(columns, lines, less=("released", "task", "active B", "a100-40", "B"))


def fits(card: Card, layout: Layout, found: Fits) -> RenderableType:
    """Where the memory of each GPU goes, and what is left."""
    budget = found.budget
    made = table("", ">", title=f"{card.name}: {spelled(layout)}")
    made.add_row(say("models.memory"), f"{budget.memory:.1f}")
    made.add_row(say("models.weights"), f"{budget.weights:.1f}")
    made.add_row(say("models.activations"), f"{budget.reserve:.1f}")
    made.add_row(say("models.pool"), f"{budget.left:.1f}")
    if found.state_gib:
        made.add_row(say("models.state"), f"{found.state_gib:.2f}")
    made.add_row(say("models.held"), f"{found.kv_tokens:,}")
    made.add_row(say("models.as_vllm"), f"{found.kv_tokens_reported:,}")
    at_once = say("models.of", sequences=found.sequences, sequences_2=layout.sequences)
    made.add_row(say("models.at_once", context_tokens=f"{layout.context_tokens:,}"), at_once)
    made.add_row(say("models.at_most"), f"{found.sequences_max:,}")
    made.add_row(say("models.host"), f"{found.host_gib:.0f}")
    return Group(made, *(Text(say("models.mind", text=text)) for text in found.cautions))


def refusal(layout: Layout, found: DoesNotFit) -> RenderableType:
    """Why not."""
    return Group(
        Text(say("models.no_fit", layout=spelled(layout)), style="bold red"),
        *(Text(f"  {tell(reason, spoken())}") for reason in found.reasons),
    )


def speed(sized: Sized) -> RenderableType:
    """How fast it is under the load that was asked about."""
    steady, model = sized.steady, sized.model
    made = table("", ">")
    made.add_row(say("models.first"), f"{steady.first_token_s:.2f} (+-{FIRST_TOKEN_ERROR:.0%})")
    made.add_row(say("models.further"), f"{steady.per_token_s * 1e3:.1f} (+-{model.error:.0%})")
    made.add_row(say("models.output"), f"{steady.output_tokens_per_s:,.0f}")
    made.add_row(say("models.running"), f"{steady.running:.0f} / {steady.waiting:.0f}")
    made.add_row(say("models.held_up"), named("models.limit", steady.limit, spoken()))
    how = say("models.measured" if model.basis == "fitted" else "models.scaled")
    note = say("models.in_brackets", text=model.note) if model.note else ""
    return Group(
        made, Text(say("models.calibration", how=how, calibration=model.calibration, note=note))
    )


RANK_COLUMNS = ("GPUs", "variant", "split", ">engines", ">callers/engine", ">first token s",
                ">token ms", ">out tok/s", ">CNY/h", ">CNY/Mtok", ">output", ">full")  # fmt: skip
RANK_NOTES = (
    Said("models.callers"),
    Said("models.per_mtok"),
    Said("models.output_full"),
)


def asked(objective: Objective) -> str:
    """What was asked for, in one line."""
    cached = (
        say("models.cached", cached_share=f"{objective.cached_share:.0%}")
        if objective.cached_share
        else ""
    )
    return say(
        "models.asked",
        concurrency=objective.concurrency,
        prompt_tokens=f"{objective.prompt_tokens:,}",
        cached=cached,
        output_tokens=f"{objective.output_tokens:,}",
        context_tokens=f"{objective.context_tokens:,}",
        first_token_s=f"{objective.first_token_s:g}",
        per_token_s=f"{objective.per_token_s * 1000.0:g}",
    )


def ranking(card: Card, objective: Objective, found: Ranking) -> RenderableType:
    """The cheapest layouts."""
    lines = [_choice(choice) for choice in found.choices[:CHOICES_SHOWN]]
    less = ("full", "CNY/h", "callers/engine", "out tok/s", "output", "first token s")
    made = Wide(RANK_COLUMNS, lines, less, title=say("models.cheapest", name=card.name))
    more = len(found.choices) - CHOICES_SHOWN
    notes = [say("models.more", more=more)] if more > 0 else []
    notes.append(say("models.excluded", count=len(found.excluded)))
    prices = {
        tell(c.price.source, spoken()) for c in found.choices[:CHOICES_SHOWN] if c.price is not None
    }
    notes += [say("models.price", source=source) for source in sorted(prices)]
    return Group(
        Text(asked(objective)),
        made,
        *map(Text, [*(tell(note, spoken()) for note in RANK_NOTES), *notes]),
    )


def shared(gpu: Gpu, found: Shared) -> RenderableType:
    """Who sits where."""
    made = table(
        "model", "on GPUs", ">memory share", ">GiB each", ">tokens", ">at once", "",
        title=f"{len(found.free_gib)} x {gpu.name}",
    )  # fmt: skip
    for seat in found.seats:
        made.add_row(
            f"{seat.wish.card.id}/{seat.wish.variant}",
            ", ".join(map(str, seat.gpus)),
            f"{seat.layout.memory_share:.3f}",
            f"{seat.needs_gib:.1f}",
            f"{seat.fits.kv_tokens:,}",
            str(seat.fits.sequences),
            say("models.sleeps") if seat.wish.is_rare else "",
        )
    free = ", ".join(f"{gib:.1f}" for gib in found.free_gib)
    notes = [say("models.free", free=free)]
    if found.host_gib:
        notes.append(say("models.host_sleeping", host_gib=f"{found.host_gib:.0f}"))
    return Group(
        made, *map(Text, [*notes, *(say("models.mind", text=text) for text in found.cautions)])
    )


def spelled(layout: Layout) -> str:
    """A layout in few words."""
    split = _split(layout)
    return say("models.spelled", variant=layout.variant, gpus=layout.gpus, gpu=layout.gpu) + (
        f" ({split})" if split else ""
    )


def _choice(choice: Choice) -> tuple[str, ...]:
    steady, layout = choice.sized.steady, choice.layout
    rate = steady.output_tokens_per_s * choice.engines
    return (
        f"{choice.gpus} x {layout.gpu}",
        layout.variant,
        _split(layout),
        str(choice.engines),
        str(choice.callers_max),
        f"{steady.first_token_s:.2f}",
        f"{steady.per_token_s * 1e3:.1f} +-{choice.sized.model.error:.0%}",
        f"{rate:,.0f}",
        _money(choice.cny_per_hour, 1),
        _money(choice.cny_per_mtok, 2),
        _money(choice.cny_per_mtok_output, 2),
        _money(choice.cny_per_mtok_full, 2),
    )


def _split(layout: Layout) -> str:
    parts = [f"TP{layout.tensor}"] if layout.tensor > 1 else []
    parts += [f"DP{layout.data}"] if layout.data > 1 else []
    parts += ["EP"] if layout.is_expert_parallel else []
    return " ".join(parts)


def _money(amount: float | None, digits: int) -> str:
    return say("models.no_price") if amount is None else f"{amount:,.{digits}f}"


def learnt(found: Learnt) -> RenderableType:
    """Coefficients that were measured, with their errors."""
    made = table("", ">", title=say("models.step_time"))
    made.add_row(say("models.base_ms"), f"{found.base_ms:.3f}")
    if found.touched:
        made.add_row(say("models.experts_ms"), f"{found.experts_ms:.3f}")
    made.add_row(say("models.sequence_ms"), f"{found.per_sequence_ms:.4f}")
    made.add_row(say("models.context_ms"), f"{found.per_kilo_context_ms:.4f}")
    made.add_row(say("models.prompt_ms"), f"{found.per_kilo_prefill_ms:.2f}")
    made.add_row(say("models.first_ms"), f"{found.first_token.fixed_ms:.1f}")
    errors = say(
        "models.errors", mean_error=f"{found.mean_error:.1%}", max_error=f"{found.max_error:.1%}"
    )
    made.add_row(say("models.step_error"), f"{errors} {found.prefill_error:.1%}")
    if found.loop_token_error is not None and found.loop_first_error is not None:
        loop = say(
            "models.loop",
            loop_token_error=f"{found.loop_token_error:+.1%}",
            loop_first_error=f"{found.loop_first_error:+.1%}",
        )
        made.add_row(say("models.in_loop"), loop)
    return made


def plain(found: Shared | NotShared) -> dict[str, Any]:
    """A sharing plan for machines."""
    if isinstance(found, NotShared):
        return {"reasons": found.reasons}
    return {
        "free_gib": found.free_gib,
        "host_gib": found.host_gib,
        "cautions": found.cautions,
        "seats": [
            {
                "layout": seat.layout,
                "gpus": seat.gpus,
                "needs_gib": seat.needs_gib,
                "is_rare": seat.wish.is_rare,
                "memory": seat.fits,
            }
            for seat in found.seats
        ],
    }
