"""`ballast status`: what the running stack says of itself, and what it spent, as tables."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Group
from rich.markup import escape
from rich.table import Table

from ballast import books
from ballast.messages import Language, Words, tell, words
from ballast.problem import ProblemError
from ballast.web import get_json
from models.worded import unpacked
from serving.settings import Settings

LAST = 10


def collect(settings: Settings) -> dict[str, Any]:
    """What gateway and controller say now, and the day's money; a part that does not answer is an
    `error` text."""
    gateway = f"http://{settings.gateway.ops_host}:{settings.gateway.ops_port}"
    controller = f"http://127.0.0.1:{settings.controller.ops_port}"
    found: dict[str, Any] = {"gateway": gateway}
    for name, url in (
        ("signals", f"{gateway}/signals"),
        ("fleet", f"{gateway}/fleet"),
        ("decisions", f"{gateway}/decisions"),
        ("controller", f"{controller}/decisions"),
    ):
        try:
            found[name] = get_json(url)
        except ProblemError as problem:
            if name == "signals":
                raise
            found[name] = {"error": problem.what}
    try:
        found["money"] = books.spent(settings, time.time_ns() // 1_000_000)
    except ProblemError as problem:
        found["money"] = {"error": problem.what}
    return found


def tables(found: Mapping[str, Any], language: Language = "en") -> Group:
    """Everything `collect` found, for a person."""
    say = words(language)
    return Group(
        _fleet(found["fleet"], say),
        "",
        _queue(found["signals"], say),
        "",
        _decisions(found["decisions"], say),
        "",
        _money(found["money"], say),
        "",
        _controller(found["controller"], say, language),
    )


def _table(title: str, columns: Sequence[str], say: Words) -> Table:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for column in columns:
        # An id is to be copied: rather break another cell.
        name = say(f"status.column.{column}")
        table.add_column(name, no_wrap=column == "request_id", overflow="fold")
    return table


def _fleet(fleet: Any, say: Words) -> Table:
    title = say("status.fleet")
    if "age_s" in fleet:
        title = say("status.seen", title=title, age=_cell(fleet["age_s"]))
    if away := fleet.get("away"):
        told = "; ".join(f"{name}: {why}" for name, why in away.items())
        title = say("status.away", title=title, who=escape(told))
    table = _table(
        title,
        ["model", "target", "address", "unfinished", "waiting", "running", "kv", "breaker"],
        say,
    )
    if "error" in fleet:
        table.add_row(fleet["error"])
        return table
    for name, model in fleet.get("models", {}).items():
        for row in _rows_of_model(model, say):
            table.add_row(name, *row)
    return table


def _rows_of_model(model: Mapping[str, Any], say: Words) -> Iterator[Sequence[str]]:
    for replica in model.get("replicas", ()):
        cells = ("id", "address", "unfinished", "waiting", "running")
        kv = replica.get("kv")
        yield (
            *(_cell(replica.get(c)) for c in cells),
            "" if kv is None else f"{float(kv):.0%}",
            _cell(replica.get("breaker", "")),
        )
    for row in model.get("offerings", ()):
        yield (
            _cell(row.get("id")),
            say("status.api_in", jurisdiction=row.get("jurisdiction")),
            _cell(row.get("unfinished", "")),
            *("", "", ""),
            _cell(row.get("breaker", "")),
        )
    if why := model.get("trouble"):
        yield say("status.not_starting"), str(why)
    if (wait_s := model.get("expected_in_s")) is not None:
        yield say("status.loading"), say("status.expected", seconds=_cell(wait_s))


def _queue(signals: Any, say: Words) -> Table:
    columns = ["running", "queued", "queued_tokens", "oldest_wait_s", "shed_total", "burst_total"]
    table = _table(say("status.queue"), ["model", *columns], say)
    for name, model in signals.get("models", {}).items():
        table.add_row(name, *(_cell(model.get(column)) for column in columns))
    return table


def _decisions(decisions: Any, say: Words) -> Table:
    columns = ["request_id", "model", "target", "reason", "outcome", "status", "queue_ms",
               "first_token_ms"]  # fmt: skip
    table = _table(say("status.decisions", count=LAST), columns, say)
    for row in rows_of(decisions)[:LAST]:
        table.add_row(*(_cell(row.get(column)) for column in columns))
    return table


def _money(money: Any, say: Words) -> Table:
    title = say("status.money")
    if "since_ms" in money:
        since = time.strftime("%Y-%m-%d %H:%M", time.gmtime(money["since_ms"] / 1000))
        title = say("status.money_since", title=title, since=since)
    columns = ["target", "tries", "prompt", "completion", "money", "estimated"]
    table = _table(title, columns, say)
    if "error" in money:
        table.add_row(str(money["error"]))
    for row in money.get("rows", ()):
        cost = say("status.by_hour")
        if row["currency"]:
            cost = books.amount(row["currency"], row["micro"])
        numbers = (row["attempts"], row["prompt_tokens"], row["completion_tokens"])
        table.add_row(row["target"], *map(_cell, numbers), cost, _cell(row["estimated"]))
    return table


def _controller(decisions: Any, say: Words, language: Language) -> Table:
    title = say("status.controller", standing=_standing(decisions, say))
    table = _table(title, ["at", "model", "decision", "reason"], say)
    if isinstance(decisions, dict) and "error" in decisions:
        table.add_row("", "", "", str(decisions["error"]))
    for row in rows_of(decisions)[:LAST]:
        at = time.strftime("%H:%M:%S", time.localtime(float(row.get("at_ms", 0)) / 1000))
        why = tell(unpacked(row.get("said"), _cell(row.get("reason"))), language)
        table.add_row(at, _cell(row.get("model")), _did(row, say), escape(why))
    return table


def _did(row: Mapping[str, Any], say: Words) -> str:
    count = row.get("replicas")
    if count is None:  # of a controller before this field
        return _cell(row.get("decision"))
    return say("status.hold") if count < 0 else say("status.scale_to", count=count)


def _standing(decisions: Any, say: Words) -> str:
    """Whether it leads and what came of its last tick."""
    told = decisions.get("standing") if isinstance(decisions, dict) else None
    if not isinstance(told, dict):
        return say("status.unknown")
    if not told.get("leads"):
        return escape(say("status.stands_by", reason=told.get("reason")))
    acts = [act for act in told.get("acts") or () if isinstance(act, dict)]
    if all(act.get("outcome") == "would" for act in acts):
        return say("status.dry_run")
    told_acts = (f"{a.get('actuator')} {a.get('model')}: {a.get('outcome')}" for a in acts)
    return escape(say("status.leads", token=told.get("token"), acts=", ".join(told_acts)))


def rows_of(decisions: Any) -> list[dict[str, Any]]:
    """The list inside a `/decisions` answer, latest first."""
    rows = decisions.get("decisions", []) if isinstance(decisions, dict) else decisions
    return [row for row in rows if isinstance(row, dict)]


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.2f}" if isinstance(value, float) else str(value)
