"""A PoC's report as a page that stands alone, in Chinese or English: values in, HTML out."""

from __future__ import annotations

from ballast.digits import rounded
from ballast.messages import Language, Words, words
from ballast.poc_gates import gain, gates, longer, saving, verdict
from ballast.poc_values import (
    EFFORT_SHARE_MAX,
    HOURS_OF_BASE_URL,
    OK_SHARE_MIN,
    SAVING_WANTED,
    SPOKEN,
    Gate,
    Measured,
    Trial,
)
from models.plots import charts
from models.plots.page import Card, Table, in_language, page

API_COLOUR, LOCAL_COLOUR = 1, 2


def made(trial: Trial, language: Language) -> str:
    """The whole page."""
    say = words(language)
    found = gates(trial)
    where = say("poc.page.own", since=trial.since) if trial.since else say("poc.page.runs")
    if trial.speed > 1:
        where += say("poc.page.faster", speed=f"{trial.speed:.3g}")
    lead = say("poc.page.lead", where=where, day=trial.day, currency=trial.currency)
    cards = [_conditions(found, trial, say), _prices(trial, say), _latency(trial, say),
             _stability(trial, say), _works(trial, say), _effort(trial, say),
             _exit(say), _sources(trial, say)]  # fmt: skip
    document = page(say("poc.page.title"), lead, _figures(trial, found, say), cards,
                    say("poc.page.foot"))  # fmt: skip
    return in_language(document, "zh-CN" if language == "zh" else "en")


def _figures(trial: Trial, found: list[Gate], say: Words) -> list[tuple[str, str]]:
    share, yearly = saving(trial), gain(trial)
    met = sum(gate.answer == "yes" for gate in found)
    spoken = sum(not SPOKEN.isdisjoint(gate.rests_on) for gate in found)
    told = [
        (say(f"poc.verdict.{verdict(found)}"), say("poc.page.verdict")),
        (f"{met} / {len(found)}", say("poc.page.met")),
        ("-" if share is None else f"{share:+.0%}", say("poc.page.saving")),
        ("-" if yearly is None else _money(yearly), say("poc.page.gain", currency=trial.currency)),
    ]
    return [*told, (str(spoken), say("poc.page.spoken"))] if spoken else told


def _money(amount: float) -> str:
    return f"{amount:,.0f}" if abs(amount) >= 100 else rounded(amount)


def _conditions(found: list[Gate], trial: Trial, say: Words) -> Card:
    rows = [
        (say(f"poc.gate.{gate.id}"), say(f"poc.answer.{gate.answer}"),
         _seen(gate, trial, say), say(f"poc.wanted.{gate.id}", **_limits()),
         " + ".join(say(f"poc.rests.{one}") for one in gate.rests_on) or "-")
        for gate in found
    ]  # fmt: skip
    columns = [
        f"<{say(f'poc.column.{name}')}" for name in ("gate", "answer", "seen", "wanted", "rests")
    ]
    return Card(say("poc.card.gates"), say("poc.say.gates"), table=Table(columns, rows),
                is_wide=True)  # fmt: skip


def _limits() -> dict[str, str]:
    return {"saving": f"{SAVING_WANTED:.0%}", "share": f"{OK_SHARE_MIN:.0%}",
            "effort": f"{EFFORT_SHARE_MAX:.0%}"}  # fmt: skip


def _seen(gate: Gate, trial: Trial, say: Words) -> str:
    if gate.missing:
        return say("poc.page.missing", what=say(f"poc.lacks.{gate.missing}"))
    forms = {"saving": ".1%", "share": ".1%", "worst": ".1%", "rows": ",.0f", "api": ",.0f",
             "local": ",.0f", "faults": ",.0f"}  # fmt: skip
    shown = {
        name: format(value, forms[name]) if name in forms else _money(value)
        for name, value in gate.figures.items()
    }
    is_broken = bool(gate.figures.get("faults"))
    key = "poc.seen.exit_no" if is_broken else f"poc.seen.{gate.id}"
    return say(key, currency=trial.currency, **shown)


def _sides(trial: Trial, say: Words) -> list[tuple[str, Measured, int]]:
    found = ((say("poc.side.api"), trial.api, API_COLOUR),
             (say("poc.side.local"), trial.local, LOCAL_COLOUR))  # fmt: skip
    return [(name, side, colour) for name, side, colour in found if side is not None]


def _bars(title: str, rows: list[tuple[str, list[tuple[str, float, int]]]], label: str) -> str:
    """Groups of single bars, each in its side's colour."""
    colours = (API_COLOUR, LOCAL_COLOUR)
    groups = [
        (name, [(bar, [value if colour == one else 0.0 for one in colours])
                for bar, value, colour in group])
        for name, group in rows if group
    ]  # fmt: skip
    return charts.bars(title, groups, label, colours) if groups else ""


def _prices(trial: Trial, say: Words) -> Card:
    bars = [(name, side.per_mtok, colour) for name, side, colour in _sides(trial, say)
            if side.per_mtok is not None]  # fmt: skip
    picture = _bars(
        say("poc.card.cost"), [("", bars)], say("poc.axis.cost", currency=trial.currency)
    )
    more = say("poc.say.rate", rate=trial.rate) if trial.rate else ""
    if trial.local is not None and trial.local.at_api_price is not None:
        more += say("poc.say.alike", api=_money(trial.local.at_api_price),
                    own="-" if trial.local.cost is None else _money(trial.local.cost),
                    currency=trial.currency)  # fmt: skip
    return Card(say("poc.card.cost"), say("poc.say.cost") + more, picture or _nothing(say))


def _nothing(say: Words) -> str:
    return charts.svg(say("poc.page.nothing"), [
        charts.text(24, 60, say("poc.page.nothing"), "note")], 90)  # fmt: skip


def _latency(trial: Trial, say: Words) -> Card:
    rows = []
    for what, field in (("first", "first_token"), ("whole", "whole")):
        for percentile in ("p50", "p95"):
            group = []
            for name, side, colour in _sides(trial, say):
                value = getattr(getattr(side, field), f"{percentile}_ms")
                if value is not None:
                    group.append((name, float(value), colour))
            rows.append((say(f"poc.time.{what}", percentile=percentile), group))
    picture = _bars(say("poc.card.latency"), rows, say("poc.axis.ms"))
    share = longer(trial)
    more = "" if share is None else say("poc.say.longer", share=f"{share:+.0%}")
    return Card(say("poc.card.latency"), say("poc.say.latency") + more, picture or _nothing(say))


def _stability(trial: Trial, say: Words) -> Card:
    rows = [
        (name, f"{side.requests:,}", f"{side.judged - side.ok:,}",
         "-" if side.ok_share is None else f"{side.ok_share:.2%}")
        for name, side, _ in _sides(trial, say)
    ]  # fmt: skip
    columns = [f"<{say('poc.column.side')}", *(say(f"poc.column.{n}")
               for n in ("requests", "failed", "ok"))]  # fmt: skip
    return Card(say("poc.card.stability"), say("poc.say.stability"), table=Table(columns, rows))


def _works(trial: Trial, say: Words) -> Card:
    rows = [(one.surface, f"{one.requests:,}", f"{one.ok / one.requests:.1%}")
            for one in trial.works if one.requests]  # fmt: skip
    columns = [f"<{say('poc.column.surface')}", say("poc.column.requests"), say("poc.column.ok")]
    return Card(say("poc.card.works"), say("poc.say.works"), table=Table(columns, rows))


def _effort(trial: Trial, say: Words) -> Card:
    yearly, effort = gain(trial), trial.effort
    bars = [(say("poc.bar.effort"), effort.cost, API_COLOUR)]
    if yearly is not None and yearly > 0:
        bars.append((say("poc.bar.gain"), yearly, LOCAL_COLOUR))
    sentence = say("poc.say.effort", hours=f"{effort.hours:g}", cost=f"{effort.hour_cost:g}",
                   currency=trial.currency, source=effort.source,
                   base=f"{HOURS_OF_BASE_URL:g}")  # fmt: skip
    if effort.by:
        sentence += say("poc.say.stated", by=effort.by, once=_money(effort.once),
                        monthly=_money(effort.monthly), currency=trial.currency)  # fmt: skip
    if trial.tokens is not None:
        basis = "stated" if trial.monthly_tokens is None else "ledger"
        sentence += say(f"poc.say.tokens_{basis}", tokens=f"{trial.tokens:,.0f}")
    columns = [f"<{say('poc.column.what')}", say("poc.column.hours")]
    table = Table(columns, [(what, f"{hours:g}") for what, hours in effort.items])
    return Card(say("poc.card.effort"), sentence,
                _bars(say("poc.card.effort"), [("", bars)], trial.currency),
                table if effort.items else None)  # fmt: skip


def _exit(say: Words) -> Card:
    rows = [(say(f"poc.exit.{name}"), say(f"poc.way.{name}"))
            for name in ("clients", "data", "keys", "models", "contract")]  # fmt: skip
    columns = [f"<{say('poc.column.what')}", f"<{say('poc.column.way')}"]
    return Card(say("poc.card.exit"), say("poc.say.exit"), table=Table(columns, rows))


def _sources(trial: Trial, say: Words) -> Card:
    rows = [
        (name, side.name, side.source, f"{side.prompt_tokens + side.completion_tokens:,}",
         "-" if side.cost is None else _money(side.cost))
        for name, side, _ in _sides(trial, say)
    ]  # fmt: skip
    columns = [f"<{say(f'poc.column.{n}')}" for n in ("side", "who", "source")]
    columns += [say("poc.column.tokens"), say("poc.column.cost", currency=trial.currency)]
    return Card(say("poc.card.sources"), say("poc.say.sources"), table=Table(columns, rows),
                is_wide=True)  # fmt: skip
