"""Compliance evidence as a page that stands alone, as tables and as objects; pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from rich.table import Table as Printed
from rich.text import Text

from ballast.evidence_rules import open_points
from ballast.evidence_values import Facts, Line, Section, Stamp
from ballast.messages import Language, told, words
from models.plots.page import Card, Table, in_language, page

COLUMNS = ("what", "value", "needs", "source")


def made(
    facts: Facts, found: Sequence[Section], stamp: Stamp, language: Language
) -> str:  # fmt: skip
    """The whole page."""
    say = words(language)
    lead = say("evidence.lead", deployment=facts.settings.deployment_id or "-", at=stamp.at,
               open=open_points(list(found)),
               seal=stamp.seal or say("evidence.unsigned"))  # fmt: skip
    if stamp.replaces:
        lead += say("evidence.revised", number=stamp.revision, name=stamp.replaces,
                    digest=stamp.digest[:16], why=stamp.why)  # fmt: skip
    figures = [
        (str(sum(line.needs is None for line in section.lines)) + f" / {len(section.lines)}",
         say(f"evidence.section.{section.id}"))
        for section in found
    ]  # fmt: skip
    columns = [f"<{say(f'evidence.column.{name}')}" for name in COLUMNS]
    cards = [
        Card(say(f"evidence.section.{section.id}"), "", is_wide=True,
             table=Table(columns, [_cells(line, language) for line in section.lines]))
        for section in found
    ]  # fmt: skip
    foot = say("evidence.foot", month=facts.month)
    title = say("evidence.title", month=facts.month)
    return in_language(
        page(title, lead, figures, cards, foot), "zh-CN" if language == "zh" else "en"
    )


def _cells(line: Line, language: Language) -> tuple[str, ...]:
    needs = "" if line.needs is None else line.needs.told(language)
    return str(told(line.what, language)), str(told(line.value, language)), needs, line.source


def tables(found: Sequence[Section], language: Language) -> Iterator[Printed]:
    """For a terminal."""
    say = words(language)
    for section in found:
        table = Printed(title=say(f"evidence.section.{section.id}"), title_justify="left", box=None,
                        pad_edge=False)  # fmt: skip
        for name in COLUMNS:
            table.add_column(say(f"evidence.column.{name}"), overflow="fold")
        for line in section.lines:
            what, value, needs, source = _cells(line, language)
            table.add_row(Text(what), Text(value), Text(needs, style="yellow"), Text(source))
        yield table


def as_objects(found: Sequence[Section]) -> list[dict[str, Any]]:
    """For a program, in English."""
    return [
        {"id": section.id, "lines": [
            {"what": str(line.what), "value": str(line.value), "source": line.source,
             "needs": None if line.needs is None else str(line.needs)}
            for line in section.lines
        ]}
        for section in found
    ]  # fmt: skip
