"""`ballast explain --model ...`: where a call would go now, of all the targets that it could have.

Asks the running gateway, which places it as it would a real one; nothing is sent and nothing
counted.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import urlencode

import msgspec
from rich.console import Group, RenderableType
from rich.text import Text

from ballast.messages import Said, named, say
from ballast.messages.chosen import spoken
from ballast.problem import ProblemError
from ballast.web import answer, in_words
from ballast.wide import Wide
from serving.placement.score import LATE
from serving.settings import Settings
from serving.unreadable import UNREADABLE

WAIT_S = 3.0
MARGIN_TOLD = 0.01
"""Spreads; less changes no decision that anybody would ask about."""


_PARTS: Mapping[str, Any] = {"target": "", "reason": "", "message": ""}
"""Of a decision, as far as it has them."""


class Asked(NamedTuple):
    """A call nobody has sent; empty is the usual."""

    model: str
    prompt_tokens: int | None = None
    max_tokens: int | None = None
    latency_class: str = ""
    residency: str = ""
    tenant: str = ""
    overflow: str = ""
    header: str = ""
    has_tools: bool = False
    surface: str = ""

    def query(self) -> dict[str, str]:
        """As the gateway's `/explain` reads it."""
        said = {
            "model": self.model, "prompt_tokens": self.prompt_tokens,
            "max_tokens": self.max_tokens, "class": self.latency_class,
            "residency": self.residency, "tenant": self.tenant, "overflow": self.overflow,
            "header": self.header, "tools": "yes" if self.has_tools else "",
            "surface": self.surface,
        }  # fmt: skip
        return {name: str(value) for name, value in said.items() if value not in ("", None)}


def again(line: Mapping[str, Any]) -> Asked:
    """A request that is over, asked once more: by its model, size, class and tenant."""
    return Asked(
        model=str(line.get("alias") or line["model"]),
        prompt_tokens=line.get("prompt_tokens") or None,
        max_tokens=line.get("completion_tokens") or None,
        latency_class=str(line["latency_class"]),
        tenant=str(line["tenant"]),
        surface=str(line["surface"]),
    )


def only_tenant(settings: Settings) -> str:
    """The tenant that the settings name, where they name one; else none, and such a caller's data
    may go nowhere."""
    return settings.tenants[0].id if len(settings.tenants) == 1 else ""


def ask(settings: Settings, asked: Asked) -> dict[str, Any]:
    """The gateway's answer. Raises ProblemError."""
    own = settings.gateway
    url = f"http://{own.ops_host}:{own.ops_port}/explain?{urlencode(asked.query())}"
    with answer("GET", url, {}, None, WAIT_S) as response:
        status, body = response.status, response.read()
    if status == 400:
        raise ProblemError(in_words(body), Said("explain.help_tells"))
    try:
        found = msgspec.json.decode(body)
    except UNREADABLE:
        found = None
    if not isinstance(found, dict) or "candidates" not in found:
        raise ProblemError(
            Said("explain.port_answered", url=url, status=status), Said("web.other_program")
        )
    return found


def tell(found: Mapping[str, Any], taken: str = "") -> RenderableType:
    """The decision in a sentence, and a line for each target. `taken`: the tenant for whom it was
    asked without being told."""
    text = say(f"explain.would.{found['decision']}", **{**_PARTS, **found, "message": _why(found)})
    way = say("explain.by_route", route=found["route"]) if found["route"] else ""
    head = [
        Text(text),
        Text(say("explain.policy", model=found["model"], policy=found["policy"], way=way)),
    ]
    if taken:
        head.append(Text(say("explain.taken", tenant=taken)))
    if found["shadow"]:
        head.append(Text(say("explain.shadow", shadow=found["shadow"])))
    if found.get("margin", 0.0) >= MARGIN_TOLD:
        head.append(Text(say("explain.margin", margin=f"{found['margin']:.2f}")))
    columns = ("target", "weights", "in", ">first s", ">p90 s", ">cost $", "verdict")
    lines = [
        (
            row["id"], row["weights"], row["jurisdiction"], f"{row['first_token_s']:.2f}",
            f"{row['first_token_p90_s']:.2f}", _cost(row), _verdict(row, found),
        )
        for row in found["candidates"]
    ]  # fmt: skip
    return Group(*head, Wide(columns, lines, less=("weights", "p90 s")))


def _why(found: Mapping[str, Any]) -> str:
    """Of a refusal. The gateway's message is its caller's, English; in Chinese the reason is told,
    and the table says of each target what keeps it out."""
    reason, message = found.get("reason") or "", found.get("message") or ""
    if spoken() == "en":
        return message
    told = named("explain.refusal", reason, spoken())
    return message if told == reason else told


def _cost(row: Mapping[str, Any]) -> str:
    return say("explain.by_the_hour") if row["kind"] == "own" else f"{row['cost_micro'] / 1e6:.6f}"


def _verdict(row: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    if row["dropped"]:
        known = named("explain.dropped", row["dropped"], spoken())
        why = row["why"] if known == row["dropped"] else known
        return say("explain.out", dropped=row["dropped"], why=why)
    if row["id"] == found["target"]:
        return say("explain.chosen")
    return say("explain.late") if row["score"] >= LATE else say("explain.candidate")
