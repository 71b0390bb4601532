"""`ballast review`: sampled conversations and complaints, read and judged by people."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from ballast.admin_client import desk, path_of
from ballast.admin_flags import AsJson, Config, KeyFile, Why
from ballast.admin_words import clean, done, table, when
from ballast.messages import Said, say
from ballast.printing import print_json
from ballast.problem import ProblemError

review = typer.Typer(
    help="Sampled conversations and complaints: list, read, judge.", no_args_is_help=True
)
Case = Annotated[str, typer.Argument(help="Its id: a sample's is its request's.")]
Reason = Annotated[str, typer.Option("--text", help="Kept with the case and in the history.")]
WORDS_MAX = 20_000


@review.command("list")
def list_(
    kind: Annotated[str, typer.Option(help="sample or complaint.")] = "",
    state: Annotated[
        str, typer.Option(help="open, fine, violation, false_alarm or appealed.")
    ] = "",
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 50,
    config: Config = None,
    key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Cases, newest first: facts, no text."""
    client = desk(config, key_file)
    found = client.get("/reviews", kind=kind, state=state, limit=limit)["cases"]
    if as_json:
        print_json(found)
        return
    columns = ("id", "at", "tenant", "model", "why", "state", "found")
    table(
        columns,
        [
            (c["id"], when(c["at_ms"]), c["tenant"], c["model"], c["why"], c["state"],
             c["findings"])
            for c in found
        ],
    )  # fmt: skip
    if len(found) == limit:
        typer.echo(say("review.more", value=min(1000, limit * 4)))


@review.command()
def show(
    case: Case,
    why: Why = "",
    config: Config = None,
    key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """One case with its text. That you read it stands in the history."""
    client = desk(config, key_file)
    facts = client.get(f"/reviews/{path_of(case)}")
    text = client.get(f"/reviews/{path_of(case, 'text')}", why=why)
    if as_json:
        print_json({"case": facts, "text": text})
        return
    shown = {name: value for name, value in facts.items() if name != "notes"}
    typer.echo("\n".join(f"{name:<11}{clean(value)}" for name, value in shown.items()))
    for note in facts["notes"]:
        typer.echo(
            f"{when(note['at_ms'])}  {clean(note['by'])}: {note['state']} {clean(note['text'])}"
        )
    typer.echo("\n".join(_words(text)))


def _words(text: dict[str, Any]) -> list[str]:
    lines = [f"\nprompt\n{_body(_prompt(text['prompt']))}"] if text["prompt"] else []
    for choice in text["answer"]:
        lines += [f"\n{name}\n{_body(str(value))}" for name, value in choice.items() if value]
    if text["words"]:
        lines.append(f"\ncomplaint\n{_body(text['words'])}")
    if text["is_cut"]:
        lines.append(say("review.cut"))
    return lines


def _prompt(raw: str) -> str:
    """Messages as lines; else, and of what was cut, the JSON itself."""
    try:
        found = msgspec.json.decode(raw)
    except msgspec.DecodeError:
        return raw
    if isinstance(found, str):
        return found
    messages = found if isinstance(found, list) else [found]
    return "\n".join(_message(one) for one in messages)


def _message(message: Any) -> str:
    if not isinstance(message, dict) or not isinstance(message.get("content"), str):
        return msgspec.json.encode(message).decode()
    return f"{message.get('role', '')}: {message['content']}"


def _body(text: str) -> str:
    """Lines stay lines; whatever else could act on a terminal does not."""
    return "\n".join("" if not line.strip() else clean(line) for line in text.split("\n"))


@review.command()
def judge(
    case: Case,
    verdict: Annotated[str, typer.Argument(help="fine, violation or false_alarm.")],
    text: Reason = "",
    config: Config = None,
    key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Say what a case is. An appeal is judged by somebody who has not judged it yet."""
    body = {"verdict": verdict, "text": text}
    answer = desk(config, key_file).post(f"/reviews/{path_of(case, 'verdict')}", body)
    done(answer, say("review.judged", verdict=clean(verdict)), as_json=as_json)


@review.command()
def appeal(
    case: Case,
    text: Annotated[str, typer.Option("--text", help="Why the verdict is contested.")],
    config: Config = None,
    key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Contest a verdict, for the person concerned."""
    answer = desk(config, key_file).post(f"/reviews/{path_of(case, 'appeal')}", {"text": text})
    done(answer, "contested:", as_json=as_json)


@review.command()
def complain(
    tenant: Annotated[str, typer.Argument(help="Whose service it is about.")],
    file: Annotated[Path, typer.Argument(help="What was said; - is standard input.")],
    request_id: Annotated[str, typer.Option(help="The conversation, if it is known.")] = "",
    category: Annotated[str, typer.Option(help="One word: content, privacy, ...")] = "other",
    config: Config = None,
    key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Record a complaint; its words are sealed."""
    try:
        with sys.stdin if str(file) == "-" else file.open(encoding="utf-8") as stream:
            words = stream.read(WORDS_MAX + 1)
    except (OSError, UnicodeDecodeError) as error:
        raise ProblemError(
            Said("review.cannot_read", file=file, error=error), Said("review.name_text")
        ) from None
    if len(words) > WORDS_MAX:
        raise ProblemError(
            Said("review.too_long", file=file, words_max=WORDS_MAX), Said("review.shorten")
        )
    body = {"tenant": tenant, "request_id": request_id, "category": category, "words": words}
    done(desk(config, key_file).post("/complaints", body), "recorded", as_json=as_json)
