"""`ballast rollout`: move a public name to another model by weights, over the admin API."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from ballast.admin_client import desk, path_of
from ballast.admin_flags import AsJson, Config, KeyFile, Why
from ballast.admin_words import clean, done, reason, table, when
from ballast.messages import Said, named, say, tell
from ballast.messages.chosen import spoken
from ballast.printing import print_json
from ballast.problem import ProblemError
from models.worded import unpacked
from serving.rollout.history import spans

PAGE = 1000
ENTRIES_MAX = 100_000
rollout = typer.Typer(help="Rollouts: a name's calls go to a new model step by step.")
Name = Annotated[str, typer.Argument(help="The public name: a model's or an alias.")]
Steps = Annotated[
    str, typer.Option(help="Percent, rising to 100: 1,5,25,50,100 is a canary, 100 blue/green.")
]


@rollout.command("start")
def start(
    name: Name,
    new: Annotated[str, typer.Option("--to", help="The model that takes over.")],
    steps: Steps = "1,5,25,50,100",
    check: Annotated[
        list[str] | None,
        typer.Option(
            metavar="WHAT=N",
            help="calls_min, hold_s, deadline_s, error_max, late_max, error_hard,"
            " hard_calls_min; repeat.",
        ),
    ] = None,
    in_place: Annotated[
        bool, typer.Option("--in-place", help="No room for both: third parties carry the gap.")
    ] = False,
    gap_s: Annotated[
        float | None, typer.Option(help="How long no engine is there; else the model's own time.")
    ] = None,
    accept: Annotated[bool, typer.Option("--accept", help="The gap, as it is told.")] = False,
    dry_run: Annotated[bool, typer.Option("--plan", help="Only say what it would mean.")] = False,
    why: Why = "",
    config: Config = None,
    key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Start one. With --in-place it is refused until its gap is accepted."""
    body = _body(name, new, steps, check) | {"is_in_place": in_place, "accept": accept}
    if gap_s is not None:
        body["gap_s"] = gap_s
    client = desk(config, key_file)
    answer = client.post("/rollouts/plan" if dry_run else "/rollouts", body, why=why)
    if as_json:
        print_json(answer)
        return
    key = "rollout.would_go" if dry_run else "rollout.goes"
    typer.echo(say(key, name=clean(name), old=clean(answer["old"]), new=clean(answer["new"])))
    typer.echo(clean(tell(unpacked(answer.get("said"), answer["words"]), spoken())))
    if not dry_run:
        typer.echo(say("rollout.controller"))


def _body(name: str, new: str, steps: str, check: list[str] | None) -> dict[str, Any]:
    try:
        body: dict[str, Any] = {
            "name": name, "new": new, "steps": [int(part) for part in steps.split(",")]
        }  # fmt: skip
    except ValueError:
        raise ProblemError(f"--steps {steps!r}", Said("rollout.say_steps")) from None
    checks: dict[str, float] = {}
    for text in check or ():
        what, _, number = text.partition("=")
        try:
            value = float(number)
        except ValueError:
            raise ProblemError(f"--check {text!r}", Said("rollout.say_check")) from None
        checks[what] = int(value) if what.endswith("_min") and value.is_integer() else value
    return body | ({"checks": checks} if checks else {})


@rollout.command("status")
def status(config: Config = None, key_file: KeyFile = None, as_json: AsJson = False) -> None:
    """Where each rollout is, and why."""
    client = desk(config, key_file)
    found = client.get("/rollouts")["rollouts"]
    waits = client.get("/console/control").get("rollouts") or {} if found else {}
    for row in found:
        row["waits"] = str(waits.get(row["id"], {}).get("reason", ""))
    if as_json:
        print_json(found)
        return
    rows = [
        (r["id"], r["old"], r["new"], f"{r['percent']} %",
         named("rollout.state", r["state"], spoken()), when(r["since_ms"]), r["by"],
         reason(r, "reason"), reason(waits.get(r["id"], {}), "reason"))
        for r in found
    ]  # fmt: skip
    table(("name", "from", "to", "weight", "state", "since", "by", "why", "waits"), rows)


@rollout.command("pause")
def pause(
    name: Name,
    why: Why = "",
    config: Config = None,
    key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Stay at this weight; a burn still takes it back."""
    answer = desk(config, key_file).post(f"/rollouts/{path_of(name)}/pause", {}, why=why)
    done(answer, "paused", as_json=as_json)


@rollout.command("resume")
def resume(
    name: Name,
    why: Why = "",
    config: Config = None,
    key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Go on; the step's time and counts begin anew."""
    answer = desk(config, key_file).post(f"/rollouts/{path_of(name)}/resume", {}, why=why)
    done(answer, "resumed", as_json=as_json)


@rollout.command("abort")
def abort(
    name: Name,
    why: Why = "",
    config: Config = None,
    key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """All calls to the old model again within a second, also after it was done."""
    answer = desk(config, key_file).post(f"/rollouts/{path_of(name)}/abort", {}, why=why)
    done(answer, "took back", as_json=as_json)


@rollout.command("close")
def close(
    name: Name,
    why: Why = "",
    config: Config = None,
    key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Take the row of an ended rollout away, once the settings name the new model."""
    answer = desk(config, key_file).delete(f"/rollouts/{path_of(name)}", why=why)
    done(answer, "closed", as_json=as_json)


@rollout.command("history")
def history(
    name: Name, config: Config = None, key_file: KeyFile = None, as_json: AsJson = False
) -> None:
    """Which model the name meant from when to when; needs the right to see the history."""
    client, after = desk(config, key_file), 0
    entries: list[dict[str, Any]] = []
    while len(entries) < ENTRIES_MAX:
        page = client.get("/history", after=after, limit=PAGE)["entries"]
        entries += [entry for entry in page if not entry.get("is_unreadable")]
        if len(page) < PAGE:
            break
        after = page[-1]["number"]
    found = spans(entries, name)
    if as_json:
        print_json([span._asdict() for span in found])
        return
    rows = [
        (when(s.from_ms), say("rollout.now") if s.until_ms is None else when(s.until_ms),
         s.meaning, s.number,
         s.actor, reason(s._asdict(), "why"))
        for s in found
    ]  # fmt: skip
    table(("from", "until", "meant", "entry", "by", "why"), rows)
