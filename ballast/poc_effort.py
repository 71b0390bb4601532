"""What a migration costs in work, as its people state it: a file, its template, its reading.

Two runs prove what a token costs and how fast it comes. They prove neither how many hours people
need nor how many tokens a month would move: that is a statement, with a name and a day to it.
"""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Literal

import msgspec
import yaml

from ballast.messages import Language, Said, text
from ballast.poc_values import Effort
from ballast.problem import ProblemError

ITEMS_MAX = 50
FILE_BYTES_MAX = 64 << 10
KEYS = ("by", "day", "currency", "hour_cost", "items", "once", "monthly", "monthly_tokens")


class Item(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One piece of work."""

    what: str
    hours: float


class Statement(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`--effort FILE`; money in `currency`."""

    by: str
    """Who states it."""
    day: date
    currency: Literal["CNY", "USD"]
    hour_cost: float
    items: tuple[Item, ...]
    once: float = 0.0
    """Paid once, beside the hours."""
    monthly: float = 0.0
    """Paid each month from then on, as somebody on call; taken off the gain."""
    monthly_tokens: float | None = None
    """Tokens a month, prompt and completion, that would move; counts where the ledger has no
    week of traffic to tell it."""


def read(path: Path, currency: str) -> Effort:
    """A statement as effort. Raises ProblemError naming file and key."""
    try:
        if path.stat().st_size > FILE_BYTES_MAX:
            raise ValueError(f"> {FILE_BYTES_MAX} B")
        said = msgspec.convert(yaml.safe_load(path.read_bytes()) or {}, Statement)
    except (OSError, ValueError, yaml.YAMLError, msgspec.MsgspecError) as error:
        why = getattr(error, "strerror", None) or error
        what = Said("poc.bad_effort", path=path, why=why)
        raise ProblemError(what, Said("poc.effort_form", path=path)) from None
    wrong = _wrong(said)
    if wrong:
        why = "poc.effort_empty" if wrong == "by" else "poc.effort_key"
        what = Said("poc.bad_effort", path=path, why=Said(why, key=wrong))
        raise ProblemError(what, Said("poc.effort_form", path=path))
    if said.currency != currency:
        what = Said("poc.currency", path=path, currency=said.currency, wanted=currency)
        raise ProblemError(what, Said("poc.effort_currency", wanted=currency))
    return Effort(
        hours=sum(item.hours for item in said.items), hour_cost=said.hour_cost,
        source=f"{path.name}: {said.by}, {said.day}", once=said.once, monthly=said.monthly,
        items=tuple((item.what, item.hours) for item in said.items), by=f"{said.by}, {said.day}",
        monthly_tokens=said.monthly_tokens,
    )  # fmt: skip


def _wrong(said: Statement) -> str:
    """The first key whose value makes no sense; empty when all do."""
    if not said.by.strip():
        return "by"
    if not 1 <= len(said.items) <= ITEMS_MAX:
        return "items"
    if any(not item.what.strip() or not 0 <= item.hours < 1e6 for item in said.items):
        return "items"
    for key in ("hour_cost", "once", "monthly"):
        if not 0 <= getattr(said, key) < 1e12:
            return key
    tokens = said.monthly_tokens
    return "monthly_tokens" if tokens is not None and not 0 < tokens < 1e15 else ""


def template(language: Language, today: date) -> str:
    """The file to fill in: each key with what it is for."""
    filled = {
        "by": "", "day": str(today), "currency": "CNY", "hour_cost": 300,
        "items": "", "once": 0, "monthly": 0, "monthly_tokens": "",
    }  # fmt: skip
    lines = [f"# {text('poc.effort.head', language)}"]
    for key in KEYS:
        lines.append(f"# {text(f'poc.effort.{key}', language)}")
        if key == "items":
            works = ("clients", "tests", "rollout", "training")
            lines.append("items:")
            lines += [f'  - {{what: "{text(f"poc.effort.work.{one}", language)}", hours: 8}}'
                      for one in works]  # fmt: skip
        elif key == "monthly_tokens":
            lines.append("# monthly_tokens: 500_000_000")
        else:
            lines.append(f'{key}: "{filled[key]}"' if key == "by" else f"{key}: {filled[key]}")
    return "\n".join(lines) + "\n"


def write_template(path: Path, language: Language, today: date) -> None:
    """Raises ProblemError, above all for a file that is there."""
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(template(language, today))
    except OSError as error:
        what = Said("poc.no_template", path=path, why=error.strerror)
        raise ProblemError(what, Said("poc.other_name")) from None
